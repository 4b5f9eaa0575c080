package build

import "testing"

// TestParentsOfAll: a --parents source that names nothing below where the copy starts means all of it.
func TestParentsOfAll(t *testing.T) {
	b := newBench(t, map[string]string{"x/y/f": "1", "g": "2"})
	out := b.build("FROM scratch\nCOPY --parents ./ /all/\nCOPY --parents x/./ /pivot/\nCOPY --parents x/y/./ /file/\n")
	for name, want := range map[string]string{"all/x/y/f": "1", "all/g": "2", "pivot/y/f": "1", "file/f": "1"} {
		if got := b.read(out, name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
}

package sandbox

import (
	"path"
	"testing"
)

func TestCgroupBelow(t *testing.T) {
	for parent, want := range map[string]string{
		"/a/b": "/a/b", "a/b": "/a/b", "": "/", "../../etc": "/etc", "/../..": "/",
		"build.slice": "/build.slice", "a-b-c.slice": "/a.slice/a-b.slice/a-b-c.slice", "/x/a-b.slice": "/x/a-b.slice",
	} {
		got := CgroupBelow(parent)
		if path.Dir(got) != want || got == CgroupBelow(parent) {
			t.Errorf("%q: %q, want a name of its own in %q", parent, got, want)
		}
	}
}

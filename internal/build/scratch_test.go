package build

import (
	"os"
	"testing"
	"time"

	"nacre/internal/layer"
	"nacre/internal/rootfs"
)

// TestScratchUnused tells a writable side that nobody touched from others.
func TestScratchUnused(t *testing.T) {
	made := time.Unix(1_700_000_000, 5000)
	for _, c := range []struct {
		name string
		use  func(m *rootfs.Mount)
		want bool
	}{
		{"untouched", func(*rootfs.Mount) {}, true},
		{"a file came and went", func(m *rootfs.Mount) {
			os.WriteFile(m.Upper+"/x", nil, 0o600)
			os.Remove(m.Upper + "/x")
		}, false},
		{"a layer of its own", func(m *rootfs.Mount) { m.Lower = append(m.Lower, rootfs.Lower{Index: m.Work + "/../implied.erofs"}) }, false},
		{"gone", func(m *rootfs.Mount) { os.Remove(m.Upper) }, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			m := rootfs.Mount{Lower: []rootfs.Lower{{Index: "/elsewhere"}}, Upper: dir + "/upper", Work: dir + "/work"}
			if err := os.Mkdir(m.Upper, 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.Chtimes(m.Upper, made, made); err != nil {
				t.Fatal(err)
			}
			c.use(&m)
			f := &scratch{dir: dir, root: &layer.Stat{Entry: layer.Entry{ModTime: made}}}
			if got := f.unused(m); got != c.want {
				t.Errorf("unused: %v", got)
			}
		})
	}
}

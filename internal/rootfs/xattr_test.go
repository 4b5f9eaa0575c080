package rootfs

import (
	"fmt"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// TestXattrReader: the two ways of listing agree.
func TestXattrReader(t *testing.T) {
	at := root(t.TempDir())
	fd, err := unix.Open(string(at), unix.O_RDONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	err = all(at.write("f", ""), at.write("none", ""), os.Symlink("f", at.p("l")), unix.Setxattr(at.p("f"), "user.a", []byte("1"), 0), unix.Setxattr(at.p("f"), "user.empty", nil, 0),
		unix.Setxattr(string(at), "user.dir", []byte("d"), 0), unix.Lsetxattr(at.p("l"), "trusted.l", []byte(long(3000)), 0), unix.Setxattr(at.p("f"), "user."+long(200), []byte("long name"), 0))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"f": fmt.Sprint(map[string]string{"user.a": "1", "user.empty": "", "user." + long(200): "long name"}), "none": "map[]",
		"l": fmt.Sprint(map[string]string{"trusted.l": long(3000)}), "": "map[user.dir:d]",
	} {
		for _, old := range []bool{false, true} {
			r := xattrReader{old: old, buf: make([]byte, 16)}
			got := map[string]string{}
			if err := r.read(fd, name, func(attr, value string) { got[attr] = value }); err != nil || fmt.Sprint(got) != want {
				t.Errorf("%q old=%v: %v, %v, want %v", name, old, got, err, want)
			}
		}
	}
}

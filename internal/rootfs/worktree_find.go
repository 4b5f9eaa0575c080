package rootfs

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Find follows the symlinks of a name in the tree, as a program in it would, and gives the name of the file that it leads to; false: of
// no regular file.
func (t *WorkTree) Find(name string) (string, bool) {
	fd, err := unix.Openat2(t.root, name, &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: inRoot})
	if err != nil {
		return "", false
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if unix.Fstat(fd, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
		return "", false
	}
	found, ferr := nameOf(fd)
	root, rerr := nameOf(t.root)
	rest, ok := strings.CutPrefix(found, root+"/")
	if ferr != nil || rerr != nil || !ok {
		return "", false
	}
	return filepath.Clean("/" + rest), true
}

// nameOf is where an open file is.
func nameOf(fd int) (string, error) { return os.Readlink("/proc/self/fd/" + strconv.Itoa(fd)) }

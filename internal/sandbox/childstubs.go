package sandbox

import (
	"errors"
	"path"
	"slices"
	"strings"

	"nacre/internal/rootfs"

	"golang.org/x/sys/unix"
)

// makeStubs makes what is mounted on, as a layer below all others of the root. An image
// that lacks /proc or /etc/hosts has it then, and its writable side, which becomes the
// image's next layer, is left alone. What an upper layer hides from there (a file that was
// deleted, a directory that is a symlink now) is made in the root after all: see mountPoint.
func (c *child) makeStubs(scratch int) error {
	if c.RootGiven {
		return nil // there is nothing that could be put below it
	}
	if err := unix.Mkdirat(scratch, stubsDir, 0o755); err != nil {
		return err
	}
	var tops []string // mounted on already: what is below is not the root's
	for i := range c.Mounts {
		m := &c.Mounts[i]
		name := m.Dest[1:]
		if m.Type == remount || m.Optional || slices.ContainsFunc(tops, func(top string) bool { return strings.HasPrefix(name+"/", top+"/") }) {
			continue
		}
		tops = append(tops, name)
		dir := m.Type != "" && m.Type != selfType || m.Type == "" && !m.IsFile && isDir(c.sources[i])
		if err := makeStub(scratch, path.Join(stubsDir, name), dir); err != nil {
			return err
		}
	}
	c.Root.Lower = slices.Insert(c.Root.Lower, 0, rootfs.Lower{Dir: path.Join(c.Scratch, stubsDir)})
	return nil
}

const stubsDir = "stubs"

func isDir(fd int) bool {
	var st unix.Stat_t
	return unix.Fstat(fd, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR
}

// makeStub makes an empty directory or file, with its parents.
func makeStub(scratch int, name string, dir bool) error {
	err := mknod(scratch, name, dir)
	if errors.Is(err, unix.ENOENT) {
		if err := makeStub(scratch, path.Dir(name), true); err != nil {
			return err
		}
		err = mknod(scratch, name, dir)
	}
	if errors.Is(err, unix.EEXIST) || errors.Is(err, unix.ENOTDIR) {
		return nil // two mounts on one path, or one below a file, which will fail there
	}
	return err
}

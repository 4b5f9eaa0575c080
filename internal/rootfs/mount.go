package rootfs

import (
	"errors"
	"fmt"
	"os"
	"path"
	"runtime"
	"strconv"

	"golang.org/x/sys/unix"
)

// Mount describes a root to be assembled in some process's mount namespace. It is
// plain data: it can go to another process as JSON.
type Mount struct {
	Lower []Lower // bottom first
	// Upper takes what is written, Work is overlay's own and must be empty on the
	// same file system. Without them the root is read-only.
	Upper, Work string
	// UserXattr: overlay's marks are user.overlay.* in place of trusted.overlay.*,
	// which only root of the initial user namespace may read.
	UserXattr bool
	// Links are owners that trees could not record. Attach has no use for them.
	Links []LinkOwner `json:",omitempty"`
}

// Lower is one layer below: an EROFS index with the tar that has its data, or a directory.
type Lower struct {
	Index string `json:",omitempty"`
	Data  string `json:",omitempty"` // empty where the index needs none
	Dir   string `json:",omitempty"`
}

// maxLowers is overlay's own limit (OVL_MAX_STACK).
const maxLowers = 500

// Attach mounts the root on the directory target, in the mount namespace of the
// calling thread. Nothing else stays mounted: the layers are mounts that only the
// overlay knows, and go with it.
//
// Linux 6.15 takes layers as detached mounts, by descriptor. Older kernels are
// served in two steps back: layers mounted for a moment below target (6.8), and for
// directories mount(2).
//
// Access control lists of a file that lies in an index are seen, but cannot be set
// or removed before the file is copied up by some other change, chmod to the mode it
// has for one: setfacl fails with EOPNOTSUPP. Overlay first asks whether the file
// system the file is on could set them (ovl_set_acl), and EROFS sets nothing, with its
// option acl or without. Layers that are directories have no such gap.
func (m Mount) Attach(target string) error { return m.AttachAside(target, "") }

// AttachAside is Attach for who has a directory in a mount that goes soon, with all below: aside, which is empty. The
// layers' mounts are put there once they have served. To let go of each by itself waits for all processors, 0.2 ms or
// more, whatever its kind (namespace_unlock in the kernel's fs/namespace.c).
func (m Mount) AttachAside(target, aside string) error {
	// The thread may have a mount namespace of its own.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := m.check(); err != nil {
		return err
	}
	err := m.attach(target, aside)
	if err != nil {
		return fmt.Errorf("mount root on %s: %w", target, err)
	}
	return nil
}

func (m Mount) check() error {
	switch {
	case (m.Upper == "") != (m.Work == ""):
		return errors.New("mount root: upper and work go together")
	case len(m.Lower) > maxLowers:
		return fmt.Errorf("mount root: %d layers: overlay takes %d at most", len(m.Lower), maxLowers)
	}
	for _, l := range m.Lower {
		if (l.Index == "") == (l.Dir == "") {
			return errors.New("mount root: a layer is either an index or a directory")
		}
	}
	return nil
}

func (m Mount) attach(target, aside string) error {
	var errs []error
	for _, way := range m.ways(aside) {
		err := way(m, target)
		if err == nil {
			return nil
		}
		errs = append(errs, err)
		if !worthAnother(err) {
			break
		}
	}
	return errs[len(errs)-1]
}

// ways are how the root can be put together, best first.
func (m Mount) ways(aside string) []func(Mount, string) error {
	if len(m.Lower) == 0 {
		return []func(Mount, string) error{Mount.attachPlain}
	}
	detached := func(m Mount, target string) error { return m.attachDetached(target, aside) }
	ways := []func(Mount, string) error{detached, Mount.attachPlaced}
	for _, l := range m.Lower {
		if l.Index != "" {
			return ways // a kernel with EROFS on files (6.12) has fsconfig's lowerdir+ (6.8)
		}
	}
	return append(ways, Mount.attachLegacy)
}

// worthAnother tells whether an error may come from a kernel that does not know
// this way, rather than from what was to be mounted. EBADF is what fsconfig
// says of a descriptor of a path before Linux 6.13, and EOPNOTSUPP what overlay says of any before 6.5.
func worthAnother(err error) bool {
	return errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EBADF)
}

// attachPlain is for no layers: what is written is all there is.
func (m Mount) attachPlain(target string) error {
	if m.Upper != "" {
		if err := unix.Mount(m.Upper, target, "", unix.MS_BIND, ""); err != nil {
			return &os.PathError{Op: "bind", Path: m.Upper, Err: err}
		}
		return nil
	}
	if err := unix.Mount("none", target, "tmpfs", unix.MS_RDONLY, "mode=755,size=4k"); err != nil {
		return fmt.Errorf("empty root: %w", err)
	}
	return nil
}

// attachDetached hands every layer to overlay by descriptor.
func (m Mount) attachDetached(target, aside string) error {
	lowers, err := m.openLowers()
	defer lowers.close()
	if err != nil {
		return err
	}
	return m.overlay(target, func(c *fsContext) error {
		for i := len(lowers) - 1; i >= 0; i-- {
			if err := c.setFd("lowerdir+", lowers[i].fd); err != nil {
				return err
			}
		}
		return nil
	}, func() error {
		lowers.putAside(aside)
		return nil
	})
}

// putAside gives mounts that are nowhere a place, in a directory for each. One that cannot have any goes when it is closed.
func (l lowers) putAside(dir string) {
	if dir == "" {
		return
	}
	for i, o := range l {
		if place := dir + "/" + strconv.Itoa(i); o.detached && os.Mkdir(place, 0o700) == nil {
			_ = moveTo(o.fd, place)
		}
	}
}

// lowers is the layers of a root, opened, bottom first.
type lowers []lowerFd

type lowerFd struct {
	fd       int
	detached bool // a mount that is nowhere yet
}

func (l lowers) close() {
	for _, o := range l {
		unix.Close(o.fd)
	}
}

// openLowers opens every layer as a detached mount or a directory. A root with one
// layer and nothing to write gets an empty one below it: overlay asks for two, and
// only overlay hides the marks and whiteouts of a layer.
func (m Mount) openLowers() (lowers, error) {
	list := make(lowers, 0, len(m.Lower)+1)
	if len(m.Lower) == 1 && m.Upper == "" {
		fd, err := mountEmpty()
		if err != nil {
			return list, err
		}
		list = append(list, lowerFd{fd, true})
	}
	for _, l := range m.Lower {
		o := lowerFd{detached: l.Dir == ""}
		var err error
		if o.detached {
			o.fd, err = mountIndex(l.Index, l.Data)
		} else {
			o.fd, err = openPath(l.Dir, unix.O_PATH|unix.O_DIRECTORY)
		}
		if err != nil {
			return list, err
		}
		list = append(list, o)
	}
	return list, nil
}

func openPath(path string, flags int) (int, error) {
	fd, err := unix.Open(path, flags|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, &os.PathError{Op: "open", Path: path, Err: err}
	}
	return fd, nil
}

// mountIndex mounts a layer's index, detached.
func mountIndex(index, data string) (int, error) {
	c, err := newContext("erofs")
	if err != nil {
		return -1, err
	}
	defer c.close()
	err = c.setPath("source", index)
	if err == nil && data != "" {
		err = c.setPath("device", data)
	}
	var fd int
	if err == nil {
		fd, err = c.mount(unix.MOUNT_ATTR_RDONLY)
	}
	if err != nil {
		return -1, fmt.Errorf("%s: %w", index, err)
	}
	return fd, nil
}

// mountEmpty mounts an empty directory, detached.
func mountEmpty() (int, error) {
	c, err := newContext("tmpfs")
	if err != nil {
		return -1, err
	}
	defer c.close()
	if err := c.setString("mode", "755"); err != nil {
		return -1, err
	}
	return c.mount(unix.MOUNT_ATTR_RDONLY)
}

// overlay makes the overlay and moves it on target. below adds the layers, top
// first; made, which may be nil, is called when the overlay holds all it needs.
func (m Mount) overlay(target string, below func(*fsContext) error, made func() error) error {
	c, err := newContext("overlay")
	if err != nil {
		return err
	}
	defer c.close()
	if err := c.setOptions(m.options()); err != nil {
		return err
	}
	if err := below(c); err != nil {
		return err
	}
	if m.Upper != "" {
		if err := m.forgetVolatile(); err != nil {
			return err
		}
		if err := c.setPath("upperdir", m.Upper); err != nil {
			return err
		}
		if err := c.setPath("workdir", m.Work); err != nil {
			return err
		}
	}
	fd, err := c.mount(0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if made != nil {
		if err := made(); err != nil {
			return err
		}
	}
	return moveTo(fd, target)
}

func moveTo(fd int, target string) error {
	err := unix.MoveMount(fd, "", unix.AT_FDCWD, target, unix.MOVE_MOUNT_F_EMPTY_PATH)
	return os.NewSyscallError("move_mount", err)
}

type option struct{ key, value string }

// options of the overlay. What a kernel may turn on by default and would make the
// writable side more than plain files and whiteouts is turned off.
func (m Mount) options() []option {
	list := []option{
		// nofollow, not off: off still follows what some layer claims to be a redirect.
		{"redirect_dir", "nofollow"},
		{"metacopy", "off"},
		{"index", "off"},
		{"xino", "off"},
	}
	if m.Upper != "" {
		// What is written is taken from Upper or thrown away; nothing waits for the disk.
		list = append(list, option{key: "volatile"})
	}
	if m.UserXattr {
		list = append(list, option{key: "userxattr"})
	}
	return list
}

// forgetVolatile lets a root be mounted again. Overlay refuses a work directory that
// a volatile mount used before, lest a crash in between went unseen; here whoever owns
// Upper decides that.
func (m Mount) forgetVolatile() error {
	mark := m.Work + "/work/incompat/volatile"
	err := unix.Unlink(mark + "/dirty")
	for _, dir := range []string{mark, path.Dir(mark)} {
		if err == nil {
			err = unix.Rmdir(dir)
		}
	}
	if err != nil && err != unix.ENOENT {
		return &os.PathError{Op: "remove", Path: mark, Err: err}
	}
	return nil
}

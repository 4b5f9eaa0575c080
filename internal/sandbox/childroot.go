package sandbox

import (
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// tree is a mount that is not yet anywhere in the file system, or is already; used
// again, it is cloned.
type tree struct {
	fd   int
	used bool
}

// openTree takes a copy of what is mounted at a path.
func openTree(dir int, name string, flags uint) (int, error) {
	return unix.OpenTree(dir, name, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|flags)
}

// attach mounts t on what target refers to.
func (t *tree) attach(target int) error {
	fd := t.fd
	if t.used {
		// Only a mount that has a place can be cloned on kernels before 6.15.
		clone, err := openTree(fd, "", unix.AT_EMPTY_PATH)
		if err != nil {
			return err
		}
		defer unix.Close(clone)
		fd = clone
	}
	err := moveMount(fd, target)
	t.used = t.used || err == nil
	return err
}

func moveMount(fd, target int) error {
	return unix.MoveMount(fd, "", target, "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH)
}

// cutOption: key=value, or a flag.
func cutOption(option string) (key, value string, isString bool) {
	return strings.Cut(option, "=")
}

// newFS makes a file system of its own, not mounted anywhere.
func newFS(kind, source string, data []string, attrs uint64) (int, error) {
	fs, err := unix.Fsopen(kind, unix.FSOPEN_CLOEXEC)
	if err != nil {
		return -1, fmt.Errorf("file system %s: %w", kind, err)
	}
	defer unix.Close(fs)
	if source != "" {
		unix.FsconfigSetString(fs, "source", source)
	}
	for _, option := range data {
		key, value, isString := cutOption(option)
		if isString {
			err = unix.FsconfigSetString(fs, key, value)
		} else {
			err = unix.FsconfigSetFlag(fs, key)
		}
		if err != nil {
			return -1, fmt.Errorf("option %s of %s: %w", option, kind, err)
		}
	}
	if err := unix.FsconfigCreate(fs); err != nil {
		return -1, fmt.Errorf("create %s: %w", kind, err)
	}
	fd, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, int(attrs))
	if err != nil {
		return -1, fmt.Errorf("mount %s: %w", kind, err)
	}
	return fd, nil
}

// setAttr changes the attributes of the mount fd refers to.
func setAttr(fd int, set, clear, propagation uint64, all bool) error {
	flags := uint(unix.AT_EMPTY_PATH)
	if all {
		flags |= unix.AT_RECURSIVE
	}
	return unix.MountSetattr(fd, "", flags, &unix.MountAttr{Attr_set: set, Attr_clr: clear, Propagation: propagation})
}

// attachRoot makes the root, in a directory of a tmpfs that only this process sees. That
// tmpfs has the device nodes and injected files too, so that they can be bound
// from there once the host's root is gone; then it goes, too.
func (c *child) attachRoot() error {
	// Mounts and, more so, unmounts of the host are still to reach us, else we
	// would hold on to what it wants to remove; ours are not to reach it.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
		return fail("make mounts private", err)
	}
	scratch, err := newFS("tmpfs", "nacre", []string{"mode=700"}, unix.MOUNT_ATTR_NOSUID)
	if err != nil {
		return fail("scratch", err)
	}
	defer unix.Close(scratch)
	if err := unix.MoveMount(scratch, "", unix.AT_FDCWD, c.Scratch, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return fail("mount scratch on "+c.Scratch, err)
	}
	if err := c.makeCovers(scratch); err != nil {
		return fail("scratch", err)
	}
	if err := c.makeDevices(scratch); err != nil {
		return fail("scratch", err)
	}
	if err := c.makeFiles(scratch); err != nil {
		return fail("scratch", err)
	}
	if err := c.makeTrees(scratch); err != nil {
		return err
	}
	if err := c.makeStubs(scratch); err != nil {
		return fail("scratch", err)
	}
	if err := c.makeBundle(scratch); err != nil {
		return fail("scratch", err)
	}
	if err := unix.Mkdirat(scratch, bundleRoot, 0o755); err != nil {
		return fail("scratch", err)
	}
	if err := c.attach(scratch); err != nil {
		return fail("root", err)
	}
	return c.openRoot(scratch)
}

// openRoot keeps the root open: from here on all its paths begin there.
func (c *child) openRoot(scratch int) error {
	fd, err := unix.Openat(scratch, bundleRoot, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fail("open root", err)
	}
	c.root = fd
	set := uint64(unix.MOUNT_ATTR_NODEV)
	if c.AllDevices {
		set = 0
	}
	if err := setAttr(fd, set, 0, unix.MS_PRIVATE, false); err != nil {
		return fail("root", err)
	}
	c.mountID, err = mountID(fd)
	return err
}

// makeCovers makes what masked paths are covered with: a null device and a directory.
func (c *child) makeCovers(scratch int) error {
	if err := unix.Mkdirat(scratch, "empty", 0o755); err != nil {
		return err
	}
	empty, err := openTree(scratch, "empty", 0)
	if err != nil {
		return err
	}
	c.empty.fd = empty
	if c.null.fd, err = nullDevice(scratch, c.Userns); err != nil {
		return err
	}
	for _, t := range []*tree{&c.empty, &c.null} {
		// A null device on a mount without devices cannot be opened at all. Masked
		// files are to look empty instead, as in other runtimes.
		set := uint64(unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NOEXEC)
		if err := setAttr(t.fd, set, 0, unix.MS_PRIVATE, false); err != nil {
			return err
		}
	}
	return nil
}

func (c *child) makeDevices(scratch int) error {
	if err := unix.Mkdirat(scratch, "dev", 0o755); err != nil {
		return err
	}
	unix.Umask(0)
	for i, d := range c.Devices {
		if kind := d.Mode & unix.S_IFMT; c.Userns && kind != unix.S_IFIFO {
			fd, err := hostDevice(&d)
			if err != nil {
				return err
			}
			c.devices = append(c.devices, fd)
			continue
		}
		name := "dev/" + strconv.Itoa(i)
		if err := unix.Mknodat(scratch, name, d.Mode, int(d.Rdev)); err != nil {
			return fmt.Errorf("make %s: %w", d.Path, err)
		}
		if d.UID != 0 || d.GID != 0 {
			if err := unix.Fchownat(scratch, name, int(d.UID), int(d.GID), unix.AT_SYMLINK_NOFOLLOW); err != nil {
				return err
			}
		}
		fd, err := openTree(scratch, name, 0)
		if err != nil {
			return err
		}
		c.devices = append(c.devices, fd)
	}
	unix.Umask(0o022)
	return nil
}

// makeFiles writes the injected files.
func (c *child) makeFiles(scratch int) error {
	for i := range c.Mounts {
		m := &c.Mounts[i]
		if !m.IsFile {
			continue
		}
		name := "file" + strconv.Itoa(i)
		if err := makeFile(scratch, name, m, c.Userns); err != nil {
			return fmt.Errorf("%s: %w", m.Dest, err)
		}
		var err error
		if c.sources[i], err = openTree(scratch, name, 0); err == nil {
			err = setAttr(c.sources[i], m.Set, m.Clear, m.propagation(), false)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", m.Dest, err)
		}
		m.File = nil
	}
	return nil
}

func makeFile(dir int, name string, m *mount, userns bool) error {
	fd, err := unix.Openat(dir, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	for data := m.File; len(data) > 0; {
		n, err := unix.Write(fd, data)
		if err != nil {
			return err
		}
		data = data[n:]
	}
	if m.UID != 0 || m.GID != 0 {
		if err := unix.Fchown(fd, m.UID, m.GID); err != nil && !(userns && err == unix.EINVAL) { // nobody is that here
			return err
		}
	}
	return unix.Fchmod(fd, m.Mode)
}

// openSources takes copies of what is bound from the host, while it is still in sight.
func (c *child) openSources() error {
	for i, m := range c.Mounts {
		if m.IsFile || m.Type != "" {
			continue // made by makeFiles, makeTrees or newFS
		}
		fd, given := c.givenMounts[i]
		var err error
		if !given {
			fd, err = c.bindSource(&m)
		}
		if err == nil {
			c.sources[i] = fd
			err = c.keepDevices(&m, fd)
		}
		if err == nil {
			err = m.dress(fd)
		}
		if err != nil {
			return fail("bind "+m.Source, err)
		}
	}
	return nil
}

// leaveHost makes the new root the root, and lets go of the old one.
func (c *child) leaveHost() error {
	if err := c.pivot(); err != nil {
		return err
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fail("unmount the host's root", err)
	}
	return nil
}

// pivot makes the new root the root. The old root lands on top of it, from where it is to be taken away (pivot_root(2),
// NOTES): no directory is needed for it.
func (c *child) pivot() error {
	if err := unix.Fchdir(c.root); err != nil {
		return fail("enter root", err)
	}
	if err := unix.PivotRoot(".", "."); err != nil {
		return fail("pivot_root", err)
	}
	return nil
}

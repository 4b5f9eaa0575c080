package sandbox

import (
	"errors"
	"fmt"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// mountAll puts everything in its place, in the order of the spec. Where a tmpfs is
// mounted on /dev, the device nodes follow it at once: later mounts may lie on them.
func (c *child) mountAll() error {
	for i := range c.Mounts {
		if m := &c.Mounts[i]; m.Optional && !c.hasDir(path.Dir(m.Dest)) {
			unix.Close(c.sources[i])
			continue
		}
		if err := c.mount(i); err != nil {
			return fail("mount "+c.Mounts[i].Dest, err)
		}
	}
	if c.dev < 0 {
		return c.coverDevices()
	}
	return nil
}

// coverDevices is for a /dev that is the image's or the host's, where no node can be
// opened: those that are there are covered by ones that can.
func (c *child) coverDevices() error {
	for i, d := range c.Devices {
		fd, err := c.openNode(d.Path)
		if err != nil {
			return fail("mount "+d.Path, err)
		}
		if fd < 0 {
			continue
		}
		err = moveMount(c.devices[i], fd)
		unix.Close(fd)
		if err != nil {
			return fail("mount "+d.Path, err)
		}
	}
	return nil
}

func (c *child) mount(i int) error {
	m := &c.Mounts[i]
	if m.Type == remount {
		fd, err := c.open(m.Dest, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		return setAttr(fd, m.Set, m.Clear, 0, false)
	}
	var err error
	if c.sources[i] < 0 {
		if c.sources[i], err = c.newFS(i); err != nil {
			return err
		}
	}
	source := c.sources[i]
	var st unix.Stat_t
	if err := unix.Fstat(source, &st); err != nil {
		return err
	}
	isDir := st.Mode&unix.S_IFMT == unix.S_IFDIR
	target, err := c.mountPoint(m.Dest, isDir)
	if err != nil {
		return err
	}
	defer unix.Close(target)
	if err := moveMount(source, target); err != nil {
		return err
	}
	c.sources[i] = -1
	switch {
	case m.Dest == "/dev" && m.Type == "tmpfs":
		c.dev = source // kept open
		return c.fillDev()
	case m.Dest == "/dev/pts" && m.Type == "devpts":
		c.pts = source // kept open
		return nil
	}
	return unix.Close(source)
}

// newFS makes the file system of a mount.
func (c *child) newFS(i int) (int, error) {
	m := &c.Mounts[i]
	if m.Type == procType && c.proc != nil {
		return c.proc(i)
	}
	return newFS(m.Type, m.Source, m.Data, m.Set)
}

// fillDev puts device nodes and links into a new /dev.
func (c *child) fillDev() error {
	for i, d := range c.Devices {
		node := c.devices[i]
		c.devices[i] = -1
		if err := c.mountDevice(d.Path, node); err != nil {
			return fmt.Errorf("%s: %w", d.Path, err)
		}
	}
	for _, link := range [...][2]string{
		{"fd", "/proc/self/fd"}, {"stdin", "/proc/self/fd/0"}, {"stdout", "/proc/self/fd/1"}, {"stderr", "/proc/self/fd/2"},
		{"core", "/proc/kcore"}, {"ptmx", "pts/ptmx"},
	} {
		if err := unix.Symlinkat(link[1], c.dev, link[0]); err != nil {
			return fmt.Errorf("link /dev/%s: %w", link[0], err)
		}
	}
	return nil
}

func (c *child) mountDevice(name string, node int) error {
	defer unix.Close(node)
	if base, ok := strings.CutPrefix(name, "/dev/"); ok && !strings.Contains(base, "/") {
		// Nothing but us was in this directory yet: names are what they say.
		if err := mknod(c.dev, base, false); err != nil {
			return err
		}
		return unix.MoveMount(node, "", c.dev, base, unix.MOVE_MOUNT_F_EMPTY_PATH)
	}
	target, err := c.mountPoint(name, false)
	if err != nil {
		return err
	}
	defer unix.Close(target)
	return moveMount(node, target)
}

// setNames sets what belongs to the namespaces: host name, network, sysctls.
func (c *child) setNames() error {
	if c.Hostname != "" {
		if err := unix.Sethostname([]byte(c.Hostname)); err != nil {
			return fail("set host name", err)
		}
	}
	if c.Domain != "" {
		if err := unix.Setdomainname([]byte(c.Domain)); err != nil {
			return fail("set domain name", err)
		}
	}
	if c.Loopback {
		if err := loopbackUp(); err != nil {
			return fail("bring up loopback", err)
		}
	}
	for _, s := range c.Sysctl {
		if err := c.sysctl(s.Key, s.Value); err != nil {
			return fail("set "+s.Key, err)
		}
	}
	return nil
}

// loopbackUp gives a new network namespace its only interface.
func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	ifr, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	ifr.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, ifr)
}

// sysctl writes to /proc/sys, if that is what the image made of it.
func (c *child) sysctl(key, value string) error {
	name := "/proc/sys/" + strings.ReplaceAll(key, ".", "/")
	if strings.Contains(key, "/") { // a name with dots in it, as interfaces have
		name = "/proc/sys/" + key
	}
	how := unix.OpenHow{Flags: unix.O_WRONLY | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_SYMLINKS}
	fd, err := unix.Openat2(c.root, name, &how)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	var fs unix.Statfs_t
	if err := unix.Fstatfs(fd, &fs); err != nil {
		return err
	}
	if fs.Type != unix.PROC_SUPER_MAGIC {
		return errors.New("/proc is not the kernel's")
	}
	_, err = unix.Write(fd, []byte(value))
	return err
}

// restrict makes paths read-only and hides others.
func (c *child) restrict() error {
	for _, name := range c.Readonly {
		if err := c.makeReadonly(name); err != nil {
			return fail("make "+name+" read-only", err)
		}
	}
	for _, name := range c.Masked {
		if err := c.mask(name); err != nil {
			return fail("mask "+name, err)
		}
	}
	if c.ReadonlyRoot {
		if fd, err := c.openCwd(); err == nil { // it can be made only now
			unix.Close(fd)
		}
		if err := setAttr(c.root, unix.MOUNT_ATTR_RDONLY, 0, 0, false); err != nil {
			return fail("make root read-only", err)
		}
	}
	return nil
}

// openNode is openIfThere for the name of a device in a /dev that is somebody's: a symlink in its place is left alone.
// It could lead to a file of /proc, which the device would cover (CVE-2025-52565).
func (c *child) openNode(name string) (int, error) {
	fd, err := c.open(name, unix.O_NOFOLLOW)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
		return -1, nil
	}
	if err != nil {
		return -1, err
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Mode&unix.S_IFMT == unix.S_IFLNK {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// openIfThere opens a path that may be missing: -1.
func (c *child) openIfThere(name string) (int, error) {
	fd, err := c.open(name, 0)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
		return -1, nil
	}
	return fd, err
}

func (c *child) makeReadonly(name string) error {
	fd, err := c.openIfThere(name)
	if fd < 0 {
		return err
	}
	defer unix.Close(fd)
	copied, err := openTree(fd, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE)
	if err != nil {
		return err
	}
	defer unix.Close(copied)
	if err := setAttr(copied, unix.MOUNT_ATTR_RDONLY, 0, unix.MS_PRIVATE, false); err != nil {
		return err
	}
	return moveMount(copied, fd)
}

func (c *child) mask(name string) error {
	fd, err := c.openIfThere(name)
	if fd < 0 {
		return err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		return c.empty.attach(fd)
	}
	return c.null.attach(fd)
}

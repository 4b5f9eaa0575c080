package sandbox

import (
	"errors"
	"strconv"

	"golang.org/x/sys/unix"
)

// makeTerminal opens a terminal in the sandbox's own /dev/pts, so that it has a name
// there, gives its master to whoever started us and makes the rest the process's.
func (c *child) makeTerminal() error {
	if !c.Terminal {
		return nil
	}
	master, slave, err := c.openTerminal()
	if err != nil {
		return err
	}
	defer unix.Close(master)
	defer unix.Close(slave)
	if err := unix.IoctlSetInt(slave, unix.TIOCSCTTY, 0); err != nil {
		return fail("make terminal the controlling one", err)
	}
	for fd := range 3 {
		if err := unix.Dup3(slave, fd, 0); err != nil {
			return fail("use terminal", err)
		}
	}
	if err := c.report(reportTerminal, "", master); err != nil {
		return fail("hand over terminal", err)
	}
	return nil
}

// openTerminal makes a terminal that is /dev/console inside.
func (c *child) openTerminal() (master, slave int, err error) {
	if c.pts < 0 {
		return -1, -1, fail("open terminal", unix.ENODEV) // no devpts in the spec
	}
	if master, err = c.openPts("ptmx"); err != nil {
		return -1, -1, fail("open terminal", err)
	}
	if slave, err = c.openSlave(master); err != nil {
		unix.Close(master)
		return -1, -1, err
	}
	return master, slave, nil
}

// openPts opens what is in /dev/pts itself, and not what somebody has mounted there.
func (c *child) openPts(name string) (int, error) {
	how := openPtsHow()
	return unix.Openat2(c.pts, name, &how)
}

func openPtsHow() unix.OpenHow {
	return unix.OpenHow{Flags: unix.O_RDWR | unix.O_NOCTTY | unix.O_CLOEXEC, Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_XDEV}
}

// openSlave opens the side of a terminal that is the process's.
func (c *child) openSlave(master int) (slave int, err error) {
	if err := unix.IoctlSetPointerInt(master, unix.TIOCSPTLCK, 0); err != nil {
		return -1, fail("unlock terminal", err)
	}
	if c.Size != (Size{}) {
		if err := setSize(master, c.Size); err != nil {
			return -1, fail("set terminal size", err)
		}
	}
	number, err := unix.IoctlGetInt(master, unix.TIOCGPTN)
	if err != nil {
		return -1, fail("open terminal", err)
	}
	name := strconv.Itoa(number)
	if slave, err = c.openPts(name); err != nil {
		return -1, fail("open terminal", err)
	}
	if err = unix.Fchown(slave, int(c.User.UID), -1); err != nil {
		err = fail("give terminal to the user", err)
	} else if err = c.makeConsole(name); err != nil {
		err = fail("make /dev/console", err)
	}
	if err != nil {
		unix.Close(slave)
	}
	return slave, err
}

// makeConsole mounts the terminal on /dev/console.
func (c *child) makeConsole(name string) error {
	if c.joined {
		return nil // the console is the first process's terminal
	}
	source, err := openTree(c.pts, name, 0)
	if err != nil {
		return err
	}
	defer unix.Close(source)
	target, err := c.consoleNode()
	if err != nil || target < 0 {
		return err
	}
	defer unix.Close(target)
	return moveMount(source, target)
}

// consoleNode opens what the console is mounted on; -1 where a symlink is in its place.
func (c *child) consoleNode() (int, error) {
	if c.dev >= 0 { // it is ours
		if err := mknod(c.dev, "console", false); err != nil && !errors.Is(err, unix.EEXIST) {
			return -1, err
		}
		return unix.Openat(c.dev, "console", unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	}
	fd, err := c.openNode("/dev/console")
	if err != nil || fd >= 0 {
		return fd, err
	}
	if err := c.create("dev", "console", false); err != nil && !errors.Is(err, unix.EEXIST) {
		return -1, err
	}
	return c.openNode("/dev/console")
}

func setSize(fd int, s Size) error { return unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, s.kernel()) }

// kernel is how ioctl(2) takes it.
func (s Size) kernel() *unix.Winsize {
	clip := func(n int) uint16 { return uint16(min(max(n, 0), 1<<16-1)) }
	return &unix.Winsize{Col: clip(s.Width), Row: clip(s.Height)}
}

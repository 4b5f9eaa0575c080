package sandbox

import (
	"errors"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// runExec becomes a further process of a sandbox, in whose namespaces it was started.
func runExec() {
	// Until the program is executed we have more rights than the processes around us.
	unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0)
	runtime.LockOSThread()
	c := child{joined: true, dev: -1, pts: -1}
	err := c.runJoined()
	c.report(reportFailure, encodeFailure(err))
	os.Exit(CodeSandbox)
}

// runJoined is run of a child whose root is there already.
func (c *child) runJoined() error {
	if err := c.readPlan(); err != nil {
		return err
	}
	newKeyring()
	if err := c.findRoot(); err != nil {
		return err
	}
	for _, step := range []func() error{c.openTerminals, c.makeTerminal, c.becomeUser} {
		if err := step(); err != nil {
			return err
		}
	}
	return c.execute()
}

// openTerminals opens the sandbox's /dev/pts, which must be what it seems: the sandbox may have
// mounted something else there.
func (c *child) openTerminals() error {
	if !c.Terminal {
		return nil
	}
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC, Resolve: unix.RESOLVE_NO_SYMLINKS}
	fd, err := unix.Openat2(unix.AT_FDCWD, "/dev/pts", &how)
	if err != nil {
		return fail("open /dev/pts", err)
	}
	var st unix.Statfs_t
	if err := unix.Fstatfs(fd, &st); err != nil {
		return fail("open /dev/pts", err)
	}
	if st.Type != unix.DEVPTS_SUPER_MAGIC {
		return fail("open /dev/pts", errNoTerminals)
	}
	c.pts = fd
	return nil
}

var errNoTerminals = errors.New("it is no file system of terminals")

// findRoot finds out which mount is the root: see owners.go.
func (c *child) findRoot() error {
	if len(c.OwnerFilter) == 0 {
		return nil
	}
	fd, err := unix.Open("/", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fail("open root", err)
	}
	defer unix.Close(fd)
	if c.mountID, err = mountID(fd); err != nil {
		return fail("open root", err)
	}
	return nil
}

package sandbox

import (
	"errors"
	"strconv"

	"golang.org/x/sys/unix"
)

// outlive undoes what has this process die with who started it.
func (c *child) outlive() error {
	if !c.Outlives {
		return nil
	}
	return unix.Prctl(unix.PR_SET_PDEATHSIG, 0, 0, 0, 0)
}

// awaitStart waits for Start, of a sandbox that was made by Create. Reports go there from then on.
func (c *child) awaitStart() error {
	if !c.Waits {
		return nil
	}
	// Others create, and start much later: that there is no such program they are told now, as by runc.
	err := c.search(func(name string) error {
		if err := unix.Access(name, unix.X_OK); errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
			return err
		}
		return nil // execve has the last word
	})
	if err != nil {
		return err
	}
	// Other threads of ours still have all capabilities: see startHooks.
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fail("hide", err)
	}
	if err := c.report(reportWaiting, ""); err != nil {
		return fail("report", err)
	}
	for {
		fd, _, err := unix.Accept4(c.startSocket, unix.SOCK_CLOEXEC)
		if errors.Is(err, unix.EINTR) || errors.Is(err, unix.ECONNABORTED) {
			continue
		}
		if err != nil {
			return fail("wait for start", err)
		}
		unix.Close(c.startSocket)
		if err := unix.Dup3(fd, socketFd, unix.O_CLOEXEC); err != nil {
			return fail("wait for start", err)
		}
		return unix.Close(fd)
	}
}

// socketIn is the address of a socket in an open directory: its path may be longer than the 108 bytes that unix(7) has for one.
func socketIn(dir int, name string) string { return "/proc/self/fd/" + strconv.Itoa(dir) + "/" + name }

package sandbox

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// enterPIDs has what this thread starts be members of a process namespace, until the function it returns is
// called. Empty is our own.
func enterPIDs(path string) (leave func() error, err error) {
	if path == "" {
		return func() error { return nil }, nil
	}
	set := func(path string) error {
		fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return &os.PathError{Op: "open", Path: path, Err: err}
		}
		defer unix.Close(fd)
		if err := unix.Setns(fd, unix.CLONE_NEWPID); err != nil {
			return fmt.Errorf("enter namespace %s: %w", path, err)
		}
		return nil
	}
	return func() error { return set("/proc/thread-self/ns/pid") }, set(path)
}

package sandbox

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"

	"golang.org/x/sys/unix"
)

// errUsed ends a sandbox that was there to be looked at only.
var errUsed = errors.New("nothing was to be executed")

// Open puts a sandbox together as Run does and calls use with its root, in which everything is mounted. Nothing is
// executed, hooks neither; when use returns the sandbox is gone. The descriptor is valid until then.
func Open(ctx context.Context, c Config, use func(root *os.File) error) error {
	spec, process, linux := *c.Spec, *c.Spec.Process, *c.Spec.Linux
	spec.Hooks, linux.Resources, process.Terminal = nil, nil, false
	score := 0
	process.OOMScoreAdj = &score // a copy of this program is to do it: the root is found through its mount namespace
	spec.Process, spec.Linux = &process, &linux
	c.Spec = &spec
	var result error
	c.Created = func(_ context.Context, pid int) error {
		root, err := openRootOf(pid)
		if err != nil {
			return err
		}
		defer root.Close()
		result = use(root)
		return errUsed
	}
	_, err := Run(ctx, c)
	if errors.Is(err, errUsed) {
		return result
	}
	if err == nil {
		err = errors.New("it was executed") // cannot be: Created ends it
	}
	return err
}

// openRootOf opens the root that a process is about to enter.
func openRootOf(pid int) (*os.File, error) {
	scratch, err := scratchDir()
	if err != nil {
		return nil, err
	}
	name := path.Join(fmt.Sprintf("/proc/%d/root", pid), scratch, bundleRoot)
	fd, err := unix.Open(name, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: name, Err: err}
	}
	return os.NewFile(uintptr(fd), "root"), nil
}

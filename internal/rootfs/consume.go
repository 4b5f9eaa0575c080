package rootfs

import (
	"errors"
	"io"
	"os"
	"path"

	"golang.org/x/sys/unix"
)

// content returns how the file name is opened. It is consumed if that is asked for, unless it
// has other names, which would keep its content.
func (c *changes) content(name string, links uint64) func() (io.ReadCloser, error) {
	upper := c.upper // not c, which is gone when some files are opened
	if c.consume && links == 1 {
		return func() (io.ReadCloser, error) { return openConsumed(upper, name) }
	}
	return func() (io.ReadCloser, error) { return openFile(upper, name) }
}

// consumed is a file that is removed when it is closed. The walk has passed it by then, and
// has seen its directory, whose time changes. It is no os.File, which has system calls of its own for each.
type consumed struct {
	fd, dir    int
	name, base string
}

func openConsumed(root, name string) (io.ReadCloser, error) {
	top, err := openPath(root, unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return nil, err
	}
	dir, base := top, path.Base(name)
	if parent := path.Dir(name); parent != "." {
		dir, err = openBeneath(top, parent, unix.O_PATH|unix.O_DIRECTORY, 0)
		unix.Close(top)
		if err != nil {
			return nil, &os.PathError{Op: "open", Path: parent, Err: err}
		}
	}
	fd, err := openat2(dir, base, unix.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		unix.Close(dir)
		return nil, &os.PathError{Op: "open", Path: name, Err: err}
	}
	return &consumed{fd, dir, name, base}, nil
}

func (c *consumed) Read(p []byte) (int, error) {
	for {
		n, err := unix.Read(c.fd, p)
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return 0, &os.PathError{Op: "read", Path: c.name, Err: err}
		case n == 0 && len(p) > 0:
			return 0, io.EOF
		}
		return n, nil
	}
}

func (c *consumed) Close() error {
	if c.fd < 0 {
		return os.ErrClosed // the number may be another's by now
	}
	defer func() { c.fd = -1 }()
	// Closed first: the last to let go of a file that is removed is who frees its pages.
	err := os.NewSyscallError("close", unix.Close(c.fd))
	return errors.Join(err, os.NewSyscallError("unlinkat", unix.Unlinkat(c.dir, c.base, 0)), unix.Close(c.dir))
}

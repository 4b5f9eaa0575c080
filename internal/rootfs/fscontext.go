package rootfs

import (
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// fsContext is a file system about to be mounted (fsopen(2)).
type fsContext struct {
	fd     int
	fsType string
	held   fdList // descriptors that paths below /proc/self/fd stand for
}

// fdList is descriptors to be closed together.
type fdList []int

func (l fdList) close() {
	for _, fd := range l {
		unix.Close(fd)
	}
}

func newContext(fsType string) (*fsContext, error) {
	fd, err := unix.Fsopen(fsType, unix.FSOPEN_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("fsopen %s: %w", fsType, err)
	}
	return &fsContext{fd: fd, fsType: fsType}, nil
}

func (c *fsContext) close() {
	unix.Close(c.fd)
	c.held.close()
}

func (c *fsContext) setFlag(key string) error {
	return c.failed(key, unix.FsconfigSetFlag(c.fd, key))
}

func (c *fsContext) setString(key, value string) error {
	return c.failed(key+"="+value, unix.FsconfigSetString(c.fd, key, value))
}

func (c *fsContext) setFd(key string, fd int) error {
	return c.failed(key, unix.FsconfigSetFd(c.fd, key, fd))
}

func (c *fsContext) setOptions(list []option) error {
	for _, o := range list {
		err := error(nil)
		if o.value == "" {
			err = c.setFlag(o.key)
		} else {
			err = c.setString(o.key, o.value)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// maxString is what fsconfig(2) takes as a string, with its end.
const maxString = 256

// setPath sets a string that the file system will open. One too long for
// fsconfig(2) goes by descriptor.
func (c *fsContext) setPath(key, path string) error {
	if len(path) < maxString {
		return c.setString(key, path)
	}
	fd, err := openPath(path, unix.O_PATH)
	if err != nil {
		return err
	}
	c.held = append(c.held, fd)
	return c.setString(key, fdPath(fd))
}

func fdPath(fd int) string { return "/proc/self/fd/" + strconv.Itoa(fd) }

// mount makes the file system and a detached mount of it.
func (c *fsContext) mount(attr int) (int, error) {
	if err := unix.FsconfigCreate(c.fd); err != nil {
		return -1, c.failed("create", err)
	}
	fd, err := unix.Fsmount(c.fd, unix.FSMOUNT_CLOEXEC, attr)
	if err != nil {
		return -1, c.failed("fsmount", err)
	}
	return fd, nil
}

// failed adds what the kernel has to say to an error: it keeps messages in the
// context, one to a read, each with a letter for its severity.
func (c *fsContext) failed(what string, err error) error {
	if err == nil {
		return nil
	}
	var said []string
	buf := make([]byte, 512)
	for len(said) < 8 {
		n, rerr := unix.Read(c.fd, buf)
		if rerr != nil || n <= 0 {
			break
		}
		line := strings.TrimSpace(string(buf[:n]))
		if len(line) > 2 && line[1] == ' ' {
			line = line[2:]
		}
		said = append(said, line)
	}
	if len(said) == 0 {
		return fmt.Errorf("%s: %s: %w", c.fsType, what, err)
	}
	return fmt.Errorf("%s: %s: %w (%s)", c.fsType, what, err, strings.Join(said, "; "))
}

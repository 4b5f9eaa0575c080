package rootfs

import (
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// beneath keeps a lookup inside of the directory it starts in. Every symlink is
// refused: names from layers and from the writable side have none to follow.
const beneath = unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS

// maxPath is what one lookup takes as a name (PATH_MAX, with its end).
const maxPath = 4096

// openBeneath opens name below the directory dir. Names may be longer than the
// kernel takes at once: a process that changes directory as it goes can make those.
func openBeneath(dir int, name string, flags int, mode uint32) (int, error) {
	at := dir
	for len(name) >= maxPath {
		cut := strings.LastIndexByte(name[:maxPath], '/')
		if cut <= 0 {
			break // a component of that length is the kernel's to refuse
		}
		next, err := openat2(at, name[:cut], unix.O_PATH|unix.O_DIRECTORY, 0)
		if at != dir {
			unix.Close(at)
		}
		if err != nil {
			return -1, err
		}
		at, name = next, name[cut+1:]
	}
	fd, err := openat2(at, name, flags, mode)
	if at != dir {
		unix.Close(at)
	}
	return fd, err
}

func openat2(dir int, name string, flags int, mode uint32) (int, error) {
	how := unix.OpenHow{Flags: uint64(flags | unix.O_CLOEXEC | unix.O_NOFOLLOW), Mode: uint64(mode), Resolve: beneath}
	for {
		fd, err := unix.Openat2(dir, name, &how)
		// EAGAIN: something was renamed meanwhile, and the kernel could not be sure.
		if err == unix.EINTR || err == unix.EAGAIN {
			continue
		}
		return fd, err
	}
}

// mkdirBeneath makes the directory name, whose parent exists, below dir.
func mkdirBeneath(dir int, name string) error {
	parent, err := openBeneath(dir, path.Dir(name), unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer unix.Close(parent)
	return unix.Mkdirat(parent, path.Base(name), 0o700)
}

// openFile opens a regular file below root for reading.
func openFile(root, name string) (*os.File, error) {
	dir, err := openPath(root, unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return nil, err
	}
	defer unix.Close(dir)
	fd, err := openBeneath(dir, name, unix.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: name, Err: err}
	}
	return os.NewFile(uintptr(fd), name), nil
}

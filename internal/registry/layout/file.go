package layout

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// tempPrefix begins the names of files being written, where they need a name.
const tempPrefix = ".nacre-"

// tempAge is after how long a file being written is taken for left over by a process
// that died: no upload takes a day.
const tempAge = 24 * time.Hour

func isTemp(name string) bool { return strings.HasPrefix(name, tempPrefix) }

// sweep removes what dead processes left. It is housekeeping: errors do not matter.
func (l *Layout) sweep() {
	entries, _ := os.ReadDir(l.dir)
	for _, e := range entries {
		if !isTemp(e.Name()) {
			continue
		}
		if fi, err := e.Info(); err == nil && time.Since(fi.ModTime()) > tempAge {
			os.Remove(filepath.Join(l.dir, e.Name()))
		}
	}
}

// temp is a file on its way to a name.
type temp struct {
	*os.File
	dir   string // of the layout
	named bool   // it has a name of its own, to be removed
}

func createTemp(dir string) (*temp, error) {
	f, err := os.OpenFile(dir, os.O_RDWR|unix.O_TMPFILE, 0o644)
	if err == nil {
		return &temp{File: f, dir: dir}, nil
	}
	if !errors.Is(err, unix.EOPNOTSUPP) && !errors.Is(err, unix.EISDIR) && !errors.Is(err, unix.ENOENT) {
		return nil, err
	}
	f, err = os.CreateTemp(dir, tempPrefix+"*")
	if err != nil {
		return nil, err
	}
	if err := f.Chmod(0o644); err != nil {
		f.Close()
		os.Remove(f.Name())
		return nil, err
	}
	return &temp{File: f, dir: dir, named: true}, nil
}

// keep syncs the file and gives it the name path, durably. Where there is a
// file of that name already it is replaced: it may be damaged, which is why
// somebody uploads it again.
func (t *temp) keep(path string) error {
	if err := t.Sync(); err != nil {
		return err
	}
	if !t.named {
		err := t.link(path)
		if errors.Is(err, fs.ErrExist) {
			// linkat does not replace; go by way of another name.
			beside := filepath.Join(t.dir, fmt.Sprintf("%s%d-%d", tempPrefix, os.Getpid(), t.Fd()))
			os.Remove(beside)
			if err = t.link(beside); err == nil {
				if err = os.Rename(beside, path); err != nil {
					os.Remove(beside)
				}
			}
		}
		if err != nil {
			return err
		}
	} else if err := os.Rename(t.Name(), path); err != nil {
		return err
	}
	t.named = false
	return syncDir(filepath.Dir(path))
}

func (t *temp) link(path string) error {
	err := unix.Linkat(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", t.Fd()), unix.AT_FDCWD, path, unix.AT_SYMLINK_FOLLOW)
	if err != nil {
		return &os.LinkError{Op: "link", Old: t.Name(), New: path, Err: err}
	}
	return nil
}

func (t *temp) discard() error {
	err := t.Close()
	if t.named {
		err = errors.Join(err, os.Remove(t.Name()))
	}
	return err
}

// replaceFile writes a file of dir as a whole, durably.
func replaceFile(dir, name string, data []byte) error {
	f, err := os.CreateTemp(dir, tempPrefix+"*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // fails once it is renamed
	_, err = f.Write(data)
	err = errors.Join(err, f.Chmod(0o644), f.Sync(), f.Close())
	if err != nil {
		return err
	}
	if err := os.Rename(f.Name(), filepath.Join(dir, name)); err != nil {
		return err
	}
	return syncDir(dir)
}

// makeFile writes a file unless it is there.
func makeFile(dir, name string, data []byte) error {
	f, err := os.CreateTemp(dir, tempPrefix+"*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(data)
	if err = errors.Join(err, f.Chmod(0o644), f.Sync(), f.Close()); err != nil {
		return err
	}
	err = os.Link(f.Name(), filepath.Join(dir, name))
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return syncDir(dir)
}

func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}

// lockPoll is how often a lock held by another is tried again: its holder
// needs it for a few milliseconds.
const lockPoll = 2 * time.Millisecond

// lock takes the lock on path, waiting while ctx lasts.
func lock(ctx context.Context, path string) (unlock func(), err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() { f.Close() }, nil
		}
		if err != unix.EWOULDBLOCK && err != unix.EINTR {
			f.Close()
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		select {
		case <-ctx.Done():
			f.Close()
			return nil, fmt.Errorf("lock %s: %w", path, ctx.Err())
		case <-time.After(lockPoll):
		}
	}
}

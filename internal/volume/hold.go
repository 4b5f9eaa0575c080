package volume

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A volume is used by the containers that have a file in its users/ and a folder of their own in the store's containers/.
// While a container is being made it has the first and not yet the second: meanwhile its maker holds the volume's
// folder locked (flock(2), shared). Who removes a volume holds it exclusively. Both end with their process, and a
// file of a container that never came to be counts for nothing.

// InUseError says who uses a volume that is not to go.
type InUseError struct {
	Name  string
	Users []string // IDs of containers
}

// Error is worded as docker has it.
func (e *InUseError) Error() string {
	return fmt.Sprintf("remove %s: volume is in use - [%s]", e.Name, strings.Join(e.Users, ", "))
}

// beneath keeps a lookup in the folder it starts in, and refuses every symlink.
const beneath = unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS

// openBeneath opens name, which has no "..", in dir.
func openBeneath(dir int, name string, flags int) (int, error) {
	how := unix.OpenHow{Flags: uint64(flags | unix.O_CLOEXEC), Resolve: beneath}
	for {
		fd, err := unix.Openat2(dir, name, &how)
		switch err {
		case unix.EINTR, unix.EAGAIN:
		case unix.EXDEV: // it was moved elsewhere, to be removed, between being found and being opened
		default:
			return fd, err
		}
	}
}

// openFolder opens the folder of a volume, which is nothing but a folder. Errors: ErrAbsent.
func (v *Volumes) openFolder(name string) (*os.File, error) {
	top, err := unix.Open(v.path(), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOENT) {
		return nil, fmt.Errorf("%w: %s", ErrAbsent, name)
	}
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: v.path(), Err: err}
	}
	defer unix.Close(top)
	fd, err := openBeneath(top, name, unix.O_RDONLY|unix.O_DIRECTORY)
	switch {
	case errors.Is(err, unix.ENOENT):
		return nil, fmt.Errorf("%w: %s", ErrAbsent, name)
	case errors.Is(err, unix.ELOOP), errors.Is(err, unix.ENOTDIR):
		return nil, fmt.Errorf("volume %s: %s is not the folder that was made: it is left alone", name, v.path(name))
	case err != nil:
		return nil, &os.PathError{Op: "open", Path: v.path(name), Err: err}
	}
	return os.NewFile(uintptr(fd), v.path(name)), nil
}

// isAt tells whether dir is what has the volume's name.
func (v *Volumes) isAt(dir *os.File, name string) bool {
	var a, b unix.Stat_t
	return unix.Fstat(int(dir.Fd()), &a) == nil && unix.Lstat(v.path(name), &b) == nil && a.Dev == b.Dev && a.Ino == b.Ino
}

// lock opens and locks the folder of a volume, waiting as long as others have it. With unix.LOCK_NB it does not: EWOULDBLOCK.
func (v *Volumes) lock(ctx context.Context, name string, how int) (*os.File, error) {
	for {
		dir, err := v.openFolder(name)
		if err != nil {
			return nil, err
		}
		if err := flock(ctx, dir, how); err != nil {
			dir.Close()
			return nil, err
		}
		if v.isAt(dir, name) {
			return dir, nil
		}
		dir.Close() // removed meanwhile
	}
}

// flock locks f; unless how has LOCK_NB it waits until ctx ends.
func flock(ctx context.Context, f *os.File, how int) error {
	for wait := time.Millisecond; ; wait = min(2*wait, 50*time.Millisecond) {
		err := unix.Flock(int(f.Fd()), how|unix.LOCK_NB)
		switch {
		case err == nil:
			return nil
		case errors.Is(err, unix.EINTR):
			continue
		case !errors.Is(err, unix.EWOULDBLOCK) || how&unix.LOCK_NB != 0:
			return &os.PathError{Op: "flock", Path: f.Name(), Err: err}
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(wait):
		}
	}
}

// Users lists the containers that use a volume.
func (v *Volumes) Users(name string) []string {
	return slices.DeleteFunc(v.named(name), func(id string) bool { return !v.alive(id) })
}

// named lists the containers that have a file in users/, whether there are such containers or not.
func (v *Volumes) named(name string) []string {
	entries, _ := os.ReadDir(v.path(name, usersName))
	out := make([]string, 0, len(entries))
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return out
}

// alive tells whether there is such a container.
func (v *Volumes) alive(id string) bool {
	_, err := os.Lstat(filepath.Join(v.store.Root(), "containers", id))
	return !errors.Is(err, fs.ErrNotExist)
}

// Hold keeps volumes from being removed until it is closed, or its process ends.
type Hold struct{ dirs []*os.File }

// Close is to follow when the container has its folder in the store, or is gone.
func (h *Hold) Close() {
	for _, d := range h.dirs {
		d.Close()
	}
	h.dirs = nil
}

// use makes a volume where there is none of that name and notes that the container uses it.
func (v *Volumes) use(ctx context.Context, container string, o CreateOptions) (Volume, *os.File, error) {
	for {
		vol, err := v.Create(ctx, o)
		if err != nil {
			return vol, nil, err
		}
		v.forgetDead(vol.Name)
		dir, err := v.lock(ctx, vol.Name, unix.LOCK_SH)
		if errors.Is(err, ErrAbsent) {
			continue // removed since
		}
		if err != nil {
			return vol, nil, err
		}
		fd, err := unix.Openat(int(dir.Fd()), usersName+"/"+container, unix.O_WRONLY|unix.O_CREAT|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
		if err != nil {
			dir.Close()
			return vol, nil, fmt.Errorf("volume %s: note its user: %w", vol.Name, err)
		}
		return vol, dir, unix.Close(fd)
	}
}

// forgetDead removes what killed processes left in users/, where nobody is making a container.
func (v *Volumes) forgetDead(name string) {
	list := slices.DeleteFunc(v.named(name), v.alive)
	if len(list) == 0 {
		return
	}
	dir, err := v.lock(context.Background(), name, unix.LOCK_EX|unix.LOCK_NB)
	if err != nil {
		return
	}
	defer dir.Close()
	for _, id := range list {
		if !v.alive(id) {
			os.Remove(v.path(name, usersName, id))
		}
	}
}

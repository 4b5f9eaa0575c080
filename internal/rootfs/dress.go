package rootfs

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"nacre/internal/layer"
)

// wearer gives files the metadata of entries, as far as this user can.
type wearer struct {
	owner bool // owners can be set: the user is root, of some user namespace at least
	// records: owners that do not exist here are recorded, so that a layer cannot say them that way.
	records bool
	note    func(text string)
}

// quietWearer is for directories of which it is known what they should be: that a user
// cannot have all of it is no news.
func quietWearer() wearer { return newWearer(func(string) {}) }

func newWearer(note func(string)) wearer {
	owner := os.Geteuid() == 0
	return wearer{owner: owner, records: owner && UserXattr(), note: note}
}

// dressBeneath dresses the directory st.Name below root.
func dressBeneath(w wearer, root int, st *layer.Stat) error {
	fd, err := openBeneath(root, st.Name, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: st.Name, Err: err}
	}
	defer unix.Close(fd)
	return w.file(fd, &st.Entry)
}

// dressDir dresses the directory dir.
func dressDir(dir string, st *layer.Stat) error {
	fd, err := openPath(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return quietWearer().file(fd, &st.Entry)
}

// file dresses an open file or directory. The order matters: a new owner clears
// setuid and capabilities, anything else the time.
func (w wearer) file(fd int, e *layer.Entry) error {
	if w.owner {
		err := unix.Fchown(fd, e.UID, e.GID)
		if unowned(err) {
			err = unix.Fsetxattr(fd, OwnerXattr, []byte(Owner{e.UID, e.GID}.String()), 0)
		}
		if err != nil {
			return fmt.Errorf("%s: chown to %d:%d: %w", e.Name, e.UID, e.GID, err)
		}
	}
	if err := unix.Fchmod(fd, e.Mode&0o7777); err != nil {
		return &os.PathError{Op: "chmod", Path: e.Name, Err: err}
	}
	err := w.xattrs(e, func(attr string, value []byte) error { return unix.Fsetxattr(fd, attr, value, 0) })
	if err != nil {
		return err
	}
	if err := unix.UtimesNanoAt(unix.AT_FDCWD, fdPath(fd), times(e), 0); err != nil {
		return &os.PathError{Op: "set times", Path: e.Name, Err: err}
	}
	return nil
}

// other dresses what cannot be opened without effect, base in the directory dir.
func (w wearer) other(dir int, base string, e *layer.Entry) error {
	if w.owner {
		if err := unix.Fchownat(dir, base, e.UID, e.GID, unix.AT_SYMLINK_NOFOLLOW); err != nil && !unowned(err) { // of which no record can be kept
			return fmt.Errorf("%s: chown to %d:%d: %w", e.Name, e.UID, e.GID, err)
		}
	}
	if e.Mode&unix.S_IFMT != unix.S_IFLNK {
		if err := unix.Fchmodat(dir, base, e.Mode&0o7777, 0); err != nil {
			return &os.PathError{Op: "chmod", Path: e.Name, Err: err}
		}
	}
	path := fdPath(dir) + "/" + base
	err := w.xattrs(e, func(attr string, value []byte) error { return unix.Lsetxattr(path, attr, value, 0) })
	if err != nil {
		return err
	}
	if err := unix.UtimesNanoAt(dir, base, times(e), unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return &os.PathError{Op: "set times", Path: e.Name, Err: err}
	}
	return nil
}

func (w wearer) xattrs(e *layer.Entry, set func(string, []byte) error) error {
	for attr, value := range e.Xattrs {
		if private(attr) || attr == OwnerXattr && w.records {
			continue // a layer has no say in how overlay sees it, or we
		}
		err := set(attr, []byte(value))
		switch {
		case err == nil:
		case errors.Is(err, unix.EPERM), errors.Is(err, unix.EOPNOTSUPP):
			// trusted.* is not for every user, user.* not for every file, and neither
			// for every file system.
			w.note(fmt.Sprintf("attribute %s of %s is left out: %v", attr, e.Name, err))
		default:
			return fmt.Errorf("%s: set attribute %s: %w", e.Name, attr, err)
		}
	}
	return nil
}

func times(e *layer.Entry) []unix.Timespec {
	t := unix.NsecToTimespec(e.ModTime.UnixNano())
	if sec := e.ModTime.Unix(); sec < -1<<33 || sec > 1<<33 {
		t = unix.Timespec{Sec: sec} // beyond what nanoseconds count in 64 bits
	}
	return []unix.Timespec{t, t}
}

package rootfs

import (
	"os"

	"golang.org/x/sys/unix"

	"nacre/internal/layer"
)

// makeRoom does to what is there what a layer above says of it: what another takes the place of, or a whiteout hides, goes; a
// directory stays for another, empty if that is opaque. done: there is no more to do for st.
func (u *unpacker) makeRoom(dir int, base string, st *layer.Stat) (done bool, err error) {
	var there unix.Stat_t
	err = unix.Fstatat(dir, base, &there, unix.AT_SYMLINK_NOFOLLOW)
	switch {
	case err == unix.ENOENT:
		return st.Whiteout, nil
	case err != nil:
		return false, &os.PathError{Op: "stat", Path: st.Name, Err: err}
	case st.Whiteout:
		return true, removeIn(dir, base)
	case st.Mode&unix.S_IFMT != unix.S_IFDIR || there.Mode&unix.S_IFMT != unix.S_IFDIR:
		return false, removeIn(dir, base)
	}
	fd, err := openat2(dir, base, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return false, &os.PathError{Op: "open", Path: st.Name, Err: err}
	}
	u.stack = append(u.stack, openDir{st.Name, fd, st.Opaque})
	u.dirs = append(u.dirs, st)
	if st.Opaque {
		return true, clearDir(fd)
	}
	return true, nil
}

// removeIn removes base in the directory dir, with all that is in it. No symlink is followed.
func removeIn(dir int, base string) error { return os.RemoveAll(fdPath(dir) + "/" + base) }

// clearDir removes all that is in a directory.
func clearDir(dir int) error {
	names, err := os.ReadDir(fdPath(dir) + "/.")
	for _, e := range names {
		if err == nil {
			err = removeIn(dir, e.Name())
		}
	}
	return err
}

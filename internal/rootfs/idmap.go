package rootfs

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"

	"golang.org/x/sys/unix"
)

// Mapped makes the root as a mount that is nowhere yet, as it is to be seen in the user namespace that a descriptor refers to:
// what is root's on disk is that namespace's root's. Nothing on disk is changed, and what is written there has the ids that the
// namespace has. owner is on the machine who is root there. It takes Linux 5.19, and root outside of any user namespace.
func (m Mount) Mapped(userns int, owner Owner) (int, error) {
	if err := m.check(); err != nil {
		return -1, err
	}
	var err error
	for _, way := range []func(Mount, int, Owner) (int, error){Mount.mappedDetached, Mount.mappedPlaced, Mount.mappedLegacy} {
		var fd int
		if fd, err = way(m, userns, owner); err == nil {
			return fd, nil
		}
		if !worthAnother(err) {
			break
		}
	}
	return -1, fmt.Errorf("root for a user namespace: %w", err)
}

func (m Mount) mappedDetached(userns int, owner Owner) (int, error) {
	lowers, err := m.openMapped(userns)
	defer func() { lowers.close() }()
	if err != nil {
		return -1, err
	}
	c, err := newContext("overlay")
	if err != nil {
		return -1, err
	}
	defer c.close()
	if err := c.setOptions(m.options()); err != nil {
		return -1, err
	}
	for i := len(lowers) - 1; i >= 0; i-- {
		if err := c.setFd("lowerdir+", lowers[i].fd); err != nil {
			return -1, err
		}
	}
	if m.Upper != "" {
		held, err := m.openUpper(userns)
		defer held.close()
		if err != nil {
			return -1, err
		}
		if err := c.setUpper(held); err != nil {
			return -1, err
		}
	}
	// Overlay does its own work in the writable side as who mounts it, who has to exist there.
	fd := -1
	err = asOwner(owner, func() (err error) {
		fd, err = c.mount(0)
		return err
	})
	return fd, err
}

// asOwner runs do as another user to file systems, with all rights that we have.
func asOwner(o Owner, do func() error) (err error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var rights [2]unix.CapUserData
	if err := unix.Capget(&header, &rights[0]); err != nil {
		return os.NewSyscallError("capget", err)
	}
	become := func(uid, gid int) error {
		// Neither call fails in words: a second one says who we are. They take rights away, which come back.
		unix.SetfsgidRetGid(gid)
		unix.SetfsuidRetUid(uid)
		if is, _ := unix.SetfsuidRetUid(-1); is != uid {
			return fmt.Errorf("become user %d: still %d", uid, is)
		}
		return os.NewSyscallError("capset", unix.Capset(&header, &rights[0]))
	}
	defer func() { err = errors.Join(err, become(0, 0)) }()
	if err := become(o.UID, o.GID); err != nil {
		return err
	}
	return do()
}

// openMapped opens the layers as mounts with mapped ids. Overlay wants one at least.
func (m Mount) openMapped(userns int) (lowers, error) {
	list := make(lowers, 0, len(m.Lower)+2)
	for len(m.Lower)+len(list) < 1 || len(m.Lower)+len(list) < 2 && m.Upper == "" {
		fd, err := mountEmpty()
		if err == nil {
			list = append(list, lowerFd{fd, true})
			err = MapIDs(fd, userns)
		}
		if err != nil {
			return list, err
		}
	}
	for _, l := range m.Lower {
		fd, err := -1, error(nil)
		if l.Dir == "" {
			fd, err = mountIndex(l.Index, l.Data)
		} else {
			fd, err = CloneMount(l.Dir)
		}
		if err != nil {
			return list, err
		}
		list = append(list, lowerFd{fd, true})
		if err := MapIDs(fd, userns); err != nil {
			return list, err
		}
	}
	return list, nil
}

// openUpper opens the writable side on one mount with mapped ids: the mount, upper and work.
func (m Mount) openUpper(userns int) (held fdList, err error) {
	if err := m.forgetVolatile(); err != nil {
		return nil, err
	}
	dir, err := CloneMount(filepath.Dir(m.Upper))
	if err != nil {
		return nil, err
	}
	held = fdList{dir}
	if err := MapIDs(dir, userns); err != nil {
		return held, err
	}
	for _, path := range []string{m.Upper, m.Work} {
		rel, err := filepath.Rel(filepath.Dir(m.Upper), path)
		if err != nil {
			return held, err
		}
		fd, err := openBeneath(dir, rel, unix.O_PATH|unix.O_DIRECTORY, 0)
		if err != nil {
			return held, &os.PathError{Op: "open", Path: path, Err: err}
		}
		held = append(held, fd)
	}
	return held, nil
}

// setUpper gives an overlay the writable side that openUpper opened; none: it is read-only.
func (c *fsContext) setUpper(held fdList) error {
	if len(held) == 0 {
		return nil
	}
	if err := c.setString("upperdir", fdPath(held[1])); err != nil {
		return err
	}
	return c.setString("workdir", fdPath(held[2]))
}

// CloneMount is a mount of a directory or file that is nowhere yet.
func CloneMount(name string) (int, error) {
	fd, err := unix.OpenTree(unix.AT_FDCWD, name, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return -1, &os.PathError{Op: "open_tree", Path: name, Err: err}
	}
	return fd, nil
}

// MapIDs has a mount that is nowhere yet show its ids as those of the user namespace that a descriptor refers to.
func MapIDs(mount, userns int) error {
	err := unix.MountSetattr(mount, "", unix.AT_EMPTY_PATH, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_IDMAP, Userns_fd: uint64(userns)})
	return os.NewSyscallError("mount_setattr", err)
}

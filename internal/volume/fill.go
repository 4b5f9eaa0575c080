package volume

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"nacre/internal/rootfs"

	"golang.org/x/sys/unix"
)

// A volume that is empty begins with what the image has where it is mounted. That is unpacked beside the data, synced,
// and given its place by renames: fill/ is one that was given up, of a process that died, and ready/ one that is whole,
// of which some may be in the data already. What a container that runs meanwhile writes to the data stays.

// fill fills a volume with the directory target of the image if it is empty. dir is its folder, locked.
func (v *Volumes) fill(ctx context.Context, vol Volume, dir *os.File, image *rootfs.FS, target string) error {
	top := dir.Name()
	unlock, err := lockFill(ctx, dir)
	if err != nil {
		return err
	}
	defer unlock()
	if err := v.finishFill(top); err != nil {
		return err
	}
	if empty, err := isEmpty(filepath.Join(top, dataName)); err != nil || !empty || image == nil {
		return err
	}
	name, err := image.Resolve(strings.TrimPrefix(target, "/"))
	if err != nil {
		return err
	}
	info, err := image.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return fmt.Errorf("cannot mount volume over existing file, file exists %s", target)
	}
	if err := v.unpack(ctx, vol, top, image, name); err != nil {
		return errors.Join(err, removeTree(filepath.Join(top, fillName)))
	}
	return v.finishFill(top)
}

// lockFill waits until nobody else fills the volume.
func lockFill(ctx context.Context, dir *os.File) (unlock func(), err error) {
	fd, err := openBeneath(int(dir.Fd()), recordName, unix.O_RDONLY)
	if err != nil {
		return nil, fmt.Errorf("record: %w", err)
	}
	f := os.NewFile(uintptr(fd), recordName)
	if err := flock(ctx, f, unix.LOCK_EX); err != nil {
		f.Close()
		return nil, err
	}
	return func() { f.Close() }, nil
}

func isEmpty(dir string) (bool, error) {
	d, err := os.OpenFile(dir, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_DIRECTORY, 0)
	if err != nil {
		return false, err
	}
	defer d.Close()
	_, err = d.Readdirnames(1)
	if err == io.EOF {
		return true, nil
	}
	return false, err
}

// unpack makes ready/ of the image's directory name.
func (v *Volumes) unpack(ctx context.Context, vol Volume, top string, image *rootfs.FS, name string) error {
	work := filepath.Join(top, fillName)
	if err := os.Mkdir(work, 0o700); err != nil {
		return err
	}
	if err := rootfs.UnpackPart(ctx, image, name, work, rootfs.UnpackOptions{}); err != nil {
		return err
	}
	v.point("unpacked")
	if vol.durable() {
		if err := syncAll(work); err != nil {
			return err
		}
	}
	return os.Rename(work, filepath.Join(top, readyName))
}

// syncAll syncs the file system of dir: the volume is not filled twice, so that what the disk lost would stay lost.
func syncAll(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return os.NewSyscallError("syncfs", unix.Syncfs(int(d.Fd())))
}

// finishFill moves what is ready into the data.
func (v *Volumes) finishFill(top string) error {
	if err := removeTree(filepath.Join(top, fillName)); err != nil {
		return err
	}
	ready, data := filepath.Join(top, readyName), filepath.Join(top, dataName)
	entries, err := os.ReadDir(ready)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		v.point("about to move")
		if err := moveIn(ready, data, e.Name()); err != nil {
			return err
		}
	}
	if err := dressAs(data, ready); err != nil {
		return err
	}
	v.point("moved")
	return removeTree(ready)
}

// moveIn moves one name, unless the data has it by now.
func moveIn(from, to, name string) error {
	from, to = filepath.Join(from, name), filepath.Join(to, name)
	err := unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, to, unix.RENAME_NOREPLACE)
	var st unix.Stat_t
	if errors.Is(err, unix.EACCES) && unix.Lstat(from, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR {
		// Another parent is a change of the directory, which its owner has to be allowed.
		if err := unix.Chmod(from, st.Mode&0o7777|0o200); err != nil {
			return err
		}
		if err = unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, to, unix.RENAME_NOREPLACE); err == nil {
			err = unix.Chmod(to, st.Mode&0o7777)
		}
	}
	if errors.Is(err, unix.EEXIST) {
		return nil
	}
	if err != nil {
		return &os.LinkError{Op: "rename", Old: from, New: to, Err: err}
	}
	return nil
}

// dressAs gives directory to the owner, mode and attributes of from, as far as this user can.
func dressAs(to, from string) error {
	var st unix.Stat_t
	if err := unix.Lstat(from, &st); err != nil {
		return err
	}
	if os.Geteuid() == 0 {
		if err := os.Lchown(to, int(st.Uid), int(st.Gid)); err != nil {
			return err
		}
	}
	if err := unix.Chmod(to, st.Mode&0o7777); err != nil {
		return &os.PathError{Op: "chmod", Path: to, Err: err}
	}
	return copyXattrs(to, from)
}

func copyXattrs(to, from string) error {
	names := make([]byte, 64<<10) // XATTR_LIST_MAX
	n, err := unix.Llistxattr(from, names)
	if errors.Is(err, unix.ENOTSUP) || n == 0 {
		return nil
	}
	if err != nil {
		return err
	}
	value := make([]byte, 64<<10) // XATTR_SIZE_MAX
	for attr := range strings.SplitSeq(strings.TrimSuffix(string(names[:n]), "\x00"), "\x00") {
		n, err := unix.Lgetxattr(from, attr, value)
		if err == nil {
			err = unix.Lsetxattr(to, attr, value[:n], 0)
		}
		if err != nil && !errors.Is(err, unix.EPERM) && !errors.Is(err, unix.ENOTSUP) && !errors.Is(err, unix.ENODATA) {
			return fmt.Errorf("%s: attribute %s: %w", to, attr, err)
		}
	}
	return nil
}

// removeTree removes a tree, whatever the modes of its directories.
func removeTree(dir string) error {
	err := os.RemoveAll(dir)
	if errors.Is(err, fs.ErrPermission) {
		filepath.WalkDir(dir, func(p string, d fs.DirEntry, _ error) error {
			if d != nil && d.IsDir() {
				os.Chmod(p, 0o700) // before it is read: WalkDir calls this first
			}
			return nil
		})
		err = os.RemoveAll(dir)
	}
	return err
}

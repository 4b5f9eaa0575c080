package within

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// ArchiveOptions are how Archive writes; the zero value will do.
type ArchiveOptions struct {
	Follow bool         // what src itself leads to, if it is a symlink
	Note   func(string) // is told what is left out
	// Owner tells the owner of what a descriptor is; nil: as it shows.
	Owner func(fd int, st *unix.Stat_t) (uid, gid int)
}

// Archive writes what is at src, with all below it, as entries of a tar in which src is called name; "." is for what is
// in it alone. The file systems of the kernel itself (/proc and the like) are directories without anything in them.
func (t *Tree) Archive(ctx context.Context, w *tar.Writer, src, name string, o ArchiveOptions) error {
	flags := unix.O_PATH
	if !o.Follow {
		flags |= unix.O_NOFOLLOW
	}
	fd, err := t.openat(src, flags, 0)
	if err != nil {
		return pathError("open", src, err)
	}
	defer unix.Close(fd)
	if o.Note == nil {
		o.Note = func(string) {}
	}
	if o.Owner == nil {
		o.Owner = func(_ int, st *unix.Stat_t) (uid, gid int) { return int(st.Uid), int(st.Gid) }
	}
	a := archiver{ctx: ctx, tar: w, note: o.Note, owner: o.Owner, links: map[inode]string{}, buf: make([]byte, 256<<10)}
	return a.entry(fd, name)
}

type inode struct{ dev, ino uint64 }

type archiver struct {
	ctx   context.Context
	tar   *tar.Writer
	note  func(string)
	owner func(fd int, st *unix.Stat_t) (uid, gid int)
	links map[inode]string // names of files that have several
	buf   []byte
}

// entry writes what the O_PATH descriptor fd is.
func (a *archiver) entry(fd int, name string) error {
	if err := a.ctx.Err(); err != nil {
		return err
	}
	info, err := statFd(fd, name)
	if err != nil {
		return err
	}
	uid, gid := a.owner(fd, &info.Stat_t)
	h := &tar.Header{
		Name: name, Mode: int64(info.Mode & 0o7777), Uid: uid, Gid: gid,
		ModTime: time.Unix(info.Mtim.Unix()), Format: tar.FormatPAX,
	}
	switch info.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		return a.dir(fd, h)
	case unix.S_IFSOCK:
		a.note(fmt.Sprintf("socket %s is left out", name))
		return nil
	}
	if info.Nlink > 1 {
		id := inode{uint64(info.Dev), info.Ino}
		if first, ok := a.links[id]; ok {
			h.Typeflag, h.Linkname = tar.TypeLink, first
			return a.tar.WriteHeader(h)
		}
		a.links[id] = name
	}
	switch info.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		return a.file(fd, h)
	case unix.S_IFLNK:
		h.Typeflag, h.Linkname = tar.TypeSymlink, info.Link
	case unix.S_IFIFO:
		h.Typeflag = tar.TypeFifo
	case unix.S_IFCHR, unix.S_IFBLK:
		h.Typeflag = tar.TypeChar
		if info.Mode&unix.S_IFMT == unix.S_IFBLK {
			h.Typeflag = tar.TypeBlock
		}
		h.Devmajor, h.Devminor = int64(unix.Major(info.Rdev)), int64(unix.Minor(info.Rdev))
	}
	return a.tar.WriteHeader(h)
}

const capability = "security.capability" // the one attribute that copies keep, as docker's do

// file writes a regular file, with the size it has now, whatever becomes of it meanwhile.
func (a *archiver) file(fd int, h *tar.Header) error {
	f, st, err := reopen(fd, h.Name)
	if err != nil {
		return err
	}
	defer f.Close()
	h.Typeflag, h.Size = tar.TypeReg, st.Size
	value := make([]byte, 64)
	if n, err := unix.Fgetxattr(int(f.Fd()), capability, value); err == nil {
		h.PAXRecords = map[string]string{"SCHILY.xattr." + capability: string(value[:n])}
	}
	if err := a.tar.WriteHeader(h); err != nil {
		return err
	}
	for left := h.Size; left > 0; {
		if err := a.ctx.Err(); err != nil {
			return err
		}
		p := a.buf[:min(int64(len(a.buf)), left)]
		n, err := f.Read(p)
		if err == io.EOF { // it has become shorter
			clear(p)
			n = len(p)
		} else if err != nil {
			return err
		}
		if _, err := a.tar.Write(p[:n]); err != nil {
			return err
		}
		left -= int64(n)
	}
	return nil
}

// kernels are the file systems that have no files of anybody's.
var kernels = []int64{unix.PROC_SUPER_MAGIC, unix.SYSFS_MAGIC, unix.CGROUP_SUPER_MAGIC, unix.CGROUP2_SUPER_MAGIC, unix.DEVPTS_SUPER_MAGIC, 0x19800202 /* mqueue */}

// OfKernel tells whether an open file is on a file system of the kernel itself.
func ofKernel(fd int) bool {
	var st unix.Statfs_t
	return unix.Fstatfs(fd, &st) == nil && slices.Contains(kernels, int64(st.Type))
}

// dir writes a directory with what is in it.
func (a *archiver) dir(fd int, h *tar.Header) error {
	name := h.Name
	h.Typeflag, h.Name = tar.TypeDir, name+"/"
	if err := a.tar.WriteHeader(h); err != nil {
		return err
	}
	if ofKernel(fd) {
		return nil
	}
	names, err := list(fd)
	if err != nil {
		return pathError("read", name, err)
	}
	for _, base := range names {
		child, err := entry(fd, base, unix.O_PATH, 0)
		if errors.Is(err, unix.ENOENT) {
			continue // deleted meanwhile
		}
		if err != nil {
			return pathError("open", path.Join(name, base), err)
		}
		err = a.entry(child, path.Join(name, base))
		unix.Close(child)
		if err != nil {
			return err
		}
	}
	return nil
}

// list names what is in the directory that an O_PATH descriptor is.
func list(fd int) ([]string, error) {
	readable, err := unix.Open(procPath(fd), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	dir := os.NewFile(uintptr(readable), "directory")
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	slices.Sort(names)
	return names, err
}

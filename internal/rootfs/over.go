package rootfs

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// maxFollowed is how many symlinks one name leads over, at most: the kernel's number (path_resolution(7)).
const maxFollowed = 40

// Over opens files of a root as a process in it would see them: lower with the writable side of m on top. It is for a
// root that nobody uses at the moment, and for regular files; nothing is mounted.
func Over(m Mount, lower *FS) fs.FS {
	if m.Upper == "" {
		return lower
	}
	return &over{m.Upper, overlayPrefix(m.UserXattr), lower}
}

type over struct {
	upper, mark string
	lower       *FS
}

// Open follows symlinks, which lead around in the root and never out of it.
func (o *over) Open(name string) (fs.File, error) {
	if !valid(name) {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrInvalid}
	}
	f, err := o.open(name)
	if err != nil {
		return nil, pathError("open", name, err)
	}
	return f, nil
}

// overPlace is where a walk has come to: a directory, and on which sides it is.
type overPlace struct {
	name         string // "." is the root
	upper, lower bool
}

func (o *over) open(name string) (fs.File, error) {
	at, rest, links := overPlace{".", true, true}, name, 0
	for {
		part, more, _ := strings.Cut(rest, "/")
		switch part {
		case "", ".":
			if more == "" {
				return nil, unix.EISDIR
			}
			rest = more
			continue
		case "..": // of a symlink: from the root down again
			rest, at = path.Dir(at.name)+"/"+more, overPlace{".", true, true}
			continue
		}
		next, link, file, err := o.step(at, part, more == "")
		if err != nil || file != nil {
			return file, err
		}
		if link == "" {
			at, rest = next, more
			continue
		}
		if links++; links > maxFollowed {
			return nil, unix.ELOOP
		}
		if path.IsAbs(link) {
			at = overPlace{".", true, true}
		}
		rest = link
		if more != "" {
			rest += "/" + more
		}
	}
}

// step goes from a directory to what has a name there: another directory, a symlink, or, as the last, a file.
func (o *over) step(at overPlace, part string, last bool) (next overPlace, link string, file fs.File, err error) {
	next = overPlace{path.Join(at.name, part), false, at.lower}
	if at.upper {
		var st unix.Stat_t
		onDisk := filepath.Join(o.upper, next.name)
		switch err := unix.Lstat(onDisk, &st); {
		case errors.Is(err, unix.ENOENT):
		case err != nil:
			return next, "", nil, err
		case st.Mode&unix.S_IFMT == unix.S_IFDIR:
			next.upper = true
			var opaque [1]byte
			n, err := unix.Lgetxattr(onDisk, o.mark+"opaque", opaque[:])
			next.lower = at.lower && (err != nil || n != 1 || opaque[0] != 'y')
		case st.Mode&unix.S_IFMT == unix.S_IFLNK:
			link, err = os.Readlink(onDisk)
			return next, link, nil, err
		case st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev == 0:
			return next, "", nil, fs.ErrNotExist
		default:
			file, err = openRegular(onDisk, last)
			return next, "", file, err
		}
	}
	if !next.lower {
		return o.directory(next, last)
	}
	info, err := o.lower.Lstat(next.name)
	switch {
	case err != nil && next.upper && errors.Is(err, fs.ErrNotExist), err == nil && next.upper && !info.IsDir():
		next.lower = false
		return o.directory(next, last)
	case err != nil:
		return next, "", nil, err
	case info.Mode()&fs.ModeSymlink != 0:
		link, err = o.lower.ReadLink(next.name)
		return next, link, nil, err
	case info.IsDir():
		return o.directory(next, last)
	case !last:
		return next, "", nil, unix.ENOTDIR
	case !info.Mode().IsRegular():
		return next, "", nil, errNotRegular
	}
	file, err = o.lower.Open(next.name)
	return next, "", file, err
}

// directory is the answer where there is a directory, or nothing.
func (o *over) directory(p overPlace, last bool) (overPlace, string, fs.File, error) {
	switch {
	case !p.upper && !p.lower:
		return p, "", nil, fs.ErrNotExist
	case last:
		return p, "", nil, unix.EISDIR
	}
	return p, "", nil, nil
}

var errNotRegular = errors.New("it is not a regular file")

// openRegular opens a file and nothing that could make who reads it wait.
func openRegular(name string, last bool) (fs.File, error) {
	if !last {
		return nil, unix.ENOTDIR
	}
	f, err := os.OpenFile(name, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		f.Close()
		return nil, errors.Join(err, errNotRegular)
	}
	return f, nil
}

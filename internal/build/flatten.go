package build

import (
	"context"
	"io"
	"iter"
	"os"
	"path"
	"path/filepath"

	"nacre/internal/layer"
	"nacre/internal/registry/store"
	"nacre/internal/rootfs"

	"golang.org/x/sys/unix"
)

// below has all of files in a folder.
func below(folder string, files iter.Seq2[layer.File, error]) iter.Seq2[layer.File, error] {
	if folder == "" {
		return files
	}
	return func(yield func(layer.File, error) bool) {
		top := layer.File{Entry: layer.Entry{Name: folder, Mode: unix.S_IFDIR | 0o755}}
		if !yield(top, nil) {
			return
		}
		for f, err := range files {
			f.Name = path.Join(folder, f.Name)
			if f.Hard {
				f.Link = path.Join(folder, f.Link)
			}
			if !yield(f, err) {
				return
			}
		}
	}
}

// WriteTar writes all of root to w as a tar: the one that a layer of it would be. All is in folder,
// unless that is empty.
func WriteTar(ctx context.Context, s *store.Store, root *rootfs.FS, folder string, w io.Writer) error {
	dir, remove, err := s.TempDir("tar")
	if err != nil {
		return err
	}
	defer remove()
	if _, err := layer.Write(ctx, dir, below(folder, rootfs.Flatten(root))); err != nil {
		return err
	}
	f, err := os.Open(filepath.Join(dir, "layer.tar"))
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(w, f)
	return err
}

// WriteDir copies all of root into a directory, which is made where it does not exist; what is
// there already and not in root stays. Files belong to whoever runs this, as is usual for
// what a build hands out; devices, pipes and extended attributes are left out. Nothing is written
// outside of dir, whatever symlinks are in it or in root.
func WriteDir(ctx context.Context, root *rootfs.FS, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	to, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer to.Close()
	var dirs []layer.File // to be given modes and times when all is in them
	for f, err := range rootfs.Flatten(root) {
		if err == nil {
			err = ctx.Err()
		}
		if err == nil {
			err = writeFile(to, f)
		}
		if err != nil {
			return err
		}
		if f.Mode&unix.S_IFMT == unix.S_IFDIR {
			dirs = append(dirs, f)
		}
	}
	for i := len(dirs) - 1; i >= 0; i-- {
		if err := finish(to, dirs[i]); err != nil {
			return err
		}
	}
	return nil
}

func writeFile(to *os.Root, f layer.File) error {
	kind := f.Mode & unix.S_IFMT
	if have, err := to.Lstat(f.Name); err == nil && (kind != unix.S_IFDIR || !have.IsDir()) {
		if err := to.Remove(f.Name); err != nil {
			return err
		}
	}
	switch {
	case f.Hard:
		return to.Link(f.Link, f.Name)
	case kind == unix.S_IFDIR:
		if err := to.Mkdir(f.Name, 0o700); err != nil && !os.IsExist(err) {
			return err
		}
		return to.Chmod(f.Name, 0o700) // so that it can be written into
	case kind == unix.S_IFLNK:
		return to.Symlink(f.Link, f.Name)
	case kind != unix.S_IFREG:
		return nil
	}
	out, err := to.OpenFile(f.Name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	if f.Open != nil {
		in, err := f.Open()
		if err == nil {
			_, err = io.Copy(out, in)
			in.Close()
		}
		if err != nil {
			out.Close()
			return err
		}
	}
	if err := out.Close(); err != nil {
		return err
	}
	return finish(to, f)
}

// finish sets mode and time.
func finish(to *os.Root, f layer.File) error {
	if err := to.Chmod(f.Name, layer.FileMode(f.Mode)&^os.ModeType); err != nil {
		return err
	}
	return to.Chtimes(f.Name, f.ModTime, f.ModTime)
}

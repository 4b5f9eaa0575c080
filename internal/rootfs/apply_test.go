package rootfs

import (
	"archive/tar"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"time"
)

// applyTar applies a layer to the directory dir with GNU tar, which every Debian has.
func applyTar(name, dir string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	dirs, err := dirTimes(root)
	if err == nil {
		err = makeWay(name, root, dirs)
	}
	if err != nil {
		return err
	}
	cmd := exec.Command("tar", "--extract", "--file", name, "--directory", dir, "--same-owner", "--preserve-permissions", "--numeric-owner",
		"--xattrs", "--xattrs-include=*", "--delay-directory-restore", "--anchored", "--wildcards", "--exclude=.wh.*", "--exclude=*/.wh.*")
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("tar: %w: %s", err, out)
	}
	for dir, when := range dirs {
		if info, err := root.Lstat(dir); err == nil && info.IsDir() {
			if err := root.Chtimes(dir, when, when); err != nil {
				return err
			}
		}
	}
	return nil
}

// dirTimes remembers the time of every directory: one that a layer does not mention
// keeps it, whatever is done inside.
func dirTimes(root *os.Root) (map[string]time.Time, error) {
	dirs := map[string]time.Time{}
	err := fs.WalkDir(root.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			dirs[name] = info.ModTime()
		}
		return err
	})
	return dirs, err
}

// makeWay deletes what a layer deletes or replaces by something of another type, and
// takes from dirs what the layer mentions.
func makeWay(name string, root *os.Root, dirs map[string]time.Time) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	for r := tar.NewReader(f); ; {
		h, err := r.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		delete(dirs, path.Clean(h.Name))
		if err := makeWayFor(h, root); err != nil {
			return fmt.Errorf("%s: %w", h.Name, err)
		}
	}
}

func makeWayFor(h *tar.Header, root *os.Root) error {
	name := path.Clean(h.Name)
	base, isWhiteout := strings.CutPrefix(path.Base(name), ".wh.")
	switch {
	case base == ".wh..opq" && isWhiteout:
		return empty(root, path.Dir(name))
	case isWhiteout:
		return root.RemoveAll(path.Join(path.Dir(name), base))
	case len(name) > 3500 || name == ".":
		return nil // nothing below has such
	}
	info, err := root.Lstat(name)
	if err != nil || info.IsDir() && h.Typeflag == tar.TypeDir {
		return nil
	}
	return root.RemoveAll(name)
}

func empty(root *os.Root, dir string) error {
	d, err := root.Open(dir)
	if err != nil {
		return nil // made by this layer
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	for _, n := range names {
		if err == nil {
			err = root.RemoveAll(filepath.Join(dir, n))
		}
	}
	return err
}

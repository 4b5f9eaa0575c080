package source

import (
	"errors"
	"io/fs"
	"path"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// HasWildcard reports whether pattern is one for Glob rather than a plain name.
func HasWildcard(pattern string) bool { return strings.ContainsAny(pattern, `*?[\`) }

// Glob returns the names that match pattern, sorted in canonical order (by elements). Each
// element matches as filepath.Match has it, so that a * does not cross a slash. The elements before the first
// one with a wildcard may be symlinks, and are resolved; of the others only real directories are
// looked into, as BuildKit does. What .dockerignore leaves out is not there to match. Nothing
// found is no error; a malformed pattern is path.ErrBadPattern.
func (t *Tree) Glob(pattern string) ([]string, error) { return GlobFS(t, pattern) }

// resolver is what an FS has that can follow symlinks inside itself.
type resolver interface {
	Resolve(name string) (string, error)
}

// GlobFS is Tree.Glob for any file system. Symlinks before the first wildcard are followed where
// f has a method Resolve like Tree's.
func GlobFS(f FS, pattern string) ([]string, error) {
	elems := strings.Split(path.Clean(strings.TrimLeft(pattern, "/")), "/")
	for _, e := range elems {
		if _, err := filepath.Match(e, ""); err != nil {
			return nil, pathError("glob", pattern, err)
		}
	}
	plain := 0
	for plain < len(elems) && !HasWildcard(elems[plain]) {
		plain++
	}
	if plain == len(elems) {
		return globPlain(f, strings.Join(elems, "/"))
	}
	base := "."
	if plain > 0 {
		base = strings.Join(elems[:plain], "/")
	}
	if r, ok := f.(resolver); ok {
		var err error
		if base, err = r.Resolve(base); err != nil {
			return nil, noneIfAbsent(err)
		}
	}
	return globDir(f, base, elems[plain:], nil)
}

func globPlain(f FS, name string) ([]string, error) {
	if r, ok := f.(resolver); ok && name != "." {
		dir, err := r.Resolve(path.Dir(name))
		if err != nil {
			return nil, noneIfAbsent(err)
		}
		name = path.Join(dir, path.Base(name))
	}
	if _, err := f.Lstat(name); err != nil {
		return nil, noneIfAbsent(err)
	}
	return []string{name}, nil
}

// globDir appends what matches elems in the directory dir.
func globDir(f FS, dir string, elems, found []string) ([]string, error) {
	fi, err := f.Lstat(dir)
	if err != nil {
		return found, noneIfAbsent(err)
	}
	if !fi.IsDir() {
		return found, nil
	}
	list, err := f.ReadDir(dir)
	if err != nil {
		return found, err
	}
	for _, e := range list {
		ok, err := filepath.Match(elems[0], e.Name())
		if err != nil {
			return found, pathError("glob", elems[0], err)
		}
		if !ok {
			continue
		}
		name := path.Join(dir, e.Name())
		if len(elems) == 1 {
			found = append(found, name)
			continue
		}
		if found, err = globDir(f, name, elems[1:], found); err != nil {
			return found, err
		}
	}
	return found, nil
}

// noneIfAbsent takes "there is no such thing" for an answer.
func noneIfAbsent(err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		return nil
	}
	return err
}

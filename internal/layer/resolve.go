package layer

import (
	"fmt"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// maxLinks is Linux' own limit on symlinks followed in one lookup (path_resolution(7)).
const maxLinks = 40

// resolve returns the directory dir of an archive with every symlink followed. name is the entry that asks, for
// errors.
func (t *tree) resolve(name, dir string) (string, error) {
	done, err := Follow(dir, func(name string) (string, bool, error) {
		n := t.find(name)
		if n == nil || !n.isSymlink() {
			return "", false, nil
		}
		return n.link(), true, nil
	})
	if err != nil {
		return "", fmt.Errorf("entry %q: more than %d symlinks on its way: %w", name, maxLinks, ErrUnsafe)
	}
	return done, checkClean(done)
}

// Follow returns name with every symlink followed, as the kernel would in a root of its own: absolute targets
// begin there, and ".." ends there. link gives the target of what is a symlink; what is not there is
// taken as written. Errors: those of link, and ELOOP.
func Follow(name string, link func(name string) (target string, ok bool, err error)) (string, error) {
	done, rest, links := ".", name, 0
	for rest != "" {
		var part string
		part, rest, _ = strings.Cut(rest, "/")
		switch part {
		case "", ".":
			continue
		case "..":
			done = path.Dir(done)
			continue
		}
		next := joinName(done, part)
		target, ok, err := link(next)
		if err != nil {
			return "", err
		}
		if !ok {
			done = next
			continue
		}
		if links++; links > maxLinks {
			return "", unix.ELOOP
		}
		if strings.HasPrefix(target, "/") {
			done = "."
		}
		rest = target + "/" + rest
	}
	return done, nil
}

// find returns what has the clean name, nil if nothing has; it follows nothing.
func (t *tree) find(name string) *inode {
	n := t.root
	for part := range strings.SplitSeq(name, "/") {
		if !n.isDir() {
			return nil
		}
		if n = n.dir.find(part); n == nil {
			return nil
		}
	}
	return n
}

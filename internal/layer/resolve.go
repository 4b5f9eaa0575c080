package layer

import (
	"fmt"
	"path"
	"strings"
)

// maxLinks is Linux' own limit on symlinks followed in one lookup (path_resolution(7)).
const maxLinks = 40

// resolve returns the directory dir of an archive with every symlink followed,
// as the kernel would where the archive is the root: absolute targets begin there, and ".."
// ends there. What is not there yet stays as it is. name is the entry that asks, for errors.
func (t *tree) resolve(name, dir string) (string, error) {
	done, rest, links := ".", dir, 0
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
		n := t.find(next)
		if n == nil || !n.isSymlink() {
			done = next
			continue
		}
		if links++; links > maxLinks {
			return "", fmt.Errorf("entry %q: more than %d symlinks on its way: %w", name, maxLinks, ErrUnsafe)
		}
		if strings.HasPrefix(n.link(), "/") {
			done = "."
		}
		rest = n.link() + "/" + rest
	}
	return done, checkClean(done)
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

package source

import (
	"io/fs"
	"strings"

	"golang.org/x/sys/unix"
)

// maxLinks is how many symlinks one lookup may go through: as many as BuildKit's own
// resolution of a copy's source allows; the kernel's limit is 40.
const maxLinks = 255

// Resolve returns what name is called once all symlinks in it, the last element included, have been
// followed inside the tree. The result exists and is no symlink. An absolute target counts from the
// context, as in BuildKit; one that climbs out of it is ErrEscape.
func (t *Tree) Resolve(name string) (string, error) {
	name, _, err := t.resolve("resolve", name)
	return name, err
}

// Stat describes what name leads to.
func (t *Tree) Stat(name string) (fs.FileInfo, error) {
	name, n, err := t.resolve("stat", name)
	if err != nil {
		return nil, err
	}
	return t.info(n, name)
}

func (t *Tree) follow(op, name string) (*node, error) {
	_, n, err := t.resolve(op, name)
	return n, err
}

// resolve walks name element by element, keeping the nodes it came through for "..".
func (t *Tree) resolve(op, name string) (string, *node, error) {
	if !validName(name) {
		return "", nil, pathError(op, name, fs.ErrInvalid)
	}
	at := []*node{&t.top}
	rest, links := name, 0
	for rest != "" {
		var elem string
		elem, rest, _ = strings.Cut(rest, "/")
		n := at[len(at)-1]
		if !n.isDir() {
			return "", nil, pathError(op, name, unix.ENOTDIR)
		}
		switch elem {
		case "", ".":
			continue
		case "..":
			if len(at) == 1 {
				return "", nil, pathError(op, name, ErrEscape)
			}
			at = at[:len(at)-1]
			continue
		}
		c, err := n.child(elem)
		if err != nil {
			return "", nil, pathError(op, name, err)
		}
		if !c.isLink() {
			at = append(at, c)
			continue
		}
		if links++; links > maxLinks {
			return "", nil, pathError(op, name, ErrLoop)
		}
		if strings.HasPrefix(c.ext.link, "/") {
			at = at[:1]
		}
		rest = c.ext.link + "/" + rest
	}
	n := at[len(at)-1]
	switch {
	case len(at) == 1:
		return ".", n, nil
	case n.isDir():
		return n.ext.sub.path, n, nil
	}
	return at[len(at)-2].ext.sub.join(n.name), n, nil
}

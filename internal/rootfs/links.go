package rootfs

import (
	"context"
	"strings"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"nacre/internal/layer"
)

// linksXattr is the attribute of a tree's root that tells that it has links, pipes or devices whose owner could not be
// recorded. The layer knows it.
const linksXattr = "user.nacre.links"

func markLinks(root int) error { return unix.Fsetxattr(root, linksXattr, []byte("y"), 0) }

// foreignLinks are the owners of what has none recorded in the trees of a chain, bottom first.
func foreignLinks(ctx context.Context, src Source, ids []digest.Digest, trees []Lower) ([]LinkOwner, error) {
	var list []LinkOwner
	for i, id := range ids {
		if _, err := unix.Getxattr(trees[i].Dir, linksXattr, nil); err != nil {
			continue
		}
		l, err := src.Layer(ctx, id)
		if err != nil {
			return nil, err
		}
		for st, err := range l.All() {
			if err != nil {
				return nil, err
			}
			if isSpecial(&st.Entry) && !HasOwner(st.UID, st.GID) {
				list = append(list, LinkOwner{st.Name, st.ModTime.UnixNano(), Owner{st.UID, st.GID}})
			}
		}
	}
	return list, nil
}

// LinkOwner is the owner of a link, pipe or device below.
type LinkOwner struct {
	Path  string
	MTime int64 // nanoseconds since 1970: tells it from another that took its place
	Owner
}

func isSpecial(e *layer.Entry) bool {
	kind := e.Mode & unix.S_IFMT
	return !e.Whiteout && !e.Hard && kind != unix.S_IFREG && kind != unix.S_IFDIR
}

// movedFrom finds the owner of a link that a layer below has under a name that is gone: overlay copies it with its time and
// target, and no mark of where it came from.
func (c *changes) movedFrom(f *layer.File) (Owner, bool) {
	for _, l := range c.below {
		if l.MTime != f.ModTime.UnixNano() {
			continue
		}
		n, err := c.lower.lookup(l.Path)
		if err == nil && n != nil && sameSpecial(&n.stat.Entry, &f.Entry) && c.gone(l.Path) {
			return l.Owner, true
		}
	}
	return Owner{}, false
}

// gone tells whether the writable side hides a name of the layers below.
func (c *changes) gone(name string) bool {
	at, opaque := fdPath(c.root), false
	parts := strings.Split(name, "/")
	for i, part := range parts {
		at += "/" + part
		var st unix.Stat_t
		if err := unix.Lstat(at, &st); err != nil {
			return opaque
		}
		kind := st.Mode & unix.S_IFMT
		if kind != unix.S_IFDIR {
			// At the end of the name it may be the link itself, changed.
			return i < len(parts)-1 || kind == unix.S_IFCHR && st.Rdev == 0
		}
		mark := make([]byte, 1)
		n, err := unix.Lgetxattr(at, c.mark+"opaque", mark)
		opaque = opaque || err == nil && n == 1 && mark[0] == 'y'
	}
	return true // a directory has its name
}

package rootfs

import (
	"context"

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

package edit

import (
	"context"
	"fmt"
	"slices"

	"nacre/internal/compare"
	"nacre/internal/imagefs"
	"nacre/internal/layer"
	"nacre/internal/rootfs"

	"golang.org/x/sys/unix"
)

// Conflict is a name that both the image and its new base have otherwise than the old base.
type Conflict struct {
	Name string // as in layer.Entry
	// Base is what the new base did to it, Image what the image did: "added", "changed" or "removed".
	Base, Image string
}

// ConflictError lists what the layers of an image would hide of its new base.
type ConflictError struct{ Conflicts []Conflict }

func (e *ConflictError) Error() string {
	return fmt.Sprintf("%v: %d files that the image has its own of differ between the two bases", ErrUnsafe, len(e.Conflicts))
}
func (e *ConflictError) Unwrap() error { return ErrUnsafe }

// maxConflicts is how many are listed: one is enough to refuse, and no one reads more.
const maxConflicts = 1000

// conflicts finds what the layers of p over its base was would hide of the base now: files that they changed or removed as they were in
// the one, and that are otherwise in the other.
func conflicts(ctx context.Context, ls *imagefs.Layers, p, was, now *Parts) ([]Conflict, error) {
	all, err := ls.Open(ctx, p.image())
	if err != nil {
		return nil, err
	}
	base, err := ls.Open(ctx, now.image())
	if err != nil {
		return nil, err
	}
	n := len(was.Config.RootFS.DiffIDs)
	c := &conflicting{
		ctx: ctx, old: rootfs.NewFS(all[:n]...), new: rootfs.NewFS(base...), whole: rootfs.NewFS(all...),
		o:    compare.RootOptions{SkipTimes: true, Shared: sharedLayers(was.Config.RootFS.DiffIDs, now.Config.RootFS.DiffIDs)},
		seen: map[string]bool{},
	}
	for _, l := range all[n:] {
		for st, err := range l.All() {
			if err == nil {
				err = ctx.Err()
			}
			if err == nil {
				err = c.entry(st)
			}
			if err != nil {
				return nil, err
			}
			if len(c.found) == maxConflicts {
				return c.sorted(), nil
			}
		}
	}
	return c.sorted(), nil
}

type conflicting struct {
	ctx             context.Context
	old, new, whole *rootfs.FS
	o               compare.RootOptions
	seen            map[string]bool // of what was found: the same name may be in several layers
	found           []Conflict
}

func (c *conflicting) sorted() []Conflict {
	slices.SortFunc(c.found, func(a, b Conflict) int {
		switch {
		case layer.Less(a.Name, b.Name):
			return -1
		case a.Name == b.Name:
			return 0
		}
		return 1
	})
	return c.found
}

// entry looks at one name that the image has over its base.
func (c *conflicting) entry(st *layer.Stat) error {
	if st.Name == "." || c.seen[st.Name] {
		return nil
	}
	old, err := c.old.Entry(st.Name)
	if err != nil {
		return err
	}
	base, err := c.new.Entry(st.Name)
	if err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR && !st.Whiteout {
		return c.directory(st, old, base)
	}
	if base == nil && (old == nil || st.Whiteout) {
		return nil // nothing to hide, or gone on both sides
	}
	return c.file(st, old, base)
}

// file compares what is no directory, or is removed.
func (c *conflicting) file(st, old, base *layer.Stat) error {
	same, err := c.same(c.old, c.new, old, base)
	if err != nil || same {
		return err
	}
	mine, err := c.whole.Entry(st.Name)
	if err != nil {
		return err
	}
	if same, err = c.same(c.whole, c.new, mine, base); err != nil || same {
		return err // both did the same
	}
	c.add(st, old, base, mine)
	return nil
}

// directory: what the new base has in its place must be a directory too, and where the image has its own
// owner and mode, the bases must not differ in theirs. One that hides all below it must hide the same.
func (c *conflicting) directory(st, old, base *layer.Stat) error {
	if base == nil {
		return nil
	}
	if base.Mode&unix.S_IFMT != unix.S_IFDIR || st.Opaque && !st.Implicit {
		return c.file(st, old, base)
	}
	if st.Implicit || old == nil || base.Implicit || old.Implicit {
		return nil
	}
	if alike(old, base) || alike(st, base) {
		return nil
	}
	c.add(st, old, base, st)
	return nil
}

// alike tells whether two directories are of the same owner and mode.
func alike(a, b *layer.Stat) bool { return a.Mode == b.Mode && a.UID == b.UID && a.GID == b.GID }

// same tells whether a name is the same in two roots, with all below it.
func (c *conflicting) same(a, b *rootfs.FS, sa, sb *layer.Stat) (bool, error) {
	if sa == nil || sb == nil {
		return sa == sb, nil
	}
	o := c.o
	if a != c.old {
		o.Shared = 0
	}
	for _, err := range compare.Below(c.ctx, a, b, sa.Name, o) {
		return false, err
	}
	return true, nil
}

func (c *conflicting) add(st, old, base, mine *layer.Stat) {
	c.seen[st.Name] = true
	c.found = append(c.found, Conflict{st.Name, did(old, base), did(old, mine)})
}

// did says what became of old.
func did(old, now *layer.Stat) string {
	switch {
	case now == nil:
		return "removed"
	case old == nil:
		return "added"
	}
	return "changed"
}

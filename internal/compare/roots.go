package compare

import (
	"context"
	"fmt"
	"io/fs"
	"iter"
	"path"
	"strings"

	"nacre/internal/layer"
	"nacre/internal/rootfs"

	"golang.org/x/sys/unix"
)

// Change is a name that is otherwise in two roots.
type Change struct {
	Name string       // as in layer.Entry
	A, B *layer.Stat  // what has it in each; nil: nothing
	What []Difference // between A and B, where there are both
}

// RootOptions say what of two roots is compared.
type RootOptions struct {
	SkipTimes bool
	// Shared is how many layers at the bottom of both roots are the same: what comes from these alone is not looked at.
	Shared int
	// Want tells what of a name is wanted; nil: everything.
	Want func(name string) Part
}

// Part is what is wanted of a name.
type Part int

// The parts.
const (
	Nothing Part = iota
	Inside       // of a directory: something in it may be wanted, itself is not
	All          // itself, and it is asked again for what is in it
)

// Roots yields what differs between two roots, in their canonical order of names. Content is compared as it is read;
// of directories no more is kept than what is in those on the way, of files one name for each that has several. Names of one file
// are told among those that are looked at. Errors are those of reading, and end it.
func Roots(ctx context.Context, a, b *rootfs.FS, o RootOptions) iter.Seq2[Change, error] {
	return Below(ctx, a, b, ".", o)
}

// Below is Roots of one name and what is below it.
func Below(ctx context.Context, a, b *rootfs.FS, name string, o RootOptions) iter.Seq2[Change, error] {
	return func(yield func(Change, error) bool) {
		r := &roots{ctx: ctx, a: a, b: b, o: o, yield: yield, firstA: map[uint64]string{}, firstB: map[uint64]string{}}
		sa, err := a.Entry(name)
		if err == nil {
			var sb *layer.Stat
			if sb, err = b.Entry(name); err == nil {
				r.pair(name, sa, sb)
				return
			}
		}
		yield(Change{}, err)
	}
}

type roots struct {
	ctx   context.Context
	a, b  *rootfs.FS
	o     RootOptions
	yield func(Change, error) bool
	// The first name of files that have several, of names in both roots, by Stat.Ino.
	firstA, firstB map[uint64]string
}

// pair compares what has a name in the roots; false: enough.
func (r *roots) pair(name string, sa, sb *layer.Stat) bool {
	part := All
	if r.o.Want != nil {
		part = r.o.Want(name)
	}
	dirA, dirB := isDir(sa), isDir(sb)
	if part == Nothing {
		return true
	}
	linkA, linkB := r.links(name, sa, sb)
	if linkA == linkB && r.shared(name, sa, sb) {
		return true
	}
	if err := r.ctx.Err(); err != nil {
		return r.yield(Change{}, err)
	}
	if part == All {
		c, err := r.change(name, sa, sb, linkA, linkB)
		if err != nil {
			r.yield(Change{}, err)
			return false
		}
		if c != nil && !r.yield(*c, nil) {
			return false
		}
	}
	if !dirA && !dirB {
		return true
	}
	return r.directory(name, dirA, dirB)
}

func isDir(s *layer.Stat) bool { return s != nil && s.Mode&unix.S_IFMT == unix.S_IFDIR }

// shared tells whether two objects are one, of a layer that both roots have, with all below.
func (r *roots) shared(name string, sa, sb *layer.Stat) bool {
	if r.o.Shared == 0 || sa == nil || sb == nil || sa.Ino != sb.Ino {
		return false
	}
	if isDir(sa) {
		return r.a.Within(name, r.o.Shared) && r.b.Within(name, r.o.Shared)
	}
	return rootfs.LayerOf(sa) < r.o.Shared
}

// links is the first name of the file that has a name in both roots, in each; empty where this is the first, or the only one.
// What has a name in one root alone changes nothing for the others.
func (r *roots) links(name string, sa, sb *layer.Stat) (linkA, linkB string) {
	if sa == nil || sb == nil || isDir(sa) || isDir(sb) {
		return "", ""
	}
	return first(r.firstA, sa, name), first(r.firstB, sb, name)
}

func first(seen map[uint64]string, s *layer.Stat, name string) string {
	if s.Nlink < 2 {
		return ""
	}
	if of, ok := seen[s.Ino]; ok {
		return of
	}
	seen[s.Ino] = name
	return ""
}

// change is what differs of a name itself, which is a link of others in each root; nil: nothing.
func (r *roots) change(name string, sa, sb *layer.Stat, linkA, linkB string) (*Change, error) {
	c := &Change{Name: name, A: sa, B: sb}
	if sa == nil && sb == nil {
		return nil, nil
	}
	if sa == nil || sb == nil {
		return c, nil
	}
	if linkA != linkB {
		c.What = append(c.What, Difference{Name: name, What: Link, First: linkA, Second: linkB})
	}
	if sa.Ino == sb.Ino && rootfs.LayerOf(sa) < r.o.Shared {
		if len(c.What) == 0 {
			return nil, nil
		}
		return c, nil
	}
	x, y := *sa, *sb
	x.Name, y.Name = name, name
	if isDir(sa) && (x.Implicit || y.Implicit) {
		x.ModTime = y.ModTime // of one that no layer names there is none
	}
	if x.Size != y.Size && x.Mode&unix.S_IFMT == unix.S_IFREG && y.Mode&unix.S_IFMT == unix.S_IFREG {
		c.What = append(c.What, Difference{Name: name, What: Size, First: fmt.Sprint(x.Size), Second: fmt.Sprint(y.Size)})
	}
	list, err := entries(r.a, r.b, &x, &y, Options{SkipTimes: r.o.SkipTimes})
	if c.What = append(c.What, list...); err != nil || len(c.What) == 0 {
		return nil, err
	}
	return c, nil
}

// directory compares what is in a directory that one or both of the roots have.
func (r *roots) directory(name string, inA, inB bool) bool {
	was, err := listing(r.a, name, inA)
	if err == nil {
		var is []fs.DirEntry
		if is, err = listing(r.b, name, inB); err == nil {
			return r.merge(name, was, is)
		}
	}
	r.yield(Change{}, err)
	return false
}

func listing(f *rootfs.FS, name string, there bool) ([]fs.DirEntry, error) {
	if !there {
		return nil, nil
	}
	return f.ReadDir(name)
}

// merge walks two sorted lists of one directory side by side.
func (r *roots) merge(dir string, was, is []fs.DirEntry) bool {
	for len(was) > 0 || len(is) > 0 {
		order := 0
		switch {
		case len(is) == 0:
			order = -1
		case len(was) == 0:
			order = 1
		default:
			order = strings.Compare(was[0].Name(), is[0].Name())
		}
		var sa, sb *layer.Stat
		var err error
		base := ""
		if order <= 0 {
			base = was[0].Name()
			sa, err = statOf(was[0])
			was = was[1:]
		}
		if order >= 0 && err == nil {
			base = is[0].Name()
			sb, err = statOf(is[0])
			is = is[1:]
		}
		if err != nil {
			r.yield(Change{}, err)
			return false
		}
		if !r.pair(path.Join(dir, base), sa, sb) {
			return false
		}
	}
	return true
}

func statOf(d fs.DirEntry) (*layer.Stat, error) {
	info, err := d.Info()
	if err != nil {
		return nil, err
	}
	return info.Sys().(*layer.Stat), nil
}

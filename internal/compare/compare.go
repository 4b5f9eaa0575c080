// Package compare tells two layers, or two roots, apart, file by file, and two configs setting by setting. It turns them
// into the list of what differs, for people to read; what made them is left to others.
package compare

import (
	"context"
	"fmt"
	"io/fs"
	"iter"
	"maps"
	"slices"
	"strings"
	"time"

	"nacre/internal/layer"

	"golang.org/x/sys/unix"
)

// Difference is one thing about one name.
type Difference struct {
	Name string // as in layer.Entry
	What What
	Attr string // name of the extended attribute, with Attribute
	// First and Second are what the layers say, ready to be shown; empty where one has
	// nothing to say, as with a name that it does not have.
	First, Second string
	// Offset of the first byte that differs, and the line it is in, from 1; with Content only. Line is
	// 0 where the file is not text.
	Offset int64
	Line   int
}

// What is the sort of a difference.
type What string

const (
	Missing   What = "missing" // one of the layers does not have the name
	Type      What = "type"
	Content   What = "content"
	Size      What = "size"
	Mode      What = "mode"
	Owner     What = "owner"
	Time      What = "time"
	Target    What = "target" // of a symlink, or the other name of a hard link
	Link      What = "link"   // the first of the other names that a file has; of roots
	Device    What = "device"
	Attribute What = "attribute"
	Opaque    What = "opaque" // whether it hides what the layers below have in it
)

// Options say what to leave out.
type Options struct {
	SkipTimes bool
}

// Layers yields what differs between two layers, in their order of names. Errors are those of
// reading, and end it.
func Layers(ctx context.Context, a, b *layer.Layer, o Options) iter.Seq2[Difference, error] {
	return func(yield func(Difference, error) bool) {
		nextA, stopA := iter.Pull2(a.All())
		defer stopA()
		nextB, stopB := iter.Pull2(b.All())
		defer stopB()
		sa, errA, okA := nextA()
		sb, errB, okB := nextB()
		for okA || okB {
			for _, err := range []error{errA, errB, ctx.Err()} {
				if err != nil {
					yield(Difference{}, err)
					return
				}
			}
			order := 0
			switch {
			case !okB:
				order = -1
			case !okA:
				order = 1
			default:
				order = strings.Compare(sortable(sa.Name), sortable(sb.Name))
			}
			var list []Difference
			var err error
			switch order {
			case -1:
				list = []Difference{{Name: sa.Name, What: Missing, First: Kind(sa)}}
			case 1:
				list = []Difference{{Name: sb.Name, What: Missing, Second: Kind(sb)}}
			default:
				list, err = entries(a, b, sa, sb, o)
			}
			if err != nil {
				yield(Difference{}, err)
				return
			}
			for _, d := range list {
				if !yield(d, nil) {
					return
				}
			}
			if order <= 0 {
				sa, errA, okA = nextA()
			}
			if order >= 0 {
				sb, errB, okB = nextB()
			}
		}
	}
}

// sortable makes strings compare as layers sort names: what is in a directory right after it.
func sortable(name string) string {
	if name == "." {
		return ""
	}
	return strings.ReplaceAll(name, "/", "\x00")
}

// opener is what files are read from.
type opener interface {
	Open(name string) (fs.File, error)
}

// entries compares two objects of one name.
func entries(a, b opener, sa, sb *layer.Stat, o Options) ([]Difference, error) {
	var list []Difference
	add := func(what What, first, second string) {
		if first != second {
			list = append(list, Difference{Name: sa.Name, What: what, First: first, Second: second})
		}
	}
	if sa.Whiteout || sb.Whiteout || sa.Mode&unix.S_IFMT != sb.Mode&unix.S_IFMT || sa.Hard != sb.Hard {
		add(Type, Kind(sa), Kind(sb))
		return list, nil
	}
	add(Target, sa.Link, sb.Link)
	if sa.Hard {
		return list, nil // all else is said of its first name
	}
	if sa.Mode&unix.S_IFMT == unix.S_IFREG {
		d, err := contents(a, b, sa, sb)
		if err != nil {
			return nil, err
		}
		if d != nil {
			list = append(list, *d)
		}
	}
	add(Mode, fmt.Sprintf("%04o", sa.Mode&0o7777), fmt.Sprintf("%04o", sb.Mode&0o7777))
	add(Owner, fmt.Sprintf("%d:%d", sa.UID, sa.GID), fmt.Sprintf("%d:%d", sb.UID, sb.GID))
	add(Device, fmt.Sprintf("%d,%d", sa.Major, sa.Minor), fmt.Sprintf("%d,%d", sb.Major, sb.Minor))
	add(Opaque, yes(sa.Opaque), yes(sb.Opaque))
	for _, name := range attributes(sa, sb) {
		va, inA := sa.Xattrs[name]
		vb, inB := sb.Xattrs[name]
		if inA != inB || va != vb {
			list = append(list, Difference{Name: sa.Name, What: Attribute, Attr: name, First: value(name, va, inA), Second: value(name, vb, inB)})
		}
	}
	if !o.SkipTimes {
		add(Time, stamp(sa.ModTime), stamp(sb.ModTime))
	}
	return list, nil
}

func attributes(sa, sb *layer.Stat) []string {
	names := map[string]bool{}
	for name := range sa.Xattrs {
		names[name] = true
	}
	for name := range sb.Xattrs {
		names[name] = true
	}
	return slices.Sorted(maps.Keys(names))
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }

func yes(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

// value is that of an attribute, as shown; empty where it is not there.
func value(name, v string, there bool) string {
	if !there {
		return ""
	}
	if name == capabilityXattr {
		if text, ok := capabilities(v); ok {
			return text
		}
	}
	return fmt.Sprintf("%q", clip(v))
}

// Kind names what an entry is.
func Kind(s *layer.Stat) string {
	switch mode := s.FileMode(); {
	case s.Whiteout:
		return "deleted"
	case s.Hard:
		return "hard link"
	case mode.IsRegular():
		return "file"
	case mode.IsDir():
		return "directory"
	case mode&fs.ModeSymlink != 0:
		return "symlink"
	case mode&fs.ModeDevice != 0:
		return "device"
	case mode&fs.ModeNamedPipe != 0:
		return "named pipe"
	}
	return "socket"
}

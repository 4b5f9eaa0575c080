package source

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"hash"
	"maps"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
)

// sumVersion begins everything that is summed, so that a change of the rules below
// changes every sum.
const sumVersion = "nacre tree 1\n"

// Sum is one digest over everything at and below names, in the order given: names, types, modes,
// symlink targets, contents, extended attributes and which files are hard links of each other. Owners
// do not count, as COPY resets them; sockets neither, as it leaves them
// out. Times count where there is a notAfter, see SumOptions. Symlinks are not followed: who
// wants their target says so with Resolve.
func (t *Tree) Sum(ctx context.Context, names []string, notAfter *time.Time) (digest.Digest, error) {
	return t.sumEach(ctx, names, SumOptions{SkipOwner: true, NotAfter: notAfter})
}

// Each calls f with everything that Sum is over, in its order.
func (t *Tree) Each(ctx context.Context, names []string, notAfter *time.Time, f func(Object)) error {
	_, err := t.sumEach(ctx, names, SumOptions{SkipOwner: true, NotAfter: notAfter, Each: f})
	return err
}

// Object is what a sum sees of a file, apart from its owner.
type Object struct {
	Name string
	Mode uint32 // st_mode; 0: a hard link to an object before
	// Content is the sha256 of a regular file's content, or of what stands for it: where a link leads, which device it is.
	Content [32]byte
	Attr    [32]byte // a sha256 over extended attributes, and the time where it counts; zeros: none
}

func (t *Tree) sumEach(ctx context.Context, names []string, o SumOptions) (digest.Digest, error) {
	if err := t.Digests(ctx, names...); err != nil {
		return "", err
	}
	s := newSummer(o)
	for _, name := range names {
		n, err := t.lookup("sum", name)
		if err != nil {
			return "", err
		}
		if err := t.sum(ctx, s, n, cleanName(name)); err != nil {
			return "", err
		}
	}
	return s.digest(), nil
}

func (t *Tree) sum(ctx context.Context, s *summer, n *node, name string) error {
	r := record{
		name: name, mode: n.mode, digest: n.digest[:],
		dev: n.dev, ino: n.ino, nlink: n.nlink, size: n.size, mtime: n.mtime,
	}
	if n.ext != nil {
		r.link, r.rdev = n.ext.link, n.ext.rdev
	}
	if !n.has(knowsXattrs) || n.has(hasXattrs) {
		var err error
		if r.xattrs, err = t.xattrs(n, name); err != nil {
			return pathError("xattrs", name, err)
		}
	}
	s.add(&r)
	if !n.isDir() {
		return nil
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	d := n.ext.sub
	for i := range d.nodes {
		if err := t.sum(ctx, s, &d.nodes[i], d.join(d.nodes[i].name)); err != nil {
			return err
		}
	}
	return d.err
}

// record is what a sum sees of one object.
type record struct {
	name     string
	mode     uint32
	uid, gid int
	dev, ino uint64
	nlink    uint32
	size     int64
	rdev     uint64
	mtime    int64 // nanoseconds since 1970
	link     string
	digest   []byte // of the content of a regular file
	xattrs   map[string]string
}

// summer writes records into a hash in a form that cannot be read in two ways: every
// string has its length before it, every number has a fixed width.
type summer struct {
	opts  SumOptions
	h     hash.Hash
	buf   []byte
	links map[[2]uint64]string // first name of files with more than one
}

func newSummer(o SumOptions) *summer {
	return &summer{opts: o, h: sha256.New(), buf: append(make([]byte, 0, 64<<10), sumVersion...)}
}

func (s *summer) add(r *record) {
	kind := r.mode & unix.S_IFMT
	if kind == unix.S_IFSOCK {
		return
	}
	if len(s.buf) > 32<<10 {
		s.h.Write(s.buf)
		s.buf = s.buf[:0]
	}
	s.string(r.name)
	if kind != unix.S_IFDIR && r.nlink > 1 {
		id := [2]uint64{r.dev, r.ino}
		if first, ok := s.links[id]; ok {
			s.tell(&record{name: r.name, mode: 0, link: first})
			s.number(0) // no st_mode: a hard link
			s.string(first)
			return
		}
		if s.links == nil {
			s.links = map[[2]uint64]string{}
		}
		s.links[id] = r.name
	}
	s.tell(r)
	s.number(uint64(r.mode))
	if !s.opts.SkipOwner {
		s.number(uint64(r.uid))
		s.number(uint64(r.gid))
	}
	if limit := s.opts.NotAfter; limit != nil {
		s.number(uint64(min(nanoTime(r.mtime).Unix(), limit.Unix()))) // layers have whole seconds
	}
	switch kind {
	case unix.S_IFREG:
		s.number(uint64(r.size))
		s.buf = append(s.buf, r.digest...)
	case unix.S_IFLNK:
		s.string(r.link)
	case unix.S_IFBLK, unix.S_IFCHR:
		s.number(r.rdev)
	}
	s.number(uint64(len(r.xattrs)))
	if len(r.xattrs) == 0 {
		return
	}
	for _, name := range slices.Sorted(maps.Keys(r.xattrs)) {
		s.string(name)
		s.string(r.xattrs[name])
	}
}

// tell gives r to whoever wants to hear of it.
func (s *summer) tell(r *record) {
	if s.opts.Each == nil {
		return
	}
	o := Object{Name: r.name, Mode: r.mode}
	switch r.mode & unix.S_IFMT {
	case unix.S_IFREG:
		copy(o.Content[:], r.digest)
	case unix.S_IFDIR:
	case unix.S_IFBLK, unix.S_IFCHR:
		o.Content = sha256.Sum256(binary.BigEndian.AppendUint64(nil, r.rdev))
	default:
		o.Content = sha256.Sum256([]byte(r.link))
	}
	if len(r.xattrs) > 0 || s.opts.NotAfter != nil {
		a := summer{}
		if limit := s.opts.NotAfter; limit != nil {
			a.number(uint64(min(nanoTime(r.mtime).Unix(), limit.Unix())))
		}
		for _, name := range slices.Sorted(maps.Keys(r.xattrs)) {
			a.string(name)
			a.string(r.xattrs[name])
		}
		o.Attr = sha256.Sum256(a.buf)
	}
	s.opts.Each(o)
}

func (s *summer) number(n uint64) { s.buf = binary.BigEndian.AppendUint64(s.buf, n) }

func (s *summer) string(v string) {
	s.number(uint64(len(v)))
	s.buf = append(s.buf, v...)
}

func (s *summer) digest() digest.Digest {
	s.h.Write(s.buf)
	s.buf = s.buf[:0]
	return digest.NewDigest(digest.SHA256, s.h)
}

func cleanName(name string) string {
	if name == "" {
		return "."
	}
	return name
}

package copier

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strconv"
	"strings"
	"time"

	"nacre/internal/layer"

	"github.com/moby/patternmatcher"
	"github.com/opencontainers/go-digest"
	mode "github.com/tonistiigi/dchapes-mode"
	"golang.org/x/sys/unix"
)

// Options are the flags of COPY that change what is written.
type Options struct {
	// Owner of everything copied and of directories made on the way. nil keeps the source's, and
	// directories made belong to root.
	Owner *Owner
	// Chmod is an octal number or symbolic (chmod(1)); empty keeps the source's mode.
	Chmod   string
	Exclude []string // .dockerignore patterns, relative to each source directory
	// Include, where not empty, limits the copy to what matches, with the
	// directories above it (--parents).
	Include []string
	// Digest tells the sha256 of a source file where it is known, else "". nil: none is.
	Digest func(name string) digest.Digest
}

// ErrAbsent: a source is not there.
var ErrAbsent = errors.New("not found")

// Copy copies src (a name in t, not a pattern) to dest as COPY does: of a
// directory the contents; a file into dest where that is a directory or ends in a slash.
func (p *Plan) Copy(t Tree, src, dest string, o Options) error {
	c, err := newCopy(p, t, o)
	if err != nil {
		return err
	}
	from, info, err := c.source(src)
	if err != nil {
		return err
	}
	to, err := c.target(path.Base(src), info, dest)
	if err != nil {
		return err
	}
	return c.copy(from, "", to, info, false, patternmatcher.MatchInfo{}, patternmatcher.MatchInfo{})
}

// CopyInline writes data as a file called base in, or as, dest: a heredoc.
func (p *Plan) CopyInline(base string, data []byte, perm uint32, dest string, when time.Time, o Options) error {
	c, err := newCopy(p, nil, o)
	if err != nil {
		return err
	}
	e := layer.Entry{Mode: unix.S_IFREG | perm, Size: int64(len(data)), ModTime: when}
	to, err := c.target(base, &layer.Stat{Entry: e}, dest)
	if err != nil {
		return err
	}
	f := layer.File{Entry: e, Open: func() (io.ReadCloser, error) {
		return io.NopCloser(strings.NewReader(string(data))), nil
	}}
	return c.put(to, f, nil)
}

// copying is one source on its way.
type copying struct {
	*Plan
	tree             Tree
	o                Options
	include, exclude *patternmatcher.PatternMatcher
	perm             *uint32   // --chmod in octal
	change           *mode.Set // --chmod otherwise
	groups           map[uint64]*group
	pending          []pendingDir
}

// pendingDir is a directory that is only made once something in it is copied.
type pendingDir struct {
	from, to string
	stat     *layer.Stat
	made     bool
}

func newCopy(p *Plan, t Tree, o Options) (*copying, error) {
	c := &copying{Plan: p, tree: t, o: o, groups: map[uint64]*group{}}
	var err error
	if len(o.Include) > 0 {
		if c.include, err = patternmatcher.New(o.Include); err != nil {
			return nil, fmt.Errorf("invalid pattern in %q: %w", o.Include, err)
		}
	}
	if len(o.Exclude) > 0 {
		if c.exclude, err = patternmatcher.New(o.Exclude); err != nil {
			return nil, fmt.Errorf("invalid --exclude pattern in %q: %w", o.Exclude, err)
		}
	}
	if o.Chmod == "" {
		return c, nil
	}
	if n, err := strconv.ParseUint(o.Chmod, 8, 32); err == nil {
		if n > 0o7777 {
			return nil, fmt.Errorf("invalid --chmod %q: should be octal between 0 and 07777, or symbolic such as u=rwX,go=rX", o.Chmod)
		}
		perm := uint32(n)
		c.perm = &perm
		return c, nil
	}
	set, err := mode.ParseWithUmask(o.Chmod, 0)
	if err != nil {
		return nil, fmt.Errorf("invalid --chmod %q: should be octal between 0 and 07777, or symbolic such as u=rwX,go=rX", o.Chmod)
	}
	c.change = &set
	return c, nil
}

// source resolves a source name and tells what is there.
func (c *copying) source(src string) (string, *layer.Stat, error) {
	from, err := c.tree.Resolve(src)
	if err != nil {
		return "", nil, fmt.Errorf("/%s: %w", src, err)
	}
	info, err := c.tree.Lstat(from)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil, fmt.Errorf("/%s: %w", src, ErrAbsent)
	}
	if err != nil {
		return "", nil, err
	}
	return from, info.Sys().(*layer.Stat), nil
}

// target decides where a source goes and makes the directories above.
func (c *copying) target(base string, src *layer.Stat, dest string) (string, error) {
	owner, perm := Owner{}, uint32(0o755)
	if c.o.Owner != nil {
		owner = *c.o.Owner
	}
	if c.perm != nil {
		perm = *c.perm
	}
	ensure := dest
	if d, f := path.Split(dest); f != "" && f != "." {
		ensure = d
	}
	dir, err := c.resolve(ensure)
	if err != nil {
		return "", err
	}
	if err := c.mkdirAll(dir, perm, owner, src.ModTime); err != nil {
		return "", err
	}
	to, err := c.resolve(dest)
	if err != nil {
		return "", err
	}
	have, ok, err := c.lookup(to)
	if err != nil {
		return "", err
	}
	if !isDir(src.Mode) && ok && isDir(have.Mode) {
		to = join(to, base) // a symlink of that name is replaced, not followed
	}
	above := path.Dir(to)
	if isDir(src.Mode) && !ok {
		above = to
	}
	return to, c.mkdirAll(above, perm, owner, src.ModTime)
}

// copy copies one object and, for a directory, what is in it. rel is its name
// relative to the source, which patterns match; over tells whether metadata of
// a directory that is there already is replaced.
func (c *copying) copy(from, rel, to string, st *layer.Stat, over bool, inc, exc patternmatcher.MatchInfo) error {
	include, excluded := true, false
	var err error
	if rel != "" {
		if c.include != nil {
			if include, inc, err = c.include.MatchesUsingParentResults(rel, inc); err != nil {
				return err
			}
		}
		if c.exclude != nil {
			if excluded, exc, err = c.exclude.MatchesUsingParentResults(rel, exc); err != nil {
				return err
			}
		}
		include = include && !excluded
	} else if c.include != nil && isDir(st.Mode) {
		include = false // the source directory itself is where the copy starts, it matches nothing
	}
	if isDir(st.Mode) {
		return c.copyDir(from, rel, to, st, over, include, excluded, inc, exc)
	}
	if !include {
		return nil
	}
	if st.Mode&unix.S_IFMT == unix.S_IFSOCK {
		return nil // a layer cannot hold a socket
	}
	if err := c.makePending(); err != nil {
		return err
	}
	return c.put(to, c.file(from, st), c.groupOf(st))
}

func (c *copying) copyDir(from, rel, to string, st *layer.Stat, over, include, excluded bool, inc, exc patternmatcher.MatchInfo) error {
	c.pending = append(c.pending, pendingDir{from: from, to: to, stat: st, made: rel == ""})
	defer func() { c.pending = c.pending[:len(c.pending)-1] }()
	if include && rel != "" {
		if err := c.makePending(); err != nil {
			return err
		}
	}
	if rel == "" {
		if err := c.startDir(to, st, over); err != nil {
			return err
		}
	}
	if excluded && !c.exclude.Exclusions() {
		return nil
	}
	entries, err := c.tree.ReadDir(from)
	if err != nil {
		return err
	}
	for _, d := range entries {
		info, err := d.Info()
		if err != nil {
			return err
		}
		child := join(rel, d.Name())
		if err := c.copy(join(from, d.Name()), child, join(to, d.Name()), info.Sys().(*layer.Stat), true, inc, exc); err != nil {
			return err
		}
	}
	return nil
}

// startDir is for the directory the copy starts in: target has made it, or it was there.
func (c *copying) startDir(to string, st *layer.Stat, over bool) error {
	have, ok, err := c.lookup(to)
	if err != nil {
		return err
	}
	if ok && !isDir(have.Mode) {
		return fmt.Errorf("cannot copy a directory to /%s, which is not one", to)
	}
	if n := c.added[to]; n != nil && ok && !over {
		n.ModTime = st.ModTime
	}
	return nil
}

func (c *copying) makePending() error {
	for i := range c.pending {
		d := &c.pending[i]
		if d.made {
			continue
		}
		have, ok, err := c.lookup(d.to)
		if err != nil {
			return err
		}
		if ok && !isDir(have.Mode) {
			return fmt.Errorf("cannot copy directory %s to /%s, which is not one", d.from, d.to)
		}
		if err := c.Plan.put(d.to, &node{File: c.file(d.from, d.stat)}); err != nil {
			return err
		}
		d.made = true
	}
	return nil
}

// file is a source object with the owner and mode it is to have.
func (c *copying) file(from string, st *layer.Stat) layer.File {
	f := layer.File{Entry: st.Entry}
	f.Hard, f.Opaque, f.Whiteout = false, false, false
	f.Xattrs = keptXattrs(st.Xattrs)
	if isFile(st.Mode) && st.Size > 0 {
		t := c.tree
		f.Open = func() (io.ReadCloser, error) { return t.Open(from) }
		if c.o.Digest != nil {
			f.Digest = c.o.Digest(from)
		}
	}
	c.adjust(&f.Entry)
	return f
}

// capability is what docker's layers keep of extended attributes. Others are notes that
// programs make on the files of one machine (where a download came from, say).
const capability = "security.capability"

func keptXattrs(x map[string]string) map[string]string {
	value, ok := x[capability]
	if !ok {
		return nil
	}
	return map[string]string{capability: value}
}

// adjust applies --chown and --chmod.
func (c *copying) adjust(e *layer.Entry) {
	if c.o.Owner != nil {
		e.UID, e.GID = c.o.Owner.UID, c.o.Owner.GID
	}
	if isLink(e.Mode) {
		return
	}
	switch {
	case c.perm != nil:
		e.Mode = e.Mode&unix.S_IFMT | *c.perm
	case c.change != nil:
		e.Mode = e.Mode&unix.S_IFMT | layer.StMode(c.change.Apply(layer.FileMode(e.Mode)))&0o7777
	}
}

func (c *copying) groupOf(st *layer.Stat) *group {
	if st.Nlink < 2 {
		return nil
	}
	g := c.groups[st.Ino]
	if g == nil {
		g = &group{}
		c.groups[st.Ino] = g
	}
	return g
}

// put adds an object that is not a directory.
func (c *copying) put(to string, f layer.File, g *group) error {
	have, ok, err := c.lookup(to)
	if err != nil {
		return err
	}
	if ok && isDir(have.Mode) {
		return fmt.Errorf("cannot replace directory /%s with a file", to)
	}
	if c.tree == nil {
		c.adjust(&f.Entry)
	}
	return c.Plan.put(to, &node{File: f, group: g})
}

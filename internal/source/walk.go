package source

import (
	"cmp"
	"context"
	"errors"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/moby/patternmatcher"
	"golang.org/x/sys/unix"
)

// maxWorkers bounds the goroutines that walk and hash: beyond eight the
// kernel's locks on one directory tree eat what another one adds.
const maxWorkers = 8

func workers() int { return min(runtime.GOMAXPROCS(0), maxWorkers) }

// walker is one parallel walk: a stack of directories still to be read.
type walker struct {
	t     *Tree
	known *cacheFile

	mu      sync.Mutex
	wake    sync.Cond
	todo    []*node
	pending int // directories in todo or being read
	err     error

	ghosts atomic.Bool // there are nodes with onlyParent
	reused atomic.Int64
}

func (t *Tree) walk(ctx context.Context, known *cacheFile) error {
	var st unix.Stat_t
	if err := unix.Fstat(t.fd, &st); err != nil {
		return err
	}
	t.top.fill(&st)
	t.top.ext = &ext{sub: &dir{path: "."}}

	w := &walker{t: t, known: known, todo: []*node{&t.top}, pending: 1}
	w.wake.L = &w.mu
	var wg sync.WaitGroup
	for range workers() {
		wg.Go(func() { w.run(ctx) })
	}
	wg.Wait()
	if w.err != nil {
		return w.err
	}
	if err := t.top.ext.sub.err; err != nil {
		return err
	}
	if w.ghosts.Load() {
		prune(t.top.ext.sub)
	}
	t.reused = int(w.reused.Load())
	return nil
}

// run reads directories until there are no more.
func (w *walker) run(ctx context.Context) {
	s := &scratch{buf: make([]byte, 64<<10)}
	for {
		n := w.next()
		if n == nil {
			return
		}
		err := ctx.Err()
		var subs []*node
		if err == nil {
			subs = w.readDir(n, s)
		}
		w.done(subs, err)
	}
}

// next takes a directory off the stack, the newest first so that the stack stays small.
func (w *walker) next() *node {
	w.mu.Lock()
	defer w.mu.Unlock()
	for len(w.todo) == 0 && w.pending > 0 && w.err == nil {
		w.wake.Wait()
	}
	if len(w.todo) == 0 || w.err != nil {
		return nil
	}
	n := w.todo[len(w.todo)-1]
	w.todo = w.todo[:len(w.todo)-1]
	return n
}

func (w *walker) done(subs []*node, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.pending += len(subs) - 1
	w.todo = append(w.todo, subs...)
	if err != nil && w.err == nil {
		w.err = err
	}
	w.wake.Broadcast()
}

// readDir fills in what is in the directory n and returns its directories.
func (w *walker) readDir(n *node, s *scratch) []*node {
	d := n.ext.sub
	fd, err := openBelow(w.t.fd, d.path, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		d.err = pathError("open", d.path, err)
		return nil
	}
	defer unix.Close(fd)
	names, err := readNames(fd, s)
	if err != nil {
		d.err = pathError("read directory", d.path, err)
		return nil
	}
	n.set(knowsXattrs)
	if anyXattr(fd, s.buf) {
		n.set(hasXattrs)
	}
	if names, err = w.filter(d, names); err != nil {
		d.err = err
		return nil
	}
	slices.SortFunc(names, func(a, b dirent) int { return strings.Compare(a.name, b.name) })

	d.nodes = make([]node, len(names))
	if d.err = w.lstatAll(fd, d, names); d.err != nil {
		d.nodes = nil
		return nil
	}
	d.nodes = slices.DeleteFunc(d.nodes, func(c node) bool { return c.mode == 0 })
	var subs []*node
	for i := range d.nodes {
		if c := &d.nodes[i]; c.isDir() {
			subs = append(subs, c)
		}
	}
	return subs
}

// share is how much of one directory a goroutine describes: of very big directories several
// do a part each.
const share = 4096

// lstatAll fills d.nodes with what is known of names, leaving those zero that are gone.
func (w *walker) lstatAll(fd int, d *dir, names []dirent) error {
	parts := min((len(names)+share-1)/share, workers())
	if parts < 2 {
		return w.lstatSome(fd, d, names, d.nodes)
	}
	var wg sync.WaitGroup
	errs := make([]error, parts)
	for i := range parts {
		from, to := i*len(names)/parts, (i+1)*len(names)/parts
		wg.Go(func() { errs[i] = w.lstatSome(fd, d, names[from:to], d.nodes[from:to]) })
	}
	wg.Wait()
	return cmp.Or(errs...)
}

func (w *walker) lstatSome(fd int, d *dir, names []dirent, nodes []node) error {
	known := w.known.dir(d.path)
	reused := 0
	for i, e := range names {
		c := &nodes[i]
		switch err := lstat(fd, e, c); {
		case errors.Is(err, unix.ENOENT): // gone since its name was read
			*c = node{}
			continue
		case err != nil:
			return pathError("lstat", d.join(e.name), err)
		}
		switch {
		case c.isDir():
			c.ext = &ext{sub: &dir{path: d.join(e.name), match: e.match}}
		case c.isRegular() && known.take(c):
			reused++
		}
	}
	w.reused.Add(int64(reused))
	return nil
}

// filter drops what .dockerignore leaves out of the directory d, before anything is
// known of it but names and types.
func (w *walker) filter(d *dir, names []dirent) ([]dirent, error) {
	if w.t.ign == nil {
		return names, nil
	}
	kept := names[:0]
	for _, e := range names {
		name := d.join(e.name)
		ignored, match, err := w.t.ign.MatchesUsingParentResults(name, d.match)
		if err != nil {
			return nil, pathError("match", name, err)
		}
		isDir := e.kind == unix.DT_DIR || e.kind == unix.DT_UNKNOWN && w.isDir(name)
		if isDir {
			e.match = match
		}
		if ignored {
			if !isDir || w.t.ign.SkipDir(name) {
				continue
			}
			e.onlyParent = true
			w.ghosts.Store(true)
		}
		kept = append(kept, e)
	}
	d.match = patternmatcher.MatchInfo{}
	return kept, nil
}

// isDir is for file systems that do not tell types along with names.
func (w *walker) isDir(name string) bool {
	fd, err := openBelow(w.t.fd, name, unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return false
	}
	unix.Close(fd)
	return true
}

// lstat fills c with what is known of the entry e of the directory fd. A symlink in whose
// place something else is found when it is read is looked at anew; what never stays is as good as gone.
func lstat(fd int, e dirent, c *node) error {
	for range 100 {
		err := lstatOnce(fd, e, c)
		if !errors.Is(err, errReplaced) {
			return err
		}
		*c = node{}
	}
	return unix.ENOENT
}

// errReplaced: an entry was something else a moment ago.
var errReplaced = errors.New("replaced meanwhile")

func lstatOnce(fd int, e dirent, c *node) error {
	var st unix.Stat_t
	if err := lstatAt(fd, e.name, &st); err != nil {
		return err
	}
	c.name = e.name
	c.fill(&st)
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
	case unix.S_IFDIR:
	case unix.S_IFLNK:
		link, err := readlinkAt(fd, e.name)
		if errors.Is(err, unix.EINVAL) { // no symlink any more
			return errReplaced
		}
		if err != nil {
			return err
		}
		c.ext = &ext{link: link}
		c.state = knowsXattrs // the kernel allows symlinks no user attributes
	case unix.S_IFBLK, unix.S_IFCHR:
		c.ext = &ext{rdev: st.Rdev}
		c.state = knowsXattrs // nor these, and opening a device can have effects
	default:
		c.state = knowsXattrs
	}
	if e.onlyParent {
		if !c.isDir() {
			return unix.ENOENT // what was a directory is a file now, and ignored
		}
		c.set(onlyParent)
	}
	return nil
}

// prune drops directories that are ignored and hold nothing that is not.
func prune(d *dir) {
	d.nodes = slices.DeleteFunc(d.nodes, func(n node) bool {
		if !n.isDir() {
			return false
		}
		sub := n.ext.sub
		prune(sub)
		return n.state&onlyParent != 0 && len(sub.nodes) == 0 && sub.err == nil
	})
}

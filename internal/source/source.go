// Package source turns a build context directory into a tree of files with content
// digests: seen through .dockerignore, walked once, hashed once.
//
// A Tree is what was there when OpenDir walked it. File contents are read later and
// checked against that walk, so a build either sees one state of its context
// or fails with ErrChanged; it never mixes two. Digests of unchanged files are
// remembered between processes in a stat cache (docs/formats.md).
//
// SumFS and GlobFS do the same for any file system of the same shape, such as
// the merged root of an image. What is copied where is the business of build.
package source

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"time"

	"github.com/moby/patternmatcher"
	"golang.org/x/sys/unix"
)

var (
	// ErrChanged is wrapped by errors about a file that is no longer what the walk
	// or the digest saw. The message names the file.
	ErrChanged = errors.New("file changed while the build was reading it")
	// ErrEscape is wrapped by errors about a symlink that leads out of the tree.
	ErrEscape = errors.New("leads outside the build context")
	// ErrLoop is wrapped by errors about a chain of more than 255 symlinks.
	ErrLoop = errors.New("too many levels of symbolic links")

	errNotRegular = errors.New("not a regular file")
)

// Ignore says what of a directory is not part of the context; *dockerfile.Matcher is one.
// It is called from several goroutines.
type Ignore interface {
	// MatchesUsingParentResults reports whether name (relative to the context, slash
	// separated) is left out. parent is what it returned for the directory name is in,
	// the zero value at the top.
	MatchesUsingParentResults(name string, parent patternmatcher.MatchInfo) (ignored bool, info patternmatcher.MatchInfo, err error)
	// SkipDir reports whether nothing below name, an ignored directory, can be part of the
	// context, so that it is not even read.
	SkipDir(name string) bool
}

// FS is what SumFS and GlobFS read. Tree is one; so is a merged image root.
// FileInfo.Sys is a *layer.Stat.
type FS interface {
	Lstat(name string) (fs.FileInfo, error)
	ReadDir(name string) ([]fs.DirEntry, error)
	ReadLink(name string) (string, error)
	Open(name string) (fs.File, error)
}

// DirOptions are those of OpenDir. The zero value takes in everything and remembers nothing.
type DirOptions struct {
	Ignore Ignore
	// StatCache is the file that remembers digests from one build to the next.
	// Empty: none. One that is missing, damaged or of another version counts as empty.
	StatCache string
	// Now is the clock that judges whether a file is too young to be remembered.
	// Default: time.Now.
	Now func() time.Time
	// Progress is told how far the hashing of files gets, by one goroutine at a time. May be nil.
	Progress func(Progress)
}

// Tree is a build context directory. It is safe for concurrent use.
type Tree struct {
	dir   string // as given, for messages
	fd    int    // of dir; -1 once closed
	top   node   // the directory itself: its ext.sub holds what is in it
	ign   Ignore
	began time.Time // when the walk began

	cache   string // file of the stat cache
	loaded  int    // records that were in it
	reused  int    // of those, the ones that still fit
	slow    bool   // timestamps of this file system are coarse or not ours
	hashing chan struct{}
	report  func(Progress)

	mu        sync.RWMutex // guards fd against Close
	numbersMu sync.Mutex
	numbers   map[[2]uint64]uint64 // made-up inode numbers by device and inode
	hashed    int                  // files whose digest was computed; guarded by hashing
}

// OpenDir walks dir, which may be a symlink to a directory, and hashes nothing yet.
// A directory below it that cannot be read fails only what asks for its contents.
func OpenDir(ctx context.Context, dir string, o DirOptions) (*Tree, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("build context: %w", &fs.PathError{Op: "open", Path: dir, Err: err})
	}
	t := &Tree{
		dir:     dir,
		fd:      fd,
		ign:     o.Ignore,
		began:   o.Now(),
		cache:   o.StatCache,
		slow:    coarseTimes(fd),
		hashing: make(chan struct{}, 1),
		report:  o.Progress,
	}
	known := loadCache(o.StatCache)
	t.loaded = known.len()
	if err := t.walk(ctx, known); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("build context %s: %w", dir, err)
	}
	return t, nil
}

// Close saves the stat cache, where there is news, and releases the directory.
// Its error means only that the next build will have to read more.
func (t *Tree) Close() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.fd < 0 {
		return nil
	}
	unix.Close(t.fd)
	t.fd = -1
	if t.cache == "" || t.hashed == 0 && t.loaded == t.reused {
		return nil
	}
	if err := t.saveCache(t.cache); err != nil {
		return fmt.Errorf("save stat cache: %w", err)
	}
	return nil
}

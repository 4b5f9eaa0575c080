package build

import (
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"nacre/internal/layer"
	"nacre/internal/rootfs"
)

// scratch is the folder that has the writable side of a step's root. One that a step left as it
// was serves the next step: file systems take longer to make and remove directories than to mount them.
type scratch struct {
	dir    string
	remove func()
	root   *layer.Stat // of the directory that is the root of the writable side
	clean  bool        // nothing was left there
}

// takeScratch gives a folder for a root over lower, until giveScratch.
func (s *solver) takeScratch(lower *rootfs.FS) (*scratch, error) {
	root := rootOf(lower)
	s.scratchMu.Lock()
	i := slices.IndexFunc(s.idle, func(f *scratch) bool { return reflect.DeepEqual(f.root, root) })
	if i >= 0 {
		f := s.idle[i]
		s.idle = slices.Delete(s.idle, i, i+1)
		s.scratchMu.Unlock()
		f.clean = false
		return f, nil
	}
	s.scratchMu.Unlock()
	dir, remove, err := s.Store.TempDir("run")
	return &scratch{dir: dir, remove: remove, root: root}, err
}

// giveScratch keeps what is clean for a later step, and has the rest removed while others run.
func (s *solver) giveScratch(f *scratch) {
	if !f.clean || f.root == nil {
		s.removing.Go(f.remove)
		return
	}
	s.scratchMu.Lock()
	s.idle = append(s.idle, f)
	s.scratchMu.Unlock()
}

// dropScratch removes what is kept, at the end.
func (s *solver) dropScratch() {
	s.removing.Wait()
	s.scratchMu.Lock()
	defer s.scratchMu.Unlock()
	for _, f := range s.idle {
		f.remove()
	}
	for _, t := range s.trees {
		s.dropTree(t)
	}
	s.idle, s.trees = nil, nil
}

// rootOf is the root directory of a file system; nil if that cannot be told.
func rootOf(lower *rootfs.FS) *layer.Stat {
	info, err := lower.Stat(".")
	if err != nil {
		return nil
	}
	st, _ := info.Sys().(*layer.Stat)
	return st
}

// unused tells whether a writable side without a name in it is as it was when it was made. Its time
// tells whether there ever were any.
func (f *scratch) unused(m rootfs.Mount) bool {
	info, err := os.Lstat(m.Upper)
	inside := func(l rootfs.Lower) bool {
		return strings.HasPrefix(l.Index+l.Dir, f.dir+string(filepath.Separator))
	}
	return err == nil && f.root != nil && info.ModTime().Equal(f.root.ModTime) && !slices.ContainsFunc(m.Lower, inside)
}

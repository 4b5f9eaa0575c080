package source

import (
	"io"
	"iter"

	"nacre/internal/layer"

	"github.com/opencontainers/go-digest"
)

// File is one object of a tree, ready to become part of a layer.
type File struct {
	*layer.Stat
	// Digest of the content of a regular file, empty while it is not known.
	Digest digest.Digest
	// Open returns the content of a regular file, checked as Tree.Open does;
	// nil for all else.
	Open func() (io.ReadCloser, error)
}

// Files yields everything at and below name in canonical order (parents first, siblings by
// their bytes), without following symlinks. It saves the look-up of each name.
func (t *Tree) Files(name string) iter.Seq2[File, error] {
	return func(yield func(File, error) bool) {
		n, err := t.lookup("walk", name)
		if err != nil {
			yield(File{}, err)
			return
		}
		t.files(n, cleanName(name), yield)
	}
}

func (t *Tree) files(n *node, name string, yield func(File, error) bool) bool {
	st, err := t.stat(n, name)
	if err != nil {
		yield(File{}, err)
		return false
	}
	f := File{Stat: st}
	if n.isRegular() {
		f.Digest = n.contentDigest()
		f.Open = func() (io.ReadCloser, error) { return t.openNode(name, n) }
	}
	if !yield(f, nil) {
		return false
	}
	if !n.isDir() {
		return true
	}
	d := n.ext.sub
	if d.err != nil {
		yield(File{}, d.err)
		return false
	}
	for i := range d.nodes {
		if !t.files(&d.nodes[i], d.join(d.nodes[i].name), yield) {
			return false
		}
	}
	return true
}

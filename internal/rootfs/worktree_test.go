package rootfs

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"nacre/internal/layer"
)

// newWorkTree is a tree with the layers of a chain.
func newWorkTree(t *testing.T, s *source, notes *[]string, ids ...digest.Digest) *WorkTree {
	t.Helper()
	w, err := NewWorkTree(t.TempDir(), func(text string) { *notes = append(*notes, text) })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	applyChain(t, s, w, 0, ids...)
	return w
}

// applyChain applies what follows the first n of a chain.
func applyChain(t *testing.T, s *source, w *WorkTree, n int, ids ...digest.Digest) {
	t.Helper()
	var layers []*layer.Layer
	for _, id := range ids[n:] {
		l, err := s.Layer(context.Background(), id)
		if err != nil {
			t.Fatal(err)
		}
		layers = append(layers, l)
	}
	if err := w.Apply(context.Background(), s.merged(ids...), layers...); err != nil {
		t.Fatal(err)
	}
}

func treeSnapshot(t *testing.T, w *WorkTree) snapshot {
	t.Helper()
	s, err := snapshotDir(w.Dir())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// placesOfAll are what is in each root while a program runs: over what is there, and where nothing is.
var placesOfAll = []Place{
	{Target: "/dev", Dir: true, Mode: 0o755}, {Target: "/dev/new/null", Data: []byte("n"), Mode: 0o666},
	{Target: "/proc", Dir: true, Mode: 0o555}, {Target: "/etc/hosts", Data: []byte("h"), Mode: 0o644},
	{Target: "/etc/passwd", Data: []byte("other"), Mode: 0o600, UID: 3}, {Target: "/made/for/this", Dir: true, Mode: 0o700},
}

// TestWorkTreeChanges: what is done in a tree makes a layer that makes the same of the chain, and
// the tree goes on from there.
func TestWorkTreeChanges(t *testing.T) {
	s := newSource(t, false)
	base := changesBase(s)
	for _, c := range changesCases {
		t.Run(c.name, func(t *testing.T) {
			if c.name == "mount points" || c.name == "path longer than any layer takes" {
				return // there are none; and the test cannot read it
			}
			c.runInTree(t, s, base)
		})
	}
}

func (c changesCase) runInTree(t *testing.T, s *source, base []digest.Digest) {
	ctx := context.Background()
	var notes []string
	w := newWorkTree(t, s, &notes, base...)
	if err := w.settled(); err != nil {
		t.Fatal(err)
	}
	if err := c.do(root(w.Dir())); err != nil {
		t.Fatal(err)
	}
	want := treeSnapshot(t, w)
	var changed []string
	id, err := s.write(listed(w.Changes(ctx, s.merged(base...)), &changed))
	if c.wantErr != "" {
		if err == nil || !strings.Contains(err.Error(), c.wantErr) {
			t.Fatalf("error %.300v, want one with %q", err, c.wantErr)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	if c.changed != nil && !slices.Equal(changed, c.changed) {
		t.Errorf("changed %q, want %q", changed, c.changed)
	}
	if err := w.Settle(nil); err != nil {
		t.Fatal(err)
	}
	checkNotes(t, notes, c.notes)
	chain := append(slices.Clone(base), id)
	got, err := snapshotFS(s.merged(chain...))
	if err != nil {
		t.Fatal(err)
	}
	same(t, "merged", c.forget(got), c.forget(want))
	same(t, "the tree", c.forget(treeSnapshot(t, w)), c.forget(want))
	w.nothingChanged(t, s, chain)
}

// nothingChanged runs a program that does nothing.
func (w *WorkTree) nothingChanged(t *testing.T, s *source, chain []digest.Digest) {
	t.Helper()
	before := treeSnapshot(t, w)
	if err := w.Place(placesOfAll); err != nil {
		t.Fatal(err)
	}
	if err := w.Restore(); err != nil {
		t.Fatal(err)
	}
	same(t, "after placing", treeSnapshot(t, w), before)
	var names []string
	for f, err := range w.Changes(context.Background(), s.merged(chain...)) {
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, f.Name)
	}
	if len(names) > 0 && !slices.Equal(names, []string{"."}) {
		t.Errorf("nothing was done, and %q changed", names)
	}
}

// TestWorkTreeApply: a tree of a chain is what mounting the chain shows, from whatever part of the chain it was taken on.
func TestWorkTreeApply(t *testing.T) {
	s := newSource(t, false)
	chain := changesBase(s)
	chain = append(chain,
		s.add(file("d", "a file now"), dir("hl"), file("hl/a", "apart"), whiteout("usr")),
		s.add(dir("d"), file("d/again", ""), opaque("own"), symlink("etc", "own"), hardPair("p", "q")[0], hardPair("p", "q")[1], file("some/where/deep", "i")),
	)
	for n := range len(chain) {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			var notes []string
			w := newWorkTree(t, s, &notes, chain[:n]...)
			applyChain(t, s, w, n, chain...)
			want, err := snapshotFS(s.merged(chain...))
			if err != nil {
				t.Fatal(err)
			}
			same(t, "tree", treeSnapshot(t, w), want)
			checkNotes(t, notes, nil)
			w.nothingChanged(t, s, chain)
		})
	}
}

func hardPair(a, b string) []layer.File { return []layer.File{file(a, a), hard(b, a)} }

// TestWorkTreeNotAfter: what a layer made earlier is earlier in the tree, too, and is no change then.
func TestWorkTreeNotAfter(t *testing.T) {
	s := newSource(t, false)
	base := changesBase(s)
	var notes []string
	w := newWorkTree(t, s, &notes, base...)
	if err := w.settled(); err != nil {
		t.Fatal(err)
	}
	r := root(w.Dir())
	if err := all(r.write("d/new", "n"), os.Link(r.p("d/new"), r.p("usr/new")), os.Symlink("x", r.p("d/l")), os.Mkdir(r.p("deep/dir"), 0o700)); err != nil {
		t.Fatal(err)
	}
	limit := time.Unix(1_000_000_000, 0)
	files := func(yield func(layer.File, error) bool) {
		for f, err := range w.Changes(context.Background(), s.merged(base...)) {
			if f.ModTime.After(limit) {
				f.ModTime = limit
			}
			if !yield(f, err) {
				return
			}
		}
	}
	id, err := s.write(files)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Settle(&limit); err != nil {
		t.Fatal(err)
	}
	chain := append(slices.Clone(base), id)
	want, err := snapshotFS(s.merged(chain...))
	if err != nil {
		t.Fatal(err)
	}
	same(t, "tree", treeSnapshot(t, w), want)
	w.nothingChanged(t, s, chain)
}

// TestWorkTreeDisguise: a file that is written to is a change, whatever is put back of what can be.
func TestWorkTreeDisguise(t *testing.T) {
	s := newSource(t, false)
	base := changesBase(s)
	for _, c := range []struct {
		name string
		do   func(r root) error
		want string
	}{
		{"same size and time", func(r root) error { return disguised(r.p("d/one"), os.WriteFile(r.p("d/one"), []byte("X"), 0o644)) }, "d/one"},
		{"another file of that time", func(r root) error {
			err := all(r.write("d/tmp", "X"), os.Rename(r.p("d/tmp"), r.p("d/one")))
			return all(disguised(r.p("d/one"), err), os.Chtimes(r.p("d"), time.Time{}, then))
		}, "d/one"},
		{"one name of several", func(r root) error { return disguised(r.p("hl/b"), os.WriteFile(r.p("hl/b"), []byte("LINKED"), 0o644)) }, "hl/b"},
		{"one name of several, another being removed", func(r root) error {
			return all(disguised(r.p("hl/b"), os.WriteFile(r.p("hl/b"), []byte("LINKED"), 0o644)), os.Remove(r.p("hl/a")))
		}, "hl/b"},
		{"an attribute", func(r root) error { return unix.Lsetxattr(r.p("hl/c"), "user.a", []byte("1"), 0) }, "hl/c"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var notes []string
			w := newWorkTree(t, s, &notes, base...)
			if err := all(w.settled(), c.do(root(w.Dir()))); err != nil {
				t.Fatal(err)
			}
			want := treeSnapshot(t, w)
			var changed []string
			id, err := s.write(listed(w.Changes(context.Background(), s.merged(base...)), &changed))
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Contains(changed, c.want) {
				t.Errorf("%q is not among %q", c.want, changed)
			}
			got, err := snapshotFS(s.merged(append(slices.Clone(base), id)...))
			if err != nil {
				t.Fatal(err)
			}
			same(t, "merged", got, want)
		})
	}
}

// disguised gives a file the time that all of a chain have in tests.
func disguised(name string, err error) error {
	return all(err, os.Chtimes(name, time.Time{}, then))
}

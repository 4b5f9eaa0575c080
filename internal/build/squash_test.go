package build

import (
	"context"
	"errors"
	"io/fs"
	"strings"
	"testing"

	"nacre/internal/registry"
	"nacre/internal/rootfs"
)

func TestSquash(t *testing.T) {
	b := newBench(t, map[string]string{"a": "a", "b": "b", "d/one": "1", "d/two": "2", "d/e/deep": "deep"})
	ref, err := registry.ParseRef("base")
	if err != nil {
		t.Fatal(err)
	}
	b.opts.Names = []registry.Ref{ref}
	b.build("FROM scratch\nCOPY a /a\nCOPY d /d\nCOPY a /kept/a\n")
	b.opts.Names = nil
	text := "FROM base\nCOPY b /d/e/new\nCOPY --chmod=600 b /d/one\nCOPY b /d/gone\nLABEL x=y\nCOPY a /late\n"
	plain := b.build(text)
	b.opts.Squash = true
	squashed := b.build(text)
	if again := b.build(text); again.Config != squashed.Config {
		t.Error("squashed again it is another image")
	}
	layers := func(o outcome) (n, history int) {
		m, _, err := b.store.Manifest(context.Background(), o.Image, nil)
		if err != nil {
			t.Fatal(err)
		}
		cfg, _, err := b.store.Config(context.Background(), m.Config)
		if err != nil {
			t.Fatal(err)
		}
		return len(m.Layers), len(cfg.History)
	}
	n, history := layers(plain)
	if sn, sh := layers(squashed); n != 7 || sn != 4 || sh != history+1 {
		t.Errorf("%d layers became %d, %d entries of history %d", n, sn, history, sh)
	}
	p, s := b.root(plain), b.root(squashed)
	seen := 0
	for f, err := range rootfs.Flatten(p) {
		if err != nil {
			t.Fatal(err)
		}
		seen++
		st := statOf(t, s, f.Name)
		if st.Mode != f.Mode || st.Size != f.Size || !st.ModTime.Equal(f.ModTime) {
			t.Errorf("%s is %+v, want %+v", f.Name, st.Entry, f.Entry)
		}
	}
	for range rootfs.Flatten(s) {
		seen--
	}
	if seen != 0 {
		t.Errorf("the number of files differs by %d", seen)
	}
	if b.read(squashed, "d/one") != "b" || b.read(squashed, "d/e/deep") != "deep" {
		t.Error("contents differ")
	}
}

// TestDifference: what goes is whited out, directories on the way come along, and nothing else.
func TestDifference(t *testing.T) {
	b := newBench(t, map[string]string{"x/y/f": "f", "x/y/g": "g", "z": "z"})
	base := b.build("FROM scratch\nCOPY . /\n")
	m, _, err := b.store.Manifest(context.Background(), base.Image, nil)
	if err != nil {
		t.Fatal(err)
	}
	cfg, _, err := b.store.Config(context.Background(), m.Config)
	if err != nil {
		t.Fatal(err)
	}
	full, err := Root(context.Background(), b.store, cfg.RootFS.DiffIDs)
	if err != nil {
		t.Fatal(err)
	}
	empty, err := Root(context.Background(), b.store, nil)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for f, err := range rootfs.Difference(full, full) {
		names = append(names, f.Name)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
	}
	if len(names) != 0 {
		t.Errorf("no difference is %q", names)
	}
	for f, err := range rootfs.Difference(full, empty) {
		if err != nil {
			t.Fatal(err)
		}
		if !f.Whiteout {
			t.Errorf("%s is not whited out", f.Name)
		}
		names = append(names, f.Name)
	}
	if got := strings.Join(names, " "); got != "Dockerfile x z" {
		t.Errorf("gone is %q", got)
	}
}

// TestSquashNew: a directory that the base does not have, and no base at all.
func TestSquashNew(t *testing.T) {
	b := newBench(t, map[string]string{"f": "x"})
	b.opts.Squash = true
	out := b.build("FROM scratch\nCOPY f /new/dir/f\nCOPY f /new/g\n")
	if got := b.read(out, "new/dir/f") + b.read(out, "new/g"); got != "xx" {
		t.Errorf("got %q", got)
	}
}

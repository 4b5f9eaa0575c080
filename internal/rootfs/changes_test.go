package rootfs

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"nacre/internal/layer"
)

// changesBase is what the cases of TestChanges start from: three layers, so that
// directories are merged from several.
func changesBase(s *source) []digest.Digest {
	return []digest.Digest{
		s.add(dir("."), dir("etc"), file("etc/passwd", "root:x:0:0\n"), file("etc/hosts", "h"),
			dir("d"), file("d/one", "1"), file("d/two", "2"), dir("d/sub"), file("d/sub/three", "3"), symlink("d/link", "one"),
			dir("usr"), dir("usr/bin"), mode(file("usr/bin/tool", "tool"), 0o755), attr(file("usr/bin/ping", "ping"), "security.capability", capNetBind),
			dir("hl"), file("hl/a", "linked"), hard("hl/b", "hl/a"), hard("hl/c", "hl/a"),
			dir("dev"), device("dev/null", unix.S_IFCHR, 1, 3), device("dev/pipe", unix.S_IFIFO, 0, 0),
			dir("deep"), dir("deep/er"), file("deep/er/f", "f"), mode(owned(dir("own"), 7, 8), 0o2750), file("own/f", "f"),
			attr(attr(file("x", "x"), "user.a", "1"), "trusted.b", "2"), attr(dir("xd"), "user.dir", "d"), symlink("loop", "loop"), symlink("abs", "/d"),
		),
		s.add(dir("d"), file("d/upper", "u"), file("d/two", "two again"), dir("d/sub"), file("d/sub/four", "4"), whiteout("etc/hosts"), dir("gone"), file("gone/x", "")),
		s.add(whiteout("gone"), opaque("deep"), file("deep/new", "n"), file("own/implied", "i")),
	}
}

// A changesCase is something done in a mounted root.
type changesCase struct {
	name string
	do   func(r root) error
	// notes are parts of what is noted; none may be.
	notes []string
	// wantErr is part of the error of writing the layer.
	wantErr string
	// changed is the names of the layer, where that is of interest ("-x" for a
	// whiteout, "x/" for a directory, "x//" for an opaque one).
	changed []string
	// unlike is what no layer can keep, dropped from the comparison.
	unlike []string
	// linked are names of one file, which overlay shows with two inode numbers when it
	// is copied up in order to be linked.
	linked []string
	// noTar is why a tar cannot say it.
	noTar string
}

// root is the path of a mounted root.
type root string

func (r root) p(name string) string { return filepath.Join(string(r), name) }

func (r root) write(name, content string) error {
	return os.WriteFile(r.p(name), []byte(content), 0o644)
}

// all runs steps in turn.
func all(steps ...error) error { return errors.Join(steps...) }

var changesCases = slices.Concat(treeCases, metaCases, extremeCases)

// TestChanges does each case in a mounted root, makes a layer of what changed, and
// compares what the layer makes of the chain with what the root was.
func TestChanges(t *testing.T) {
	eachForm(t, func(t *testing.T, form Form, s *source) {
		base := changesBase(s)
		for _, c := range changesCases {
			t.Run(c.name, func(t *testing.T) { c.run(t, form, s, base) })
		}
	})
}

func (c changesCase) run(t *testing.T, form Form, s *source, base []digest.Digest) {
	m := s.prepare(form, false, base...)
	var want snapshot
	mounted(t, m, func(r string) error {
		if err := c.do(root(r)); err != nil {
			return err
		}
		var err error
		want, err = snapshotDir(r)
		return err
	})
	var notes []string
	o := ChangesOptions{Skip: skipped, Note: func(text string) { notes = append(notes, text) }}
	var changed []string
	id, err := s.write(listed(Changes(context.Background(), m, s.merged(base...), o), &changed))
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
	checkNotes(t, notes, c.notes)
	checkConsumed(t, s, m, base, id)
	c.compare(t, form, s, append(slices.Clone(base), id), want)
}

// listed passes files on and notes their names.
func listed(files iter.Seq2[layer.File, error], names *[]string) iter.Seq2[layer.File, error] {
	return func(yield func(layer.File, error) bool) {
		for f, err := range files {
			name := f.Name
			switch {
			case f.Whiteout:
				name = "-" + name
			case f.Opaque:
				name += "//"
			case f.Mode&unix.S_IFMT == unix.S_IFDIR:
				name += "/"
			}
			*names = append(*names, name)
			if !yield(f, err) {
				return
			}
		}
	}
}

func checkNotes(t *testing.T, got, want []string) {
	t.Helper()
	if len(got) != len(want) {
		t.Errorf("notes %q, want %q", got, want)
		return
	}
	for i := range want {
		if !strings.Contains(got[i], want[i]) {
			t.Errorf("note %q, want %q in it", got[i], want[i])
		}
	}
}

// compare looks at the chain in every way there is.
func (c changesCase) compare(t *testing.T, form Form, s *source, chain []digest.Digest, want snapshot) {
	c.forget(want)
	for _, name := range c.linked {
		want[name], _, _ = strings.Cut(want[name], " =")
	}
	groups{"": c.linked}.apply(want)
	got, err := snapshotFS(s.merged(chain...))
	if err != nil {
		t.Fatal(err)
	}
	same(t, "merged", c.forget(got), want)

	mounted(t, s.prepare(form, true, chain...), func(r string) error {
		got, err := snapshotDir(r)
		if err == nil {
			same(t, "mounted again", c.forget(got), want)
		}
		return err
	})

	if form == Index && c.noTar == "" {
		got, err := s.applied(chain...)
		if err != nil {
			t.Fatal(err)
		}
		same(t, "applied by tar", c.forget(got), want)
	}
}

// forget drops from s what the case says no layer can keep.
func (c changesCase) forget(s snapshot) snapshot {
	for _, u := range c.unlike {
		delete(s, u)
		for name, line := range s {
			s[name] = strings.ReplaceAll(line, " "+u, "")
		}
	}
	return s
}

// applied applies the tars of a chain to a directory by no code of ours: GNU tar,
// and for whiteouts the rules of the OCI image specification.
func (s *source) applied(ids ...digest.Digest) (snapshot, error) {
	dir := filepath.Join(s.scratch(), "applied")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, err
	}
	for _, id := range ids {
		if err := applyTar(filepath.Join(s.LayerDir(id), dataName), dir); err != nil {
			return nil, fmt.Errorf("layer %s: %w", id, err)
		}
	}
	return snapshotDir(dir)
}

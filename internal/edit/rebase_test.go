package edit

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"nacre/internal/image"
	"nacre/internal/imagefs"
	"nacre/internal/registry/mem"
	"nacre/internal/registry/registrytest"
)

// entries makes a layer of words: "name=content", "name/" (with :MODE), "name->target", "-name" (deleted) and "name/!" (opaque).
func entries(t *testing.T, words string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, word := range strings.Fields(words) {
		h := &tar.Header{Mode: 0o644, ModTime: time.Unix(1000, 0)}
		content := ""
		if name, mode, ok := strings.Cut(word, ":"); ok {
			word = name
			if _, err := fmt.Sscanf(mode, "%o", &h.Mode); err != nil {
				t.Fatal(err)
			}
		} else if strings.HasSuffix(word, "/") {
			h.Mode = 0o755
		}
		switch {
		case strings.HasPrefix(word, "-"):
			dir, base, ok := strings.Cut(word[1:], "/")
			if h.Name = ".wh." + dir; ok {
				h.Name = dir + "/.wh." + base
			}
		case strings.HasSuffix(word, "/!"):
			h.Name = strings.TrimSuffix(word, "!") + ".wh..wh..opq"
		case strings.HasSuffix(word, "/"):
			h.Name, h.Typeflag = word, tar.TypeDir
		case strings.Contains(word, "->"):
			h.Name, h.Linkname, _ = strings.Cut(word, "->")
			h.Typeflag = tar.TypeSymlink
		default:
			h.Name, content, _ = strings.Cut(word, "=")
			h.Size = int64(len(content))
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, content); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestConflicts: what the layers of an image would hide of a new base is found, and nothing else.
func TestConflicts(t *testing.T) {
	for _, c := range []struct{ name, old, new, image, want string }{
		{"nothing in common", "a=1 b=1", "a=2 b=1", "c=1", ""},
		{"the same in both bases", "a=1 d/b=1", "a=1 d/b=1 x=1", "a=2 -d/b", ""},
		{"changed in both", "a=1", "a=2", "a=3", "a: changed, changed"},
		{"changed in both to the same", "a=1", "a=2", "a=2", ""},
		{"touched", "a=1", "a=2", "a=1", "a: changed, changed"},
		{"added in both", "", "d/a=2", "d/a=3", "d/a: added, added"},
		{"gone in both", "a=1 b=1", "b=1", "-a", ""},
		{"gone here, changed there", "d/a=1", "d/a=2", "-d/a", "d/a: removed, changed"},
		{"changed here, gone there", "d/a=1", "d/b=1", "d/a=2", "d/a: changed, removed"},
		{"whited out, never there, new there", "b=1", "b=1 a=1", "-a", "a: removed, added"},
		{"mode alone", "a=1", "a=1:600", "a=2", "a: changed, changed"},
		{"folders merge", "d/ d/a=1", "d/ d/b=1", "d/ d/c=1", ""},
		{"a folder's mode", "d/ d/a=1", "d/:700 d/a=1", "d/ d/c=1", "d: changed, changed"},
		{"a folder's mode, not named", "d/ d/a=1", "d/:700 d/a=1", "d/c=1", ""},
		{"a folder becomes a symlink", "bin/ bin/a=1", "usr/bin/a=1 bin->usr/bin", "bin/b=1", "bin: changed, changed"},
		{"a symlink in both", "bin->usr/bin", "bin->usr/bin x=1", "bin/b=1", ""},
		{"a file becomes a folder", "a=1", "a/b=1", "a=2", "a: changed, changed"},
		{"emptied", "d/ d/a=1", "d/ d/a=1 x=1", "d/ d/! d/c=1", ""},
		{"emptied, new there", "d/ d/a=1", "d/ d/a=1 d/b=1", "d/ d/! d/c=1", "d: changed, changed"},
		{"symlinks", "l->a", "l->b", "l->c", "l: changed, changed"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := mem.New()
			old, base, mine := entries(t, c.old), entries(t, c.new), entries(t, c.image)
			s := push(t, r, registrytest.NewImage(amd64, [][]byte{old, mine}, image.TypeLayerGzip))
			o := RebaseOptions{Old: push(t, r, registrytest.NewImage(amd64, [][]byte{old}, image.TypeLayerGzip)), New: push(t, r, registrytest.NewImage(amd64, [][]byte{base}, image.TypeLayerGzip))}
			o.Layers = imagefs.New(t.TempDir(), imagefs.Options{})
			defer o.Layers.Close()
			e := New(s)
			d, err := e.Apply(t.Context(), Options{}, e.Rebase(o))
			var list []string
			if found := (*ConflictError)(nil); errors.As(err, &found) {
				for _, x := range found.Conflicts {
					list = append(list, fmt.Sprintf("%s: %s, %s", x.Name, x.Image, x.Base))
				}
			} else if err != nil {
				t.Fatal(err)
			} else if p := arrived(t, e, d); len(p.Manifest.Layers) != 2 {
				t.Errorf("%d layers", len(p.Manifest.Layers))
			}
			if got := strings.Join(list, "; "); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

// TestRebaseDocker: layers of a base with other media types get those of the image.
func TestRebaseDocker(t *testing.T) {
	r := mem.New()
	a, b, c := entries(t, "a=1"), entries(t, "b=1"), entries(t, "c=1")
	for _, types := range [][2]string{{image.TypeDockerLayerGzip, image.TypeLayerGzip}, {image.TypeLayerGzip, image.TypeDockerLayerGzip}} {
		s := push(t, r, registrytest.NewImage(amd64, [][]byte{a, b}, types[0]))
		e := New(s)
		d, err := e.Apply(t.Context(), Options{}, e.Rebase(RebaseOptions{
			Old: push(t, r, registrytest.NewImage(amd64, [][]byte{a}, types[0])), New: push(t, r, registrytest.NewImage(amd64, [][]byte{c, a}, types[1])),
		}))
		if err != nil {
			t.Fatal(err)
		}
		p := arrived(t, e, d)
		if len(p.Manifest.Layers) != 3 || d.MediaType != s.Desc.MediaType {
			t.Fatalf("%s: %v", d.MediaType, p.Manifest.Layers)
		}
		for _, l := range p.Manifest.Layers {
			if l.MediaType != types[0] {
				t.Errorf("%s in an image of %s", l.MediaType, types[0])
			}
		}
	}
}

// TestRebaseSame: onto the base that it is on it stays the same.
func TestRebaseSame(t *testing.T) {
	r := mem.New()
	s := push(t, r, newImage(amd64, "a", "1", "b", "1"))
	base := push(t, r, newImage(amd64, "a", "1"))
	e := New(s)
	if d, err := e.Apply(t.Context(), Options{}, e.Rebase(RebaseOptions{Old: base, New: base})); err != nil || d.Digest != s.Desc.Digest {
		t.Errorf("%s, %v; want %s", d.Digest, err, s.Desc.Digest)
	}
}

func TestOver(t *testing.T) {
	lines := func(s string) (list []image.History) { // capitals have a layer
		for _, c := range s {
			list = append(list, image.History{CreatedBy: string(c), EmptyLayer: c >= 'a'})
		}
		return list
	}
	for _, c := range []struct {
		have, base   string
		layers, want int
		over         string
	}{
		{"AbCdE", "AbC", 2, 3, "dE"}, {"AbCdE", "A", 1, 3, "bCdE"}, {"AbCdE", "", 1, 3, "bCdE"}, {"AbCdE", "AbCd", 2, 3, "E"}, {"aBC", "", 0, 2, "aBC"}, {"AB", "AB", 2, 2, ""}, {"A", "Ab", 1, 1, ""},
	} {
		p, base := &Parts{}, &Parts{}
		p.Config.History, base.Config.History = lines(c.have), lines(c.base)
		for range c.want {
			p.Config.RootFS.DiffIDs = append(p.Config.RootFS.DiffIDs, "x")
		}
		for range c.layers {
			base.Config.RootFS.DiffIDs = append(base.Config.RootFS.DiffIDs, "x")
		}
		got := ""
		for _, h := range p.over(base) {
			got += h.CreatedBy
		}
		if got != c.over {
			t.Errorf("%s over %s with %d layers: %q, want %q", c.have, c.base, c.layers, got, c.over)
		}
	}
}

func TestMergeEnv(t *testing.T) {
	for _, c := range [][4]string{
		{"A=1 B=1", "A=1", "A=2 C=3", "A=2 C=3 B=1"}, {"A=9", "A=1", "A=2", "A=9"}, {"B=1", "A=1", "A=2", "B=1"}, {"A=1", "A=1", "", ""}, {"A=1", "", "A=2", "A=1"}, {"", "", "A=2", "A=2"},
	} {
		if got := strings.Join(mergeEnv(strings.Fields(c[0]), strings.Fields(c[1]), strings.Fields(c[2])), " "); got != c[3] {
			t.Errorf("%v: %s", c, got)
		}
	}
}

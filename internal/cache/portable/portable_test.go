package portable_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"nacre/internal/cache"
	"nacre/internal/cache/cachetest"
	"nacre/internal/cache/portable"
	"nacre/internal/image"
	"nacre/internal/registry"
	"nacre/internal/registry/lazy"
	"nacre/internal/registry/mem"
	"nacre/internal/registry/registrytest"
	"nacre/internal/registry/store"

	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
)

const base = "/home/me/src\x00Dockerfile"

var ref = registry.Ref{Repo: "localhost/cache", Tag: "latest"}

func openStore(t testing.TB) *store.Store {
	t.Helper()
	s, err := store.Open(context.Background(), t.TempDir(), store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// makeLayer gives a store a layer of one file.
func makeLayer(t testing.TB, s *store.Store, name string) cache.Output {
	t.Helper()
	b := registrytest.NewBlob(image.TypeLayer, registrytest.Tar(name, "content of "+name))
	if err := registrytest.Push(context.Background(), s, "", b); err != nil {
		t.Fatal(err)
	}
	info, err := s.LayerInfo(context.Background(), b.Digest)
	if err != nil {
		t.Fatal(err)
	}
	return cache.Output{DiffID: b.Digest, Content: info.Content, Created: time.Unix(1e9, 5).UTC(), Size: info.FileBytes}
}

func rec(slot string, values ...string) cache.Record {
	h := cache.NewHash("test/1", slot)
	for i, v := range values {
		h.Add(fmt.Sprint("field", i), v)
	}
	return h.Sum()
}

// lazily are the layers of a store, and what can be had.
func lazily(t testing.TB, s *store.Store) *lazy.Layers {
	t.Helper()
	l, err := s.Lease(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Release() })
	return lazy.New(s, l.Layer, registry.CopyOptions{})
}

// layers are those of a store, uncompressed.
type layers struct{ *store.Store }

func (l layers) Blob(ctx context.Context, d digest.Digest) (registry.Descriptor, error) {
	info, err := l.LayerInfo(ctx, d)
	return registry.Descriptor{MediaType: image.TypeLayer, Digest: d, Size: info.Size}, err
}

// exported is what a build left that made two steps: the first twice, by both keys.
func exported(t testing.TB, dst registry.Writer) (recs []cache.Record, outs []cache.Output) {
	t.Helper()
	ctx := context.Background()
	s := openStore(t)
	r := portable.NewRecorder(s.Cache())
	outs = []cache.Output{makeLayer(t, s, "a"), makeLayer(t, s, "b")}
	recs = []cache.Record{rec(base+"\x00\x001", "def"), rec(base+"\x00\x001", "content", "\xff\n"), rec("http\x00url", "x")}
	recs[0].Note = []byte("what explains it")
	for i, rec := range recs {
		if err := r.Put(ctx, rec, outs[i/2]); err != nil {
			t.Fatal(err)
		}
	}
	entries, err := r.Entries(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := portable.Export(ctx, dst, ref, layers{s}, portable.Contents{Entries: entries}, base, registry.CopyOptions{}); err != nil {
		t.Fatal(err)
	}
	return recs, outs
}

func TestRoundTrip(t *testing.T) {
	ctx := t.Context()
	m := mem.New()
	recs, outs := exported(t, m)
	s := openStore(t)
	missing := lazily(t, s)
	c, err := portable.Import(ctx, s.Cache(), missing, portable.From{Registry: m, Ref: ref}, "/elsewhere\x00Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	if _, ok, err := c.Get(ctx, rec("", "another").Key); ok || err != nil {
		t.Errorf("a key that nobody put: %v, %v", ok, err)
	}
	if note, ok, err := c.Note(ctx, recs[0].Key); err != nil || !ok || string(note) != "what explains it" {
		t.Errorf("note: %q, %v, %v", note, ok, err)
	}
	if list, err := c.Earlier(ctx, "/elsewhere\x00Dockerfile\x00", 10); err != nil || len(list) != 2 {
		t.Errorf("earlier: %v, %v", list, err)
	}
	for i, rec := range recs {
		out, ok, err := c.Get(ctx, rec.Key)
		if err != nil || !ok || out != outs[i/2] {
			t.Errorf("record %d: got %+v, %v, %v", i, out, ok, err)
		}
		if _, ok, err := s.Cache().Get(ctx, rec.Key); ok != (i == 1) || err != nil { // the layer of 1 came for 0
			t.Errorf("record %d without its layer is in the local cache: %v, %v", i, ok, err)
		}
		if err := missing.Need(ctx, out.DiffID); err != nil {
			t.Fatal(err)
		}
		if out, ok, err = s.Cache().Get(ctx, rec.Key); err != nil || !ok || out != outs[i/2] {
			t.Errorf("record %d is not in the local cache: %+v, %v, %v", i, out, ok, err)
		}
	}
	if note, ok, err := s.Cache().Note(ctx, recs[0].Key); err != nil || !ok || string(note) != "what explains it" {
		t.Errorf("note in the local cache: %q, %v, %v", note, ok, err)
	}
	if rec, ok, err := c.Nearest(ctx, "/elsewhere\x00Dockerfile\x00\x001"); err != nil || !ok || rec.Slot != "/elsewhere\x00Dockerfile\x00\x001" {
		t.Errorf("nearest: %+v, %v, %v", rec, ok, err)
	}
}

// TestFetchedWhenNeeded: a hit brings no layer along. What needs it has it fetched, and no other.
func TestFetchedWhenNeeded(t *testing.T) {
	ctx := t.Context()
	m := mem.New()
	recs, outs := exported(t, m)
	s := openStore(t)
	missing := lazily(t, s)
	c, err := portable.Import(ctx, s.Cache(), missing, portable.From{Registry: m, Ref: ref}, base)
	if err != nil {
		t.Fatal(err)
	}
	has := func(i int) bool {
		_, err := s.LayerInfo(ctx, outs[i].DiffID)
		return err == nil
	}
	for _, rec := range recs {
		if _, ok, err := c.Get(ctx, rec.Key); !ok || err != nil {
			t.Fatal(ok, err)
		}
	}
	if has(0) || has(1) {
		t.Errorf("hits fetched layers: %v, %v", has(0), has(1))
	}
	if err := missing.Need(ctx, outs[1].DiffID); err != nil {
		t.Fatal(err)
	}
	if has(0) || !has(1) {
		t.Errorf("needing one layer fetched: %v, %v; want the second alone", has(0), has(1))
	}
}

// TestNoPlace: where a build was is nobody's business.
func TestNoPlace(t *testing.T) {
	m := mem.New()
	exported(t, m)
	d, err := m.Resolve(t.Context(), ref)
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := registrytest.Get(t.Context(), m, ref.Repo, d)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := image.ParseManifest(manifest)
	if err != nil {
		t.Fatal(err)
	}
	config, err := registrytest.Get(t.Context(), m, ref.Repo, parsed.Config)
	if err != nil {
		t.Fatal(err)
	}
	z, err := zstd.NewReader(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	if config, err = z.DecodeAll(config, nil); err != nil {
		t.Fatal(err)
	}
	if both := append(manifest, config...); bytes.Contains(both, []byte("/home/me")) || !bytes.Contains(both, []byte("http")) {
		t.Errorf("the folder of the build is in it, or nothing at all: %s", both)
	}
}

// TestRecorderSecondKey: a step that hit by its first key brings its second along.
func TestRecorderSecondKey(t *testing.T) {
	ctx := t.Context()
	s := openStore(t)
	out := makeLayer(t, s, "a")
	first, second, alien := rec("slot", "first"), rec("slot", "second"), rec("another build", "x")
	for _, r := range []cache.Record{first, second, alien} {
		if err := s.Cache().Put(ctx, r, out); err != nil {
			t.Fatal(err)
		}
	}
	r := portable.NewRecorder(s.Cache())
	if _, ok, err := r.Get(ctx, first.Key); !ok || err != nil {
		t.Fatal(ok, err)
	}
	entries, err := r.Entries(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		got = append(got, e.Slot+" "+e.Fields[1].Value)
		if e.Output != out {
			t.Errorf("output is %+v", e.Output)
		}
	}
	if text := strings.Join(got, ", "); text != "slot first, slot second" && text != "slot second, slot first" {
		t.Errorf("got %s; the other build's record is not this one's to give away", text)
	}
	if entries, err = r.Entries(ctx, []digest.Digest{}); err != nil || len(entries) > 0 {
		t.Errorf("of no layers: %v, %v", entries, err)
	}
}

// liar gives another layer's blob for every layer but one.
type liar struct {
	layers
	honest, given digest.Digest
}

func (l liar) Blob(ctx context.Context, d digest.Digest) (registry.Descriptor, error) {
	if d != l.honest {
		d = l.given
	}
	return l.layers.Blob(ctx, d)
}

// TestLies: a layer that is gone, or is not what the config says, is lost when it is needed, and then makes a miss.
func TestLies(t *testing.T) {
	ctx := t.Context()
	from := openStore(t)
	a, b, c := makeLayer(t, from, "a"), makeLayer(t, from, "b"), makeLayer(t, from, "c")
	entries := []cache.Entry{{Record: rec("1", "gone"), Output: a}, {Record: rec("2", "whole"), Output: b}}
	for name, blobs := range map[string]portable.Layers{"gone": layers{from}, "another": liar{layers{from}, b.DiffID, c.DiffID}} {
		t.Run(name, func(t *testing.T) {
			m := mem.New()
			if _, err := portable.Export(ctx, m, ref, blobs, portable.Contents{Entries: entries}, base, registry.CopyOptions{}); err != nil {
				t.Fatal(err)
			}
			if name == "gone" {
				if err := m.Delete(ctx, ref.Repo, a.DiffID); err != nil {
					t.Fatal(err)
				}
			}
			s := openStore(t)
			missing := lazily(t, s)
			c, err := portable.Import(ctx, s.Cache(), missing, portable.From{Registry: m, Ref: ref, Name: "there"}, base)
			if err != nil {
				t.Fatal(err)
			}
			if _, ok, err := c.Get(ctx, entries[0].Key); !ok || err != nil {
				t.Errorf("before anyone knows: %v, %v", ok, err)
			}
			err = missing.Need(ctx, a.DiffID, b.DiffID)
			lost, ok := errors.AsType[*lazy.LostError](err)
			if !ok || lost.DiffID != a.DiffID || !strings.Contains(err.Error(), "from there") {
				t.Fatalf("need: %v", err)
			}
			missing.Lose(a.DiffID)
			if _, ok, err := c.Get(ctx, entries[0].Key); ok || err != nil {
				t.Errorf("after the loss: %v, %v", ok, err)
			}
			if err := c.Put(ctx, entries[0].Record, a); !errors.Is(err, registry.ErrAbsent) {
				t.Errorf("put after the loss: %v", err)
			}
			if _, ok, err := c.Get(ctx, entries[1].Key); !ok || err != nil {
				t.Errorf("the step beside it: %v, %v", ok, err)
			}
		})
	}
}

func TestForeign(t *testing.T) {
	ctx := t.Context()
	m := mem.New()
	s := openStore(t)
	if _, err := portable.Import(ctx, s.Cache(), lazily(t, s), portable.From{Registry: m, Ref: ref}, base); !errors.Is(err, registry.ErrAbsent) {
		t.Errorf("none: %v", err)
	}
	registrytest.Put(t, m, ref, registrytest.Hello("x"))
	if _, err := portable.Import(ctx, s.Cache(), lazily(t, s), portable.From{Registry: m, Ref: ref}, base); !errors.Is(err, portable.ErrFormat) {
		t.Errorf("an image: %v", err)
	}
}

// TestConform: with or without another behind it, a cache is a cache.
func TestConform(t *testing.T) {
	cachetest.Conform(t, func(t testing.TB) cachetest.Subject {
		s, m := openStore(t), mem.New()
		exported(t, m)
		c, err := portable.Import(context.Background(), s.Cache(), lazily(t, s), portable.From{Registry: m, Ref: ref}, base)
		if err != nil {
			t.Fatal(err)
		}
		return cachetest.Subject{
			Cache: portable.NewRecorder(c),
			Layer: func(t testing.TB, name string) cache.Output { return makeLayer(t, s, "conform-"+name) },
			Drop: func(t testing.TB, out cache.Output) {
				if err := os.RemoveAll(s.LayerDir(out.DiffID)); err != nil {
					t.Fatal(err)
				}
			},
		}
	})
}

package store_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"nacre/internal/image"
	"nacre/internal/registry"
	"nacre/internal/registry/registrytest"
	"nacre/internal/registry/store"

	"github.com/opencontainers/go-digest"
)

// gzipForm compresses a layer with the standard library.
func gzipForm(s *store.Store, diffID digest.Digest) store.FormSource {
	return func(_ context.Context, w *store.FormWriter) (digest.Digest, map[string]string, error) {
		data, err := os.ReadFile(filepath.Join(s.LayerDir(diffID), "layer.tar"))
		if err != nil {
			return "", nil, err
		}
		z := gzip.NewWriter(w)
		_, err = z.Write(data)
		return "", map[string]string{"note": "a form"}, errors.Join(err, z.Close())
	}
}

// remadeOf is the manifest src with form f for its only layer, and a config of its own.
func remadeOf(ctx context.Context, s *store.Store, src registry.Descriptor, f store.Form) (config, manifest []byte, err error) {
	rc, err := s.Open(ctx, "", src)
	if err != nil {
		return nil, nil, err
	}
	defer rc.Close()
	data, err := io.ReadAll(rc)
	if err != nil {
		return nil, nil, err
	}
	m, err := image.ParseManifest(data)
	if err != nil {
		return nil, nil, err
	}
	if _, config, err = s.Config(ctx, m.Config); err != nil {
		return nil, nil, err
	}
	config = append(config, ' ')
	m.Config = image.Describe(image.TypeConfig, config)
	m.Layers = []registry.Descriptor{f.Desc}
	manifest, err = image.Marshal(m)
	return config, manifest, err
}

func makeForm(t testing.TB, s *store.Store, diffID digest.Digest) (store.Form, bool) {
	t.Helper()
	l, err := s.Lease(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	f, made, err := s.MakeForm(t.Context(), l, diffID, "test", gzipLayer, gzipForm(s, diffID))
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Release(); err != nil {
		t.Fatal(err)
	}
	return f, made
}

func blobThere(t testing.TB, s *store.Store, d digest.Digest) bool {
	t.Helper()
	ok, err := s.Has(t.Context(), "", registry.Descriptor{Digest: d})
	if err != nil {
		t.Fatal(err)
	}
	return ok
}

// TestFormLives follows a compressed form: made once, dropped by a prune, made again the same, gone with its layer.
func TestFormLives(t *testing.T) {
	root := t.TempDir()
	s := openAt(t, root, store.Options{})
	info := made(t, s, nil, "x")
	img := put(t, s, 0, []string{"built"}, info)
	f, first := makeForm(t, s, info.DiffID)
	if again, second := makeForm(t, s, info.DiffID); !first || second || again.Desc.Digest != f.Desc.Digest {
		t.Errorf("made %v, made again %v, as %v and %v", first, second, f, again)
	}
	if f.DiffID != info.DiffID || f.Desc.MediaType != gzipLayer {
		t.Errorf("form %+v", f)
	}
	if got, err := s.FormOf(t.Context(), f.Desc.Digest); err != nil || got.Layer != info.DiffID || got.Desc.Annotations["note"] != "a form" {
		t.Errorf("by its blob: %+v, %v", got, err)
	}
	config, manifest, err := remadeOf(t.Context(), s, img.Target, f)
	if err != nil {
		t.Fatal(err)
	}
	d, err := s.KeepRemade(t.Context(), img.Target.Digest, "test", config, manifest)
	if err != nil {
		t.Fatal(err)
	}
	u, err := s.Usage(t.Context(), false)
	if err != nil {
		t.Fatal(err)
	}
	if u.Forms.Total != 1 || u.Forms.Reclaimable == 0 || u.Forms.Size <= u.Forms.Reclaimable || u.Unused.Size != 0 {
		t.Errorf("usage: compressed %+v, unused %+v", u.Forms, u.Unused)
	}
	s.Close()

	s = openAt(t, root, store.Options{})
	if _, err := s.Prune(t.Context(), store.PruneOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(root, "blobs/sha256", f.Desc.Digest.Encoded())); err == nil {
		t.Error("a prune left the compressed form")
	}
	if got, err := s.Remade(t.Context(), img.Target.Digest, "test"); err != nil || got.Digest != d.Digest {
		t.Errorf("after the prune the manifest was remade as %v, %v", got, err)
	}
	if got, err := s.Form(t.Context(), info.DiffID, "test"); err != nil || got.Desc.Digest != f.Desc.Digest {
		t.Errorf("what the form was is forgotten: %v", err)
	}
	wantSound(t, s)
	if again, second := makeForm(t, s, info.DiffID); !second || again.Desc.Digest != f.Desc.Digest {
		t.Errorf("made again: %v, %v", second, again)
	}
	wantSound(t, s)
	s.Close()

	s = openAt(t, root, store.Options{})
	if _, _, err := s.Remove(t.Context(), "built", store.RemoveOptions{}); err != nil {
		t.Fatal(err)
	}
	if names, err := os.ReadDir(filepath.Join(root, "blobs/sha256")); err != nil || len(names) > 0 {
		t.Errorf("left behind: %v, %v", names, err)
	}
	for _, d := range []digest.Digest{f.Desc.Digest, d.Digest, digest.FromBytes(config)} {
		if blobThere(t, s, d) {
			t.Errorf("%s is left", d)
		}
	}
	if _, err := s.Form(t.Context(), info.DiffID, "test"); !errors.Is(err, registry.ErrAbsent) {
		t.Errorf("the record outlives its layer: %v", err)
	}
	wantSound(t, s)
}

// TestFormOfImage: a form that an image refers to, because the image was pulled after all, is no cache.
func TestFormOfImage(t *testing.T) {
	root := t.TempDir()
	s := openAt(t, root, store.Options{})
	info := made(t, s, nil, "x")
	img := put(t, s, 0, []string{"built"}, info)
	f, _ := makeForm(t, s, info.DiffID)
	config, manifest, err := remadeOf(t.Context(), s, img.Target, f)
	if err != nil {
		t.Fatal(err)
	}
	d, err := s.KeepRemade(t.Context(), img.Target.Digest, "test", config, manifest)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Tag(t.Context(), registrytest.Ref("pulled"), d); err != nil {
		t.Fatal(err)
	}
	s.Close()
	s = openAt(t, root, store.Options{})
	if _, _, err := s.Remove(t.Context(), "built", store.RemoveOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := dropCache(t.Context(), s, time.Time{}); err != nil {
		t.Fatal(err)
	}
	pulled, err := s.Lookup(t.Context(), "pulled")
	if err != nil {
		t.Fatal(err)
	}
	if err := usable(t.Context(), s, pulled); err != nil {
		t.Error(err)
	}
	if !blobThere(t, s, f.Desc.Digest) {
		t.Error("the blob of an image was pruned")
	}
	wantSound(t, s)
}

// TestFormListed: an index may list, as found elsewhere, what an image here was sent as and whose forms are pruned.
func TestFormListed(t *testing.T) {
	root := t.TempDir()
	s := openAt(t, root, store.Options{})
	info := made(t, s, nil, "x")
	img := put(t, s, 0, []string{"built"}, info)
	f, _ := makeForm(t, s, info.DiffID)
	config, manifest, err := remadeOf(t.Context(), s, img.Target, f)
	if err != nil {
		t.Fatal(err)
	}
	d, err := s.KeepRemade(t.Context(), img.Target.Digest, "test", config, manifest)
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
	s = openAt(t, root, store.Options{})
	if _, err := s.Prune(t.Context(), store.PruneOptions{}); err != nil {
		t.Fatal(err)
	}
	if blobThere(t, s, f.Desc.Digest) {
		t.Fatal("the form was not pruned")
	}
	index, _, err := image.AssembleIndex([]registry.Descriptor{d}, nil)
	if err != nil {
		t.Fatal(err)
	}
	origin := store.Origin{Digest: d.Digest, Ref: registrytest.Ref("localhost:5000/sent:1")}
	if _, err := s.PutIndex(t.Context(), index, registrytest.Ref("list"), []store.Origin{origin}); err != nil {
		t.Error(err)
	}
	wantSound(t, s)
	if _, _, err := s.Remove(t.Context(), "built", store.RemoveOptions{}); err != nil {
		t.Fatal(err)
	}
	wantSound(t, s)
}

// TestFormOnce has many ask for one form in several stores of one root.
func TestFormOnce(t *testing.T) {
	root := t.TempDir()
	info := made(t, openAt(t, root, store.Options{}), nil, "x")
	var runs atomic.Int32
	var wg sync.WaitGroup
	for range 4 {
		s := openAt(t, root, store.Options{})
		for range 3 {
			wg.Go(func() {
				l, err := s.Lease(t.Context())
				if err != nil {
					t.Error(err)
					return
				}
				_, _, err = s.MakeForm(t.Context(), l, info.DiffID, "test", gzipLayer, func(ctx context.Context, w *store.FormWriter) (digest.Digest, map[string]string, error) {
					runs.Add(1)
					return gzipForm(s, info.DiffID)(ctx, w)
				})
				if err != nil {
					t.Error(err)
				}
			})
		}
	}
	wg.Wait()
	if runs.Load() != 1 {
		t.Errorf("compressed %d times", runs.Load())
	}
}

// TestFormFails: a source that fails leaves nothing, and one after it succeeds.
func TestFormFails(t *testing.T) {
	root := t.TempDir()
	s := openAt(t, root, store.Options{})
	info := made(t, s, nil, "x")
	l, err := s.Lease(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	broken := errors.New("broken")
	_, _, err = s.MakeForm(t.Context(), l, info.DiffID, "test", gzipLayer, func(_ context.Context, w *store.FormWriter) (digest.Digest, map[string]string, error) {
		_, err := w.Write(bytes.Repeat([]byte("x"), 1000))
		return "", nil, errors.Join(err, broken)
	})
	if !errors.Is(err, broken) {
		t.Errorf("want the source's error, got %v", err)
	}
	if names, _ := os.ReadDir(filepath.Join(root, "tmp")); len(names) > 0 {
		t.Errorf("left in tmp: %v", names)
	}
	if _, _, err := s.MakeForm(t.Context(), l, digest.FromString("no layer"), "test", gzipLayer, gzipForm(s, info.DiffID)); !errors.Is(err, registry.ErrAbsent) {
		t.Errorf("a form of no layer: %v", err)
	}
	if _, ok := makeForm(t, s, info.DiffID); !ok {
		t.Error("the attempt that failed counts")
	}
	if _, err := s.KeepRemade(t.Context(), digest.FromString("no image"), "test", nil, []byte(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{},"layers":[]}`)); err == nil {
		t.Error("something was remade of nothing")
	}
	wantSound(t, s)
}

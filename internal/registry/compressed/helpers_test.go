package compressed_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"nacre/internal/event"
	"nacre/internal/image"
	"nacre/internal/layer"
	"nacre/internal/registry"
	"nacre/internal/registry/mem"
	"nacre/internal/registry/registrytest"
	"nacre/internal/registry/store"
)

func openStore(t testing.TB, root string) *store.Store {
	t.Helper()
	s, err := store.Open(t.Context(), root, store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// text is n bytes that compress to half.
func text(n int) string {
	r := rand.New(rand.NewPCG(uint64(n), 2))
	var b strings.Builder
	for b.Len() < n {
		fmt.Fprintf(&b, "%x", r.Uint64())
	}
	return b.String()[:n]
}

// build puts an image of layers into s, each of one file of a size, as a build does.
func build(t testing.TB, s *store.Store, name string, sizes ...int) store.Image {
	t.Helper()
	var layers []image.Layer
	for i, n := range sizes {
		layers = append(layers, addLayer(t, s, fmt.Sprint(name, i), text(n)))
	}
	return putImage(t, s, name, layers...)
}

func addLayer(t testing.TB, s *store.Store, files ...string) image.Layer {
	t.Helper()
	info, err := s.MakeLayer(t.Context(), nil, func(dir string) (layer.Info, error) {
		return layer.Ingest(t.Context(), dir, bytes.NewReader(registrytest.Tar(files...)), layer.IngestOptions{})
	})
	if err != nil {
		t.Fatal(err)
	}
	return image.Layer{DiffID: info.DiffID, Size: info.Size}
}

func putImage(t testing.TB, s *store.Store, name string, layers ...image.Layer) store.Image {
	t.Helper()
	created := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	cfg := image.Config{}
	cfg.Platform = image.Platform{OS: "linux", Architecture: "amd64"}
	cfg.Created = &created
	a, err := image.Assemble(cfg, layers)
	if err != nil {
		t.Fatal(err)
	}
	img, err := s.PutImage(t.Context(), nil, store.NewImage{Config: a.Config, Manifest: a.Manifest}, []registry.Ref{registrytest.Ref(name)})
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func manifestOf(t testing.TB, r registry.Reader, d registry.Descriptor) image.Manifest {
	t.Helper()
	m, err := image.ParseManifest(content(t, r, d))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func content(t testing.TB, r registry.Reader, d registry.Descriptor) []byte {
	t.Helper()
	rc, err := r.Open(t.Context(), "", d)
	if err != nil {
		t.Fatal(err)
	}
	defer rc.Close()
	data, err := io.ReadAll(rc)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// wantWhole copies d into another store, which checks every digest and every diffID.
func wantWhole(t testing.TB, r registry.Reader, d registry.Descriptor) {
	t.Helper()
	other := openStore(t, t.TempDir())
	as := registrytest.Ref("copied")
	if _, err := registry.Copy(t.Context(), other, as, r, registry.Ref{Digest: d.Digest}, registry.CopyOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := other.Lookup(t.Context(), "copied"); err != nil {
		t.Error(err)
	}
}

// wantSound fails the test unless the store finds nothing wrong with itself.
func wantSound(t testing.TB, s *store.Store) {
	t.Helper()
	r, err := s.Check(t.Context(), false, event.Discard)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range r.Problems {
		t.Errorf("problem: %s", p)
	}
}

// compressions counts the layers that were compressed.
type compressions struct {
	mu    sync.Mutex
	n     int
	bytes int64 // as the last progress of each said
	total int64
}

func (c *compressions) sink(e event.Event) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch e := e.(type) {
	case event.Started:
		if strings.HasPrefix(e.Step.Name, "compress") {
			c.n++
		}
	case event.Progress:
		if e.Current == e.Total {
			c.bytes += e.Current
			c.total += e.Total
		}
	}
}

// drafts is a registry in memory that takes drafts, and breaks them off after a number of bytes.
type drafts struct {
	*mem.Registry
	limit int // 0: none

	mu                 sync.Mutex
	begun, done, ended int
	creates            int // of layers
}

var errCut = errors.New("connection cut")

func (d *drafts) Draft(_ context.Context, repo string) (registry.Draft, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.begun++
	return &draft{d: d, repo: repo}, nil
}

func (d *drafts) Create(ctx context.Context, repo string, desc registry.Descriptor) (registry.Upload, error) {
	if image.IsLayer(desc.MediaType) {
		d.mu.Lock()
		d.creates++
		d.mu.Unlock()
	}
	return d.Registry.Create(ctx, repo, desc)
}

type draft struct {
	d     *drafts
	repo  string
	data  bytes.Buffer
	ended bool
}

func (d *draft) Write(p []byte) (int, error) {
	if d.d.limit > 0 && d.data.Len()+len(p) > d.d.limit {
		return 0, errCut
	}
	return d.data.Write(p)
}

func (d *draft) Commit(desc registry.Descriptor) error {
	up, err := d.d.Registry.Create(context.Background(), d.repo, desc)
	if err != nil {
		return err
	}
	defer up.Cancel()
	if _, err := up.Write(d.data.Bytes()); err != nil {
		return err
	}
	d.d.mu.Lock()
	d.d.done++
	d.d.mu.Unlock()
	d.ended = true
	return up.Commit()
}

func (d *draft) Cancel() error {
	if !d.ended {
		d.ended = true
		d.d.mu.Lock()
		d.d.ended++
		d.d.mu.Unlock()
	}
	return nil
}

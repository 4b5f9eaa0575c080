package store_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"nacre/internal/cache"
	"nacre/internal/event"
	"nacre/internal/image"
	"nacre/internal/layer"
	"nacre/internal/registry"
	"nacre/internal/registry/registrytest"
	"nacre/internal/registry/store"

	"github.com/opencontainers/go-digest"
)

// made is a layer of one file, told apart by its name.
func made(t testing.TB, s *store.Store, l *store.Lease, name string) layer.Info {
	t.Helper()
	info, err := makeLayer(t, s, l, name, "content of "+name)
	if err != nil {
		t.Fatal(err)
	}
	return info
}

func makeLayer(t testing.TB, s *store.Store, l *store.Lease, files ...string) (layer.Info, error) {
	ctx := t.Context()
	return s.MakeLayer(ctx, l, func(dir string) (layer.Info, error) {
		return layer.Ingest(ctx, dir, bytes.NewReader(registrytest.Tar(files...)), layer.IngestOptions{})
	})
}

// config is that of an image made n hours after the others.
func config(n int, layers ...layer.Info) image.Config {
	created := time.Date(2026, 1, 1, n, 0, 0, 0, time.UTC)
	cfg := image.Config{}
	cfg.Platform = image.Platform{OS: "linux", Architecture: "amd64"}
	cfg.Created = &created
	for i := range layers {
		cfg.History = append(cfg.History, image.History{Created: &created, CreatedBy: fmt.Sprint("COPY ", i)})
	}
	return cfg
}

// assemble makes an image of layers.
func assemble(t testing.TB, cfg image.Config, layers ...layer.Info) store.NewImage {
	t.Helper()
	var list []image.Layer
	for _, l := range layers {
		list = append(list, image.Layer{DiffID: l.DiffID, Size: l.Size})
	}
	a, err := image.Assemble(cfg, list)
	if err != nil {
		t.Fatal(err)
	}
	return store.NewImage{Config: a.Config, Manifest: a.Manifest}
}

// put puts an image of layers.
func put(t testing.TB, s *store.Store, n int, names []string, layers ...layer.Info) store.Image {
	t.Helper()
	img, err := s.PutImage(t.Context(), nil, assemble(t, config(n, layers...), layers...), refs(names...))
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func refs(names ...string) []registry.Ref {
	var out []registry.Ref
	for _, n := range names {
		out = append(out, registrytest.Ref(n))
	}
	return out
}

func familiar(refs []registry.Ref) []string {
	var out []string
	for _, r := range refs {
		out = append(out, r.Familiar())
	}
	return out
}

// record is a cache record told apart by its name.
func record(slot, name string) cache.Record {
	h := cache.NewHash("test/1", slot)
	h.Add("name", name)
	return h.Sum()
}

func output(info layer.Info) cache.Output {
	return cache.Output{DiffID: info.DiffID, Content: info.Content, Size: info.FileBytes, Created: time.Date(2026, 2, 3, 4, 5, 6, 789, time.UTC)}
}

// dropCache removes all of the build cache that was last used before a time, where that is not zero.
func dropCache(ctx context.Context, s *store.Store, until time.Time) (store.CacheRemoved, error) {
	items, err := s.CacheItems(ctx, false)
	if err != nil {
		return store.CacheRemoved{}, err
	}
	return s.DropCache(ctx, slices.DeleteFunc(items, func(c store.CacheItem) bool {
		return !until.IsZero() && !c.Used.Before(until)
	}))
}

// wantSound fails the test unless Check finds nothing.
func wantSound(t testing.TB, s *store.Store) store.CheckReport {
	t.Helper()
	r, err := s.Check(t.Context(), false, event.Discard)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range r.Problems {
		t.Errorf("problem: %s", p)
	}
	return r
}

func has(t testing.TB, s *store.Store, diffID digest.Digest) bool {
	t.Helper()
	_, err := s.Layer(t.Context(), diffID)
	return err == nil
}

type platform = image.Platform

var (
	defaultPlatform = image.DefaultPlatform()
	otherPlatform   = platform{OS: "linux", Architecture: "riscv64"}
)

const gzipLayer = "application/vnd.oci.image.layer.v1.tar+gzip"

// image0 describes what only a digest is known of.
func image0(d digest.Digest) registry.Descriptor { return registry.Descriptor{Digest: d} }

// wantDamaged fails the test unless opening root or checking it says that the
// database is damaged.
func wantDamaged(t *testing.T, root string) {
	t.Helper()
	s, err := store.Open(t.Context(), root, store.Options{})
	if err == nil {
		defer s.Close()
		_, err = s.Check(t.Context(), false, event.Discard)
	}
	if !errors.Is(err, store.ErrDamaged) {
		t.Errorf("a damaged database: %v, want ErrDamaged", err)
	}
}

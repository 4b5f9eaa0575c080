package store_test

import (
	"archive/tar"
	"compress/gzip"
	"errors"
	"io"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"nacre/internal/image"
	"nacre/internal/registry"
	"nacre/internal/registry/registrytest"
	"nacre/internal/registry/store"

	"github.com/opencontainers/go-digest"
)

// TestOlderFormat opens a store that a nacre of format 1 has written: without forms, parts and
// the folder for sha512.
func TestOlderFormat(t *testing.T) {
	root := untar(t, "testdata/format1.tar.gz")
	if _, err := store.Open(t.Context(), root, store.Options{ReadOnly: true}); !errors.Is(err, store.ErrVersion) {
		t.Errorf("read only: %v, want ErrVersion", err)
	}
	var wg sync.WaitGroup
	for range 4 { // at the same moment
		wg.Go(func() {
			s, err := store.Open(t.Context(), root, store.Options{})
			if err == nil {
				err = s.Close()
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	s := openAt(t, root, store.Options{})
	img, err := s.Lookup(t.Context(), "built:1")
	if err != nil {
		t.Fatal(err)
	}
	wantUsable(t, s, img)
	if img, err = s.Lookup(t.Context(), "pulled"); err != nil {
		t.Fatal(err)
	}
	wantUsable(t, s, img)
	makeForm(t, s, made(t, s, nil, "new").DiffID)
	wantSound(t, s)
}

// untar unpacks a fixture.
func untar(t testing.TB, name string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if err == io.EOF {
			return dir
		}
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, h.Name)
		if h.Typeflag == tar.TypeDir {
			if err := os.MkdirAll(path, 0o700); err != nil {
				t.Fatal(err)
			}
			continue
		}
		data, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// TestFormat4 opens a store from before there were containers.
func TestFormat4(t *testing.T) {
	root := untar(t, "testdata/format4.tar.gz")
	if _, err := store.Open(t.Context(), root, store.Options{ReadOnly: true}); !errors.Is(err, store.ErrVersion) {
		t.Errorf("read only: %v, want ErrVersion", err)
	}
	s := openAt(t, root, store.Options{})
	img, err := s.Lookup(t.Context(), "built:1")
	if err != nil {
		t.Fatal(err)
	}
	wantUsable(t, s, img)
	if _, err := addContainer(t, s, "a", "one", img); err != nil {
		t.Error(err)
	}
	wantSound(t, s)
}

// TestFormat5 opens a store with a container from before lists knew where their images are.
func TestFormat5(t *testing.T) {
	root := untar(t, "testdata/format5.tar.gz")
	if _, err := store.Open(t.Context(), root, store.Options{ReadOnly: true}); !errors.Is(err, store.ErrVersion) {
		t.Errorf("read only: %v, want ErrVersion", err)
	}
	s := openAt(t, root, store.Options{})
	img, err := s.Lookup(t.Context(), "built:1")
	if err != nil {
		t.Fatal(err)
	}
	wantUsable(t, s, img)
	rows, err := s.Containers(t.Context())
	if err != nil || len(rows) != 1 || rows[0].Name != "kept" || rows[0].Image != img.Target.Digest {
		t.Errorf("containers %+v, %v", rows, err)
	}
	x := image.Index{MediaType: image.TypeIndex}
	x.SchemaVersion = 2
	x.Manifests = []image.Descriptor{{MediaType: image.TypeManifest, Digest: digest.FromString("elsewhere"), Size: 9}}
	data, err := image.Marshal(x)
	if err != nil {
		t.Fatal(err)
	}
	from := registry.Ref{Repo: "registry.example.com/web", Tag: "1"}
	if _, err := s.PutIndex(t.Context(), data, registrytest.Ref("list"), []store.Origin{{Digest: x.Manifests[0].Digest, Ref: from}}); err != nil {
		t.Error(err)
	}
	if got, err := s.Origins(t.Context(), x.Manifests[0].Digest); err != nil || len(got) != 1 || got[0] != from {
		t.Errorf("origins %v, %v", got, err)
	}
	wantSound(t, s)
}

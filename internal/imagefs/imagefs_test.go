package imagefs

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"strings"
	"sync/atomic"
	"testing"

	"nacre/internal/event"
	"nacre/internal/image"
	"nacre/internal/layer"
	"nacre/internal/registry"
	"nacre/internal/registry/mem"
	"nacre/internal/registry/registrytest"

	"github.com/opencontainers/go-digest"
)

func push(t *testing.T, media string, tars ...[]byte) (*mem.Registry, Image) {
	t.Helper()
	r := mem.New()
	r.Sparse = true
	img := registrytest.NewImage(image.Platform{OS: "linux", Architecture: "amd64"}, tars, media)
	for _, b := range img.Blobs {
		if err := registrytest.Push(t.Context(), r, "", b); err != nil {
			t.Fatal(err)
		}
	}
	n := len(img.Blobs)
	m, err := image.ParseManifest(img.Blobs[n-1].Data)
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := image.ParseConfig(img.Blobs[n-2].Data)
	if err != nil {
		t.Fatal(err)
	}
	return r, Image{Reader: r, Manifest: m, Config: cfg}
}

// TestRoot: a layer is read once, and one that is at hand not at all.
func TestRoot(t *testing.T) {
	for _, media := range []string{image.TypeLayer, image.TypeLayerGzip, image.TypeLayerZstd} {
		_, img := push(t, media, registrytest.Tar("a", "one", "b", "b"), registrytest.Tar("a", "two"))
		at := t.TempDir()
		if _, err := layer.Ingest(t.Context(), at, bytes.NewReader(registrytest.Tar("a", "two")), layer.IngestOptions{}); err != nil {
			t.Fatal(err)
		}
		mine, err := layer.Open(at)
		if err != nil {
			t.Fatal(err)
		}
		defer mine.Close()
		var read atomic.Int32
		dir := t.TempDir()
		ls := New(dir, Options{
			Have: func(_ context.Context, d digest.Digest) (*layer.Layer, error) {
				if d == img.Config.RootFS.DiffIDs[1] {
					return mine, nil
				}
				return nil, registry.ErrAbsent
			},
			Sink: func(e event.Event) {
				if _, ok := e.(event.Started); ok {
					read.Add(1)
				}
			},
		})
		for range 2 {
			root, err := ls.Root(t.Context(), img)
			if err != nil {
				t.Fatal(err)
			}
			if data, err := fs.ReadFile(root, "a"); err != nil || string(data) != "two" {
				t.Errorf("%s: a is %q, %v", media, data, err)
			}
			if data, err := fs.ReadFile(root, "b"); err != nil || string(data) != "b" {
				t.Errorf("%s: b is %q, %v", media, data, err)
			}
		}
		if read.Load() != 1 {
			t.Errorf("%d layers were read, want the one that is not at hand", read.Load())
		}
		if err := ls.Close(); err != nil {
			t.Error(err)
		}
		if _, err := mine.Lstat("a"); err != nil {
			t.Errorf("a layer of others was closed: %v", err)
		}
	}
}

// TestHostile: blobs and configs that lie, and what is far larger than it looks.
func TestHostile(t *testing.T) {
	bomb := registrytest.Tar("a", strings.Repeat("\x00", 10<<20))
	for name, c := range map[string]struct {
		spoil func(r *mem.Registry, img *Image)
		want  error
	}{
		"diffID": {func(_ *mem.Registry, img *Image) { img.Config.RootFS.DiffIDs[0] = digest.FromString("x") }, layer.ErrDiffID},
		"number": {func(_ *mem.Registry, img *Image) { img.Config.RootFS.DiffIDs = nil }, registry.ErrInvalid},
		"absent": {func(_ *mem.Registry, img *Image) { img.Manifest.Layers[0].Digest = digest.FromString("x") }, registry.ErrAbsent},
		"type":   {func(_ *mem.Registry, img *Image) { img.Manifest.Layers[0].MediaType = "text/plain" }, registry.ErrUnsupported},
		"digest": {func(_ *mem.Registry, img *Image) { img.Reader = lying{img.Reader} }, registry.ErrDigest},
		"bomb":   {func(*mem.Registry, *Image) {}, layer.ErrLimit},
	} {
		t.Run(name, func(t *testing.T) {
			r, img := push(t, image.TypeLayerGzip, bomb)
			c.spoil(r, &img)
			o := Options{}
			if name == "bomb" {
				o.Limits.MaxSize = 1 << 20
			}
			dir := t.TempDir()
			ls := New(dir, o)
			if _, err := ls.Root(t.Context(), img); !errors.Is(err, c.want) {
				t.Errorf("%v, want %v", err, c.want)
			}
			if err := ls.Close(); err != nil {
				t.Error(err)
			}
			left := 0
			_ = fs.WalkDir(os.DirFS(dir), ".", func(path string, d fs.DirEntry, err error) error {
				if err == nil && strings.HasSuffix(path, "layer.tar") {
					if info, err := d.Info(); err == nil && info.Size() > 1<<20 && name != "digest" {
						left++
					}
				}
				return nil
			})
			if left > 0 {
				t.Error("a layer is left that was refused")
			}
		})
	}
}

// lying answers with content that has something after the layer.
type lying struct{ registry.Reader }

func (l lying) Open(ctx context.Context, repo string, d registry.Descriptor) (io.ReadCloser, error) {
	rc, err := l.Reader.Open(ctx, repo, d)
	if err != nil {
		return nil, err
	}
	defer rc.Close()
	data, err := io.ReadAll(rc)
	if err != nil {
		return nil, err
	}
	data[4] ^= 0xff // a time in the header of gzip, which changes nothing but the digest
	return registry.Verify(io.NopCloser(bytes.NewReader(data)), d), nil
}

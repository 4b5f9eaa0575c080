package registry_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"nacre/internal/image"
	"nacre/internal/registry"
	"nacre/internal/registry/archive"
	"nacre/internal/registry/layout"
	"nacre/internal/registry/mem"
	"nacre/internal/registry/registrytest"
	"nacre/internal/registry/store"

	"github.com/klauspost/compress/gzip"
)

// TestLoadSave: whatever images an archive or layout has, what was loaded into a store and saved again, in any form,
// has every blob of them with the digest it had.
func TestLoadSave(t *testing.T) {
	for seed := range uint64(5) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 7))
			images := map[string]registrytest.Image{}
			src := mem.New()
			for i := range 1 + r.IntN(3) {
				name := fmt.Sprintf("localhost:5000/x%d:t%d", r.IntN(3), i)
				images[name] = randomImage(r, 0)
				registrytest.Put(t, src, registrytest.Ref(name), images[name])
			}
			for form, write := range forms {
				first := write(t, src, images)
				s, err := store.Open(t.Context(), t.TempDir(), store.Options{})
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { s.Close() })
				transferAll(t, s, first)
				for again, write := range forms {
					second := write(t, s, images)
					for name, img := range images {
						d, err := second.Resolve(t.Context(), registrytest.Ref(name))
						if err != nil || d.Digest != img.Desc().Digest {
							t.Errorf("%s, then %s: %s is %s, %v; was %s", form, again, name, d.Digest, err, img.Desc().Digest)
						}
						registrytest.Check(t, second, "", img)
					}
				}
			}
		})
	}
}

// randomImage has layers and children as chance will have it.
func randomImage(r *rand.Rand, depth int) registrytest.Image {
	if r.IntN(3) == 0 && depth < 2 {
		var platforms []image.Platform
		var children []registrytest.Image
		for _, arch := range []string{"amd64", "arm64", "riscv64", "s390x"}[:1+r.IntN(4)] {
			platforms = append(platforms, image.Platform{OS: "linux", Architecture: arch})
			children = append(children, randomImage(r, depth+1))
		}
		return registrytest.NewIndex(platforms, children)
	}
	kinds := [][]string{
		{image.TypeLayer}, {image.TypeLayerGzip}, {image.TypeLayerZstd}, {image.TypeLayer, image.TypeLayerGzip, image.TypeLayerZstd},
		{image.TypeDockerLayerGzip}, {image.TypeDockerLayer},
	}
	var tars [][]byte
	for range r.IntN(5) {
		content := strings.Repeat(fmt.Sprint(r.IntN(4)), r.IntN(5000))
		tars = append(tars, registrytest.Tar(fmt.Sprint("f", r.IntN(9)), content))
	}
	return registrytest.NewImage(image.Platform{OS: "linux", Architecture: "amd64"}, tars, kinds[r.IntN(len(kinds))]...)
}

// media is what holds images that were written.
type media interface {
	registry.Reader
	registry.Lister
}

// forms are the ways in which images are saved.
var forms = map[string]func(t *testing.T, src registry.Reader, images map[string]registrytest.Image) media{
	"docker": func(t *testing.T, src registry.Reader, images map[string]registrytest.Image) media {
		return savedAs(t, archive.Docker, false, src, images)
	},
	"oci": func(t *testing.T, src registry.Reader, images map[string]registrytest.Image) media {
		return savedAs(t, archive.OCI, false, src, images)
	},
	"docker, compressed": func(t *testing.T, src registry.Reader, images map[string]registrytest.Image) media {
		return savedAs(t, archive.Docker, true, src, images)
	},
	"layout": func(t *testing.T, src registry.Reader, images map[string]registrytest.Image) media {
		l, err := layout.Create(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		copyNamed(t, l, src, images)
		return l
	},
}

func savedAs(t *testing.T, kind archive.Kind, packed bool, src registry.Reader, images map[string]registrytest.Image) media {
	path := filepath.Join(t.TempDir(), "a.tar")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var out io.Writer = f
	var z *gzip.Writer
	if packed {
		z = gzip.NewWriter(f)
		out = z
	}
	w := archive.Create(out, kind)
	copyNamed(t, w, src, images)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if z != nil {
		if err := z.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return openArchive(t, path)
}

func copyNamed(t *testing.T, dst registry.Writer, src registry.Reader, images map[string]registrytest.Image) {
	for name := range images {
		copyAll(t, dst, src, name)
	}
}

// transferAll loads all that src names.
func transferAll(t *testing.T, dst registry.Writer, src media) {
	for n, err := range src.Refs(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		if _, err := registry.Copy(t.Context(), dst, n.Ref, src, registry.Ref{Digest: n.Desc.Digest}, registry.CopyOptions{Partial: true}); err != nil {
			t.Fatal(err)
		}
	}
}

// TestVouch: a file that was vouched for is copied without being read, and one that is too short is found out. Who reads it
// himself finds out all.
func TestVouch(t *testing.T) {
	b := registrytest.NewBlob("text/plain", bytes.Repeat([]byte("0123456789abcde\n"), 1000))
	wrong := bytes.Repeat([]byte("x"), len(b.Data))
	for name, c := range map[string]struct {
		data []byte
		ok   bool
	}{"as promised": {b.Data, true}, "of that size": {wrong, true}, "too short": {b.Data[:100], false}, "too long": {append(wrong, 'x'), false}} {
		path := filepath.Join(t.TempDir(), "blob")
		if err := os.WriteFile(path, c.data, 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		rc := registry.Vouch(f, b.Descriptor)
		defer rc.Close()
		if _, err := io.ReadAll(rc); (err == nil) != bytes.Equal(c.data, b.Data) {
			t.Errorf("%s: read: %v", name, err)
		}
		l, err := layout.Create(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		err = registry.CopyBlob(t.Context(), l, "", vouching(path), "", b.Descriptor, registry.CopyOptions{})
		if (err == nil) != c.ok {
			t.Errorf("%s: copied: %v", name, err)
		}
	}
}

// vouching is a registry of one file.
type vouching string

func (v vouching) Resolve(context.Context, registry.Ref) (registry.Descriptor, error) {
	return registry.Descriptor{}, registry.ErrAbsent
}

func (v vouching) Open(_ context.Context, _ string, d registry.Descriptor) (io.ReadCloser, error) {
	f, err := os.Open(string(v))
	if err != nil {
		return nil, err
	}
	return registry.Vouch(f, d), nil
}

package registry_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"

	"nacre/internal/event"
	"nacre/internal/image"
	"nacre/internal/registry"
	"nacre/internal/registry/layout"
	"nacre/internal/registry/mem"
	"nacre/internal/registry/registrytest"
)

// recorder is a registry that remembers what was uploaded to it, in order.
type recorder struct {
	*mem.Registry
	mu        sync.Mutex
	committed []digest.Digest
	now, most int
	serial    bool
}

func newRecorder() *recorder { return &recorder{Registry: mem.New()} }

func (r *recorder) Serial() bool { return r.serial }

func (r *recorder) Create(ctx context.Context, repo string, d registry.Descriptor) (registry.Upload, error) {
	u, err := r.Registry.Create(ctx, repo, d)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.now++
	r.most = max(r.most, r.now)
	return &recorded{u, r, d.Digest}, err
}

type recorded struct {
	registry.Upload
	r *recorder
	d digest.Digest
}

func (u *recorded) Commit() error {
	err := u.Upload.Commit()
	u.r.mu.Lock()
	defer u.r.mu.Unlock()
	u.r.now--
	if err == nil {
		u.r.committed = append(u.r.committed, u.d)
	}
	return err
}

func TestCopy(t *testing.T) {
	platforms := []image.Platform{{OS: "linux", Architecture: "amd64"}, {OS: "linux", Architecture: "arm64"}}
	for name, img := range map[string]registrytest.Image{
		"image":           registrytest.Hello("copy", image.TypeLayerGzip, image.TypeLayerZstd),
		"schema2":         registrytest.Hello("copy", image.TypeDockerLayerGzip),
		"artifact":        registrytest.NewArtifact([]byte("anything")),
		"no layers":       registrytest.NewImage(platforms[0], nil),
		"one layer twice": registrytest.NewImage(platforms[0], [][]byte{registrytest.Tar("a", "b"), registrytest.Tar("a", "b")}),
		"index":           registrytest.NewIndex(platforms, []registrytest.Image{registrytest.Hello("x"), registrytest.Hello("y")}),
		"index of index": registrytest.NewIndex(platforms[:1], []registrytest.Image{
			registrytest.NewIndex(platforms[:1], []registrytest.Image{registrytest.Hello("deep")})}),
	} {
		t.Run(name, func(t *testing.T) {
			src, dst := source(t, "src:1", img), newRecorder()
			as := registrytest.Ref("localhost/dst:2")
			d, err := registry.Copy(t.Context(), dst, as, src, registrytest.Ref("src:1"), registry.CopyOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if got, err := dst.Resolve(t.Context(), as); err != nil || got.Digest != img.Desc().Digest || d.Digest != got.Digest {
				t.Errorf("copied as %s, %v; want %s", got.Digest, err, img.Desc().Digest)
			}
			registrytest.Check(t, dst, as.Repo, img)
			wantOrder(t, dst.committed, img)

			// A second time there is nothing to send.
			before := len(dst.committed)
			if _, err := registry.Copy(t.Context(), dst, registrytest.Ref("again"), src, registrytest.Ref("src:1"), registry.CopyOptions{}); err != nil {
				t.Fatal(err)
			}
			if sent := dst.committed[before:]; len(sent) > 0 {
				t.Errorf("sent again: %s", sent)
			}
		})
	}
}

// wantOrder checks that nothing was sent twice, and nothing before what it refers to.
func wantOrder(t *testing.T, sent []digest.Digest, img registrytest.Image) {
	t.Helper()
	place := map[digest.Digest]int{}
	for i, d := range sent {
		if _, ok := place[d]; ok {
			t.Errorf("%s was sent twice", d)
		}
		place[d] = i
	}
	for _, b := range img.Blobs {
		refers, err := registry.Refers(b.Descriptor, b.Data)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range refers {
			if place[c.Digest] >= place[b.Digest] {
				t.Errorf("%s was sent before %s, which it refers to", b.Digest, c.Digest)
			}
		}
	}
}

func TestCopySendsOnlyWhatIsMissing(t *testing.T) {
	a, b := registrytest.Hello("a"), registrytest.Hello("b") // they share a layer
	src, dst := source(t, "a", a), newRecorder()
	registrytest.Put(t, src, registrytest.Ref("b"), b)
	copyAll(t, dst, src, "a")
	dst.committed = nil
	copyAll(t, dst, src, "b")
	var want []digest.Digest
	for _, x := range b.Blobs[1:] {
		want = append(want, x.Digest)
	}
	slices.Sort(want)
	slices.Sort(dst.committed)
	if !slices.Equal(dst.committed, want) {
		t.Errorf("sent %s, want %s", dst.committed, want)
	}
}

func TestCopyPlatform(t *testing.T) {
	platforms := []image.Platform{{OS: "linux", Architecture: "amd64"}, {OS: "linux", Architecture: "arm", Variant: "v6"}}
	images := []registrytest.Image{registrytest.Hello("amd64"), registrytest.Hello("arm")}
	src := source(t, "multi", registrytest.NewIndex(platforms, images))
	dst := mem.New()
	o := registry.CopyOptions{Platform: &image.Platform{OS: "linux", Architecture: "arm", Variant: "v7"}}
	d, err := registry.Copy(t.Context(), dst, registry.Ref{}, src, registrytest.Ref("multi"), o)
	if err != nil || d.Digest != images[1].Desc().Digest {
		t.Fatalf("got %s, %v; want %s", d.Digest, err, images[1].Desc().Digest)
	}
	if ok, _ := dst.Has(t.Context(), "", images[0].Desc()); ok {
		t.Error("the other platform was copied too")
	}
	o.Platform = &image.Platform{OS: "linux", Architecture: "s390x"}
	_, err = registry.Copy(t.Context(), dst, registry.Ref{}, src, registrytest.Ref("multi"), o)
	if !errors.Is(err, image.ErrNoPlatform) || !strings.Contains(err.Error(), "linux/amd64, linux/arm/v6") {
		t.Errorf("absent platform: %v", err)
	}
}

func TestCopyPartial(t *testing.T) {
	platforms := []image.Platform{{OS: "linux", Architecture: "amd64"}, {OS: "linux", Architecture: "arm64"}}
	images := []registrytest.Image{registrytest.Hello("here"), registrytest.Hello("elsewhere")}
	x := registrytest.NewIndex(platforms, images)
	src := source(t, "here", images[0])
	ref := registrytest.Ref("multi")
	registrytest.Put(t, src, ref, registrytest.Image{Blobs: x.Blobs[len(x.Blobs)-1:]})
	dst := mem.New()
	if _, err := registry.Copy(t.Context(), dst, ref, src, ref, registry.CopyOptions{}); !errors.Is(err, registry.ErrAbsent) {
		t.Errorf("an index with an absent image: %v", err)
	}
	d, err := registry.Copy(t.Context(), dst, ref, src, ref, registry.CopyOptions{Partial: true})
	if err != nil || d.Digest != x.Desc().Digest {
		t.Fatalf("got %s, %v", d.Digest, err)
	}
	registrytest.Check(t, dst, "", images[0])
	if err := src.Delete(t.Context(), "", images[0].Desc().Digest); err != nil {
		t.Fatal(err)
	}
	if _, err := registry.Copy(t.Context(), dst, ref, src, ref, registry.CopyOptions{Partial: true}); !errors.Is(err, registry.ErrAbsent) {
		t.Errorf("an index without any image: %v", err)
	}
}

func TestCopyForeignLayer(t *testing.T) {
	img := registrytest.Hello("foreign")
	m, err := image.ParseManifest(img.Blobs[3].Data)
	if err != nil {
		t.Fatal(err)
	}
	m.Layers[0] = registry.Descriptor{MediaType: image.TypeDockerForeignGzip, Digest: digest.FromString("elsewhere"), Size: 9, URLs: []string{"https://example.com/layer"}}
	data, err := image.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	img.Blobs[3] = registrytest.NewBlob(m.MediaType, data)
	dst := mem.New()
	copyAll(t, dst, source(t, "foreign", img), "foreign")
	if got, err := dst.Resolve(t.Context(), registrytest.Ref("foreign")); err != nil || got.Digest != img.Desc().Digest {
		t.Errorf("%s, %v", got.Digest, err)
	}
}

func TestCopyByDigest(t *testing.T) {
	img := registrytest.Hello("digest")
	src := source(t, "x:1", img)
	want := img.Desc().Digest
	byDigest := registry.Ref{Repo: "docker.io/library/x", Digest: want}
	dst := mem.New()
	if _, err := registry.Copy(t.Context(), dst, registry.Ref{}, src, byDigest, registry.CopyOptions{}); err != nil {
		t.Fatal(err)
	}
	if d, err := dst.Resolve(t.Context(), byDigest); err != nil || d.Digest != want {
		t.Errorf("%s, %v", d.Digest, err)
	}
	wrong := registrytest.Ref("y:1@" + digest.FromString("other").String())
	if _, err := registry.Copy(t.Context(), dst, wrong, src, byDigest, registry.CopyOptions{}); !errors.Is(err, registry.ErrDigest) {
		t.Errorf("copied as something with another digest: %v", err)
	}
}

func TestCopyParallel(t *testing.T) {
	var tars [][]byte
	for i := range 20 {
		tars = append(tars, registrytest.Tar(fmt.Sprint("file", i), strings.Repeat("x", 100_000)))
	}
	src := source(t, "many", registrytest.NewImage(image.DefaultPlatform(), tars))
	for _, c := range []struct {
		o      registry.CopyOptions
		serial bool
		most   int
	}{{registry.CopyOptions{}, false, 4}, {registry.CopyOptions{Parallel: 2}, false, 2}, {registry.CopyOptions{Parallel: 8}, true, 1}} {
		dst := newRecorder()
		dst.serial = c.serial
		if _, err := registry.Copy(t.Context(), dst, registry.Ref{}, src, registrytest.Ref("many"), c.o); err != nil {
			t.Fatal(err)
		}
		if dst.most > c.most {
			t.Errorf("%+v: %d uploads at once, want at most %d", c, dst.most, c.most)
		}
	}
}

func TestCopyEvents(t *testing.T) {
	img := registrytest.Hello("events")
	dst := mem.New()
	if err := registrytest.Push(t.Context(), dst, "", img.Blobs[0]); err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	started, done := map[int]string{}, map[int]event.Done{}
	next := 41
	o := registry.CopyOptions{
		Step: func() int { next++; return next },
		Sink: func(e event.Event) {
			mu.Lock()
			defer mu.Unlock()
			switch e := e.(type) {
			case event.Started:
				started[e.Step.ID] = e.Step.Name
			case event.Done:
				done[e.ID] = e
			}
		},
	}
	if _, err := registry.Copy(t.Context(), dst, registry.Ref{}, source(t, "e", img), registrytest.Ref("e"), o); err != nil {
		t.Fatal(err)
	}
	if len(started) != 4 || len(done) != 4 {
		t.Fatalf("started %v, done %v; want 4 of each", started, done)
	}
	var names []string
	for id, name := range started {
		if id < 42 || id > 45 {
			t.Errorf("step %d", id)
		}
		d := done[id]
		names = append(names, fmt.Sprintf("%s cached=%t size=%d", name, d.Cached, d.Size))
	}
	var want []string
	for i, kind := range []string{"layer", "layer", "config", "manifest"} {
		size := img.Blobs[i].Size
		if i == 0 {
			size = 0
		}
		want = append(want, fmt.Sprintf("%s %s cached=%t size=%d", kind, img.Blobs[i].Digest.Encoded()[:12], i == 0, size))
	}
	slices.Sort(names)
	slices.Sort(want)
	if !slices.Equal(names, want) {
		t.Errorf("events %q, want %q", names, want)
	}
}

// TestCopyFromDamaged: what is not what its digest says does not arrive, and is not named.
func TestCopyFromDamaged(t *testing.T) {
	img := registrytest.Hello("damaged", image.TypeLayerGzip)
	for i, b := range img.Blobs {
		for name, damage := range map[string]func([]byte) []byte{
			"flipped":   func(p []byte) []byte { p[len(p)/2] ^= 1; return p },
			"truncated": func(p []byte) []byte { return p[:len(p)-1] },
			"extended":  func(p []byte) []byte { return append(p, ' ') },
			"emptied":   func([]byte) []byte { return nil },
		} {
			t.Run(fmt.Sprint(i, " ", name), func(t *testing.T) {
				dir := writeLayout(t, "damaged", img)
				path := filepath.Join(dir, "blobs/sha256", b.Digest.Encoded())
				if err := os.WriteFile(path, damage(slices.Clone(b.Data)), 0o644); err != nil {
					t.Fatal(err)
				}
				src, err := layout.Open(dir)
				if err != nil {
					t.Fatal(err)
				}
				dst := mem.New()
				_, err = registry.Copy(t.Context(), dst, registry.Ref{}, src, registrytest.Ref("damaged"), registry.CopyOptions{})
				if !errors.Is(err, registry.ErrDigest) && !errors.Is(err, registry.ErrSize) {
					t.Errorf("copied: %v", err)
				}
				if !strings.Contains(fmt.Sprint(err), b.Digest.String()) {
					t.Errorf("%v does not name %s", err, b.Digest)
				}
				if _, err := dst.Resolve(t.Context(), registrytest.Ref("damaged")); !errors.Is(err, registry.ErrAbsent) {
					t.Errorf("it has a name: %v", err)
				}
				if ok, _ := dst.Has(t.Context(), "", b.Descriptor); ok {
					t.Error("it is there")
				}
			})
		}
	}
}

// endless is a source whose one layer never ends.
type endless struct {
	*mem.Registry
	layer digest.Digest
}

func (e endless) Open(ctx context.Context, repo string, d registry.Descriptor) (io.ReadCloser, error) {
	if d.Digest == e.layer {
		return io.NopCloser(zeros{}), nil
	}
	return e.Registry.Open(ctx, repo, d)
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func TestCopyEndless(t *testing.T) {
	img := registrytest.Hello("endless")
	src := endless{source(t, "endless", img), img.Blobs[1].Digest}
	_, err := registry.Copy(t.Context(), mem.New(), registry.Ref{}, src, registrytest.Ref("endless"), registry.CopyOptions{})
	if !errors.Is(err, registry.ErrSize) {
		t.Errorf("error %v, want %v", err, registry.ErrSize)
	}
}

func TestCopyCancelled(t *testing.T) {
	img := registrytest.Hello("cancelled")
	src := source(t, "c", img)
	ctx, cancel := context.WithCancel(t.Context())
	dst := mem.New()
	o := registry.CopyOptions{Parallel: 1, Sink: func(e event.Event) {
		if d, ok := e.(event.Done); ok && d.Err == nil {
			cancel()
		}
	}}
	if _, err := registry.Copy(ctx, dst, registry.Ref{}, src, registrytest.Ref("c"), o); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want %v", err, context.Canceled)
	}
	if _, err := dst.Resolve(t.Context(), registrytest.Ref("c")); !errors.Is(err, registry.ErrAbsent) {
		t.Errorf("it has a name: %v", err)
	}
}

func TestCopyHostile(t *testing.T) {
	img := registrytest.Hello("hostile")
	deep := img
	for range 20 {
		deep = registrytest.NewIndex([]image.Platform{image.DefaultPlatform()}, []registrytest.Image{deep})
	}
	layerAsManifest := func() registrytest.Image {
		x := registrytest.Image{Blobs: slices.Clone(img.Blobs)}
		d := img.Blobs[0].Descriptor
		d.MediaType = image.TypeManifest
		data, desc, err := image.AssembleIndex([]image.Descriptor{d}, nil)
		if err != nil {
			t.Fatal(err)
		}
		x.Blobs = append(x.Blobs, registrytest.Blob{Descriptor: desc, Data: data})
		return x
	}()
	raw := func(mediaType, doc string) registrytest.Image {
		return registrytest.Image{Blobs: []registrytest.Blob{registrytest.NewBlob(mediaType, []byte(doc))}}
	}
	for name, c := range map[string]struct {
		img  registrytest.Image
		want error
	}{
		"nested too deep":         {deep, registry.ErrInvalid},
		"a layer as manifest":     {layerAsManifest, registry.ErrInvalid},
		"not JSON":                {raw(image.TypeManifest, "<html>"), registry.ErrInvalid},
		"both index and manifest": {raw(image.TypeIndex, `{"schemaVersion":2,"manifests":[],"layers":[],"config":{}}`), registry.ErrInvalid},
		"another type":            {raw(image.TypeManifest, `{"schemaVersion":2,"mediaType":"`+image.TypeIndex+`","manifests":[]}`), registry.ErrInvalid},
		"schema 1":                {raw(image.TypeManifest, `{"schemaVersion":1,"fsLayers":[]}`), registry.ErrInvalid},
		"bad digest":              {raw(image.TypeIndex, `{"schemaVersion":2,"manifests":[{"mediaType":"a","digest":"sha256:../../x","size":1}]}`), registry.ErrInvalid},
		"negative size":           {raw(image.TypeIndex, `{"schemaVersion":2,"manifests":[{"mediaType":"a","digest":"`+string(img.Blobs[0].Digest)+`","size":-1}]}`), registry.ErrInvalid},
		"huge manifest":           {raw(image.TypeManifest, strings.Repeat(" ", image.MaxSize+1)), registry.ErrInvalid},
	} {
		t.Run(name, func(t *testing.T) {
			// Uploads take any bytes; only Tag would refuse.
			l, err := layout.Create(t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			for _, b := range c.img.Blobs {
				if err := registrytest.Push(t.Context(), l, "", b); err != nil {
					t.Fatal(err)
				}
			}
			src := named{l, c.img.Desc()}
			if _, err := registry.Copy(t.Context(), mem.New(), registrytest.Ref("x"), src, registrytest.Ref("x"), registry.CopyOptions{}); !errors.Is(err, c.want) {
				t.Errorf("error %v, want %v", err, c.want)
			}
		})
	}
}

// named resolves every name to one descriptor.
type named struct {
	registry.Reader
	d registry.Descriptor
}

func (n named) Resolve(context.Context, registry.Ref) (registry.Descriptor, error) { return n.d, nil }

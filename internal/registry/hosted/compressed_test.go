package hosted_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"time"

	"nacre/internal/event"
	"nacre/internal/image"
	"nacre/internal/layer"
	"nacre/internal/registry"
	"nacre/internal/registry/compressed"
	"nacre/internal/registry/hosted"
	"nacre/internal/registry/registrytest"
	"nacre/internal/registry/store"

	"github.com/opencontainers/go-digest"
)

// build puts an image of one uncompressed layer, as nacre build does.
func (f *fixture) build(name string) {
	f.t.Helper()
	ctx := f.t.Context()
	info, err := f.s.MakeLayer(ctx, nil, func(dir string) (layer.Info, error) {
		return layer.Ingest(ctx, dir, bytes.NewReader(registrytest.Tar("file", "content of "+name)), layer.IngestOptions{})
	})
	if err != nil {
		f.t.Fatal(err)
	}
	cfg := image.Config{}
	cfg.Platform = image.Platform{OS: "linux", Architecture: "amd64"}
	a, err := image.Assemble(cfg, []image.Layer{{DiffID: info.DiffID, Size: info.Size}})
	if err != nil {
		f.t.Fatal(err)
	}
	if _, err := f.s.PutImage(ctx, nil, store.NewImage{Config: a.Config, Manifest: a.Manifest}, []registry.Ref{registrytest.Ref(name)}); err != nil {
		f.t.Fatal(err)
	}
}

// pull reads all of an image as a client does, which knows only its tag.
func (f *fixture) pull(r *hosted.Registry, repo, tag string) (img registrytest.Image) {
	f.t.Helper()
	ctx := f.t.Context()
	d, err := r.Resolve(ctx, ref(repo, tag))
	if err != nil {
		f.t.Fatal(err)
	}
	data, err := registrytest.Get(ctx, r, repo, registry.Descriptor{Digest: d.Digest})
	if err != nil {
		f.t.Fatal(err)
	}
	refs, err := registry.Refers(d, data)
	if err != nil {
		f.t.Fatal(err)
	}
	for _, c := range refs {
		blob, err := registrytest.Get(ctx, r, repo, registry.Descriptor{Digest: c.Digest})
		if err != nil {
			f.t.Fatalf("%s: %v", c.MediaType, err)
		}
		img.Blobs = append(img.Blobs, registrytest.Blob{Descriptor: c, Data: blob})
	}
	img.Blobs = append(img.Blobs, registrytest.Blob{Descriptor: d, Data: data})
	return img
}

// TestCompressed: what is built is pulled with its layers compressed, from its own repository alone.
func TestCompressed(t *testing.T) {
	f := open(t, hosted.Options{})
	f.build("app:1")
	f.build("app:2")
	served := func() *hosted.Registry {
		r := hosted.New(f.s, hosted.Options{Clock: f.clock, Images: compressed.New(f.s, compressed.Options{})})
		t.Cleanup(func() { r.Close() })
		return r
	}
	plain, r := f.pull(f.r, "app", "1"), served()
	img := f.pull(r, "app", "1")
	if mt := img.Blobs[1].MediaType; mt != image.TypeLayerGzip || img.Blobs[1].Digest == plain.Blobs[1].Digest {
		t.Fatalf("the layer is %s %s", mt, img.Blobs[1].Digest)
	}
	for _, b := range img.Blobs {
		if _, err := r.Stat(t.Context(), "other", b.Digest); err == nil {
			t.Errorf("%s is shown elsewhere", b.MediaType)
		}
	}
	// Another process answers for it, and one that finds the compressed form dropped.
	registrytest.Check(t, served(), "app", img)
	if _, err := f.r.Collect(t.Context(), hosted.CollectOptions{}); err != nil {
		t.Fatal(err)
	}
	if !exists(f.s, img.Blobs[1].Digest) {
		t.Error("the compressed form was collected while its layer is there")
	}
	if _, err := f.s.Prune(t.Context(), store.PruneOptions{}); err != nil {
		t.Fatal(err)
	}
	registrytest.Check(t, served(), "app", img)

	// Pushed back, it is what it is, and stays when what it was made of goes.
	g := &fixture{t: t, s: f.s, r: r, now: f.now}
	g.push("app", "pushed", img)
	if d, err := r.Resolve(t.Context(), ref("app", "pushed")); err != nil || d.Digest != img.Desc().Digest {
		t.Errorf("pushed: %s, %v", d.Digest, err)
	}
	for _, name := range []string{"app:1", "app:2"} {
		if _, _, err := f.s.Remove(t.Context(), name, store.RemoveOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	for left, err := range f.s.Images(t.Context()) {
		if err != nil || left.Target.Digest != img.Desc().Digest {
			t.Errorf("what was built is still an image: %s %v, %v", left.Target.Digest, left.Names, err)
		}
	}
	f.later(48 * time.Hour)
	if _, err := f.r.Collect(t.Context(), hosted.CollectOptions{}); err != nil {
		t.Fatal(err)
	}
	registrytest.Check(t, served(), "app", img)
	wantSound(t, f.s)
}

func exists(s *store.Store, d digest.Digest) bool {
	_, err := os.Stat(filepath.Join(s.Root(), "blobs", d.Algorithm().String(), d.Encoded()))
	return err == nil
}

// TestUncompressedPush: a push of plain tars keeps its digests, and takes its space once when it is used.
func TestUncompressedPush(t *testing.T) {
	f := open(t, hosted.Options{})
	f.r = hosted.New(f.s, hosted.Options{Clock: f.clock, Images: compressed.New(f.s, compressed.Options{})})
	img := registrytest.Hello("plain")
	f.push("app", "1", img)
	if d, err := f.r.Resolve(t.Context(), ref("app", "1")); err != nil || d.Digest != img.Desc().Digest {
		t.Errorf("%s, %v", d.Digest, err)
	}
	for _, d := range cfgOf(t, img).RootFS.DiffIDs {
		if _, err := f.s.Layer(t.Context(), d); err != nil {
			t.Fatal(err)
		}
		blob, err := os.Stat(filepath.Join(f.s.Root(), "blobs/sha256", d.Encoded()))
		if err != nil {
			t.Fatal(err)
		}
		tar, err := os.Stat(filepath.Join(f.s.LayerDir(d), "layer.tar"))
		if err != nil || !os.SameFile(blob, tar) {
			t.Errorf("the tar is kept twice: %v", err)
		}
	}
	f.wantShown("app", img, len(img.Blobs))
	wantSound(t, f.s)
}

// TestLost: check says what of the pushed is lost, and a repair makes an end of it.
func TestLost(t *testing.T) {
	f := open(t, hosted.Options{})
	a, b := registrytest.Hello("a", gzipLayer), registrytest.Hello("b", gzipLayer)
	f.push("app", "1", a)
	f.push("app", "", b)
	for _, d := range []digest.Digest{a.Blobs[1].Digest, b.Desc().Digest} {
		if err := os.Remove(filepath.Join(f.s.Root(), "blobs/sha256", d.Encoded())); err != nil {
			t.Fatal(err)
		}
	}
	for i, repair := range []bool{false, true, false} {
		r, err := f.s.Check(t.Context(), repair, event.Discard)
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 && len(r.Problems) < 4 { // both blobs, and what they were of
			t.Errorf("problems %q", r.Problems)
		}
		if i == 1 && !r.Clean() || i == 2 && len(r.Problems) > 0 {
			t.Errorf("round %d: %q", i, r.Problems)
		}
	}
	f.push("app", "1", a)
	f.push("app", "", b)
	f.wantShown("app", a, len(a.Blobs))
	f.wantShown("app", b, len(b.Blobs))
	wantSound(t, f.s)
}

package compressed_test

import (
	"bytes"
	"errors"
	"sync"
	"testing"

	"nacre/internal/image"
	"nacre/internal/layer"
	"nacre/internal/registry"
	"nacre/internal/registry/compressed"
	"nacre/internal/registry/layout"
	"nacre/internal/registry/mem"
	"nacre/internal/registry/registrytest"
	"nacre/internal/registry/store"
)

// TestKinds takes a built image out of a store in every way and into another.
func TestKinds(t *testing.T) {
	s := openStore(t, t.TempDir())
	img := build(t, s, "app", 3_000_000, 0, 100)
	was := manifestOf(t, s, img.Target)
	for name, c := range map[string]struct {
		o        compressed.Options
		manifest string
		layer    string
	}{
		"zero":         {compressed.Options{}, image.TypeManifest, image.TypeLayerGzip},
		"docker":       {compressed.Options{Types: compressed.Docker}, image.TypeDockerManifest, image.TypeDockerLayerGzip},
		"zstd":         {compressed.Options{Compression: layer.Compression{Kind: layer.Zstd}}, image.TypeManifest, image.TypeLayerZstd},
		"estargz":      {compressed.Options{Compression: layer.Compression{Kind: layer.EStargz}, Types: compressed.OCI}, image.TypeManifest, image.TypeLayerGzip},
		"uncompressed": {compressed.Options{Compression: layer.Compression{Kind: layer.Uncompressed}}, image.TypeManifest, image.TypeLayer},
	} {
		t.Run(name, func(t *testing.T) {
			count := &compressions{}
			c.o.Sink = count.sink
			r := compressed.New(s, c.o)
			d, err := r.Resolve(t.Context(), registrytest.Ref("app"))
			if err != nil {
				t.Fatal(err)
			}
			m := manifestOf(t, r, d)
			if d.MediaType != c.manifest || m.MediaType != c.manifest || m.Layers[0].MediaType != c.layer {
				t.Errorf("types %s, %s and %s", d.MediaType, m.MediaType, m.Layers[0].MediaType)
			}
			if estargz := name == "estargz"; estargz == (m.Config.Digest == was.Config.Digest) || estargz == (len(m.Layers[0].Annotations) == 0) {
				t.Errorf("config %s, annotations %v", m.Config.Digest, m.Layers[0].Annotations)
			}
			if packs := name != "uncompressed"; packs != (d.Digest != img.Target.Digest) || packs != (m.Layers[0].Size < 2_500_000) || packs && count.n != 3 && count.n != 0 {
				t.Errorf("%d compressed, %s with a layer of %d bytes", count.n, d.Digest, m.Layers[0].Size)
			}
			wantWhole(t, r, d)
			// Another reader knows at once, and what it became is there without one.
			count.n = 0
			again, err := compressed.New(s, c.o).Resolve(t.Context(), registrytest.Ref("app"))
			if err != nil || again.Digest != d.Digest || count.n > 0 {
				t.Errorf("again: %s, %d compressed, %v", again.Digest, count.n, err)
			}
			wantWhole(t, s, d)
		})
	}
	wantSound(t, s)
}

// TestSame: another store makes the same of the same.
func TestSame(t *testing.T) {
	var digests []string
	for range 2 {
		s := openStore(t, t.TempDir())
		build(t, s, "app", 2_000_000)
		d, err := compressed.New(s, compressed.Options{}).Resolve(t.Context(), registrytest.Ref("app"))
		if err != nil {
			t.Fatal(err)
		}
		digests = append(digests, d.Digest.String())
	}
	if digests[0] != digests[1] {
		t.Errorf("%v", digests)
	}
}

// pull puts an image into s as it comes from a registry.
func pull(t *testing.T, s *store.Store, img registrytest.Image, name string) {
	t.Helper()
	for _, b := range img.Blobs {
		if err := registrytest.Push(t.Context(), s, "", b); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Tag(t.Context(), registrytest.Ref(name), img.Desc()); err != nil {
		t.Fatal(err)
	}
}

// TestPulled: what came compressed goes out as it came, unless it must not.
func TestPulled(t *testing.T) {
	s := openStore(t, t.TempDir())
	img := registrytest.Hello("pulled", image.TypeLayerGzip)
	pull(t, s, img, "pulled")
	d, err := compressed.New(s, compressed.Options{Compression: layer.Compression{Kind: layer.Zstd}}).Resolve(t.Context(), registrytest.Ref("pulled"))
	if err != nil || d.Digest != img.Desc().Digest {
		t.Errorf("zstd: %s, %v; want it untouched", d.Digest, err)
	}
	r := compressed.New(s, compressed.Options{Force: true})
	if d, err = r.Resolve(t.Context(), registrytest.Ref("pulled")); err != nil || d.Digest != img.Desc().Digest {
		t.Errorf("gzip by force: %s, %v; want it untouched", d.Digest, err)
	}
	for _, kind := range []string{layer.Zstd, layer.EStargz, layer.Uncompressed} {
		r = compressed.New(s, compressed.Options{Compression: layer.Compression{Kind: kind}, Force: true})
		if d, err = r.Resolve(t.Context(), registrytest.Ref("pulled")); err != nil || d.Digest == img.Desc().Digest {
			t.Errorf("%s by force: %s, %v", kind, d.Digest, err)
			continue
		}
		wantWhole(t, r, d)
	}

	// A layer of a base image goes out as the base came, so that it need not be sent.
	m := manifestOf(t, s, img.Desc())
	base, err := s.Lookup(t.Context(), "pulled")
	if err != nil {
		t.Fatal(err)
	}
	bm, _, err := s.Manifest(t.Context(), base, nil)
	if err != nil {
		t.Fatal(err)
	}
	cfg, _, err := s.Config(t.Context(), bm.Config)
	if err != nil {
		t.Fatal(err)
	}
	id := cfg.RootFS.DiffIDs[0]
	info, err := s.LayerInfo(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	putImage(t, s, "on", image.Layer{DiffID: id, Size: info.Size}, addLayer(t, s, "new", text(1000)))
	r = compressed.New(s, compressed.Options{})
	if d, err = r.Resolve(t.Context(), registrytest.Ref("on")); err != nil {
		t.Fatal(err)
	}
	if got := manifestOf(t, r, d).Layers[0].Digest; got != m.Layers[0].Digest {
		t.Errorf("the base's layer goes out as %s, it came as %s", got, m.Layers[0].Digest)
	}
	wantWhole(t, r, d)
	wantSound(t, s)
}

// TestIndex: of an index the children that are here are remade, and what tells of them follows.
func TestIndex(t *testing.T) {
	s := openStore(t, t.TempDir())
	img := build(t, s, "app", 1000)
	arm, amd := image.Platform{OS: "linux", Architecture: "arm64"}, image.Platform{OS: "linux", Architecture: "amd64"}
	here, absent, about := img.Target, registrytest.NewBlob(image.TypeManifest, []byte("{}")).Descriptor, registrytest.NewBlob(image.TypeManifest, []byte("{} ")).Descriptor
	here.Platform, absent.Platform = &amd, &arm
	about.Annotations = map[string]string{"vnd.docker.reference.digest": here.Digest.String()}
	data, x, err := image.AssembleIndex([]registry.Descriptor{here, absent, about}, map[string]string{"a": "b"})
	if err != nil {
		t.Fatal(err)
	}
	if err := registrytest.Push(t.Context(), s, "", registrytest.Blob{Descriptor: x, Data: data}); err != nil {
		t.Fatal(err)
	}
	if err := s.Tag(t.Context(), registrytest.Ref("multi"), x); err != nil {
		t.Fatal(err)
	}
	r := compressed.New(s, compressed.Options{})
	d, err := r.Resolve(t.Context(), registrytest.Ref("multi"))
	if err != nil {
		t.Fatal(err)
	}
	now, err := image.ParseIndex(content(t, r, d))
	if err != nil {
		t.Fatal(err)
	}
	child := now.Manifests[0]
	if child.Digest == here.Digest || child.Platform == nil || child.Platform.Architecture != "amd64" || now.Annotations["a"] != "b" {
		t.Errorf("first child %+v of %v", child, now.Annotations)
	}
	if now.Manifests[1].Digest != absent.Digest || now.Manifests[2].Annotations["vnd.docker.reference.digest"] != child.Digest.String() {
		t.Errorf("the others: %+v", now.Manifests[1:])
	}
	if manifestOf(t, r, child).Layers[0].MediaType != image.TypeLayerGzip {
		t.Error("the child's layers are not compressed")
	}
	wantSound(t, s)
}

// TestPruned: what a prune dropped is made again, by its digest.
func TestPruned(t *testing.T) {
	root := t.TempDir()
	s := openStore(t, root)
	build(t, s, "app", 100_000)
	d, err := compressed.New(s, compressed.Options{}).Resolve(t.Context(), registrytest.Ref("app"))
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
	s = openStore(t, root)
	report, err := s.Prune(t.Context(), store.PruneOptions{})
	if err != nil || len(report.Blobs) == 0 {
		t.Fatalf("pruned %v, %v", report.Blobs, err)
	}
	r := compressed.New(s, compressed.Options{})
	m := manifestOf(t, r, d)
	if got, err := r.Stat(t.Context(), "", m.Layers[0].Digest); err != nil || got.Size != m.Layers[0].Size {
		t.Errorf("of the layer it is known that %+v, %v", got, err)
	}
	wantWhole(t, r, d)
}

// TestOnce: readers of several stores of one root that ask at once compress a layer once.
func TestOnce(t *testing.T) {
	root := t.TempDir()
	build(t, openStore(t, root), "app", 1_000_000, 500_000)
	count := &compressions{}
	var wg sync.WaitGroup
	for range 3 {
		s := openStore(t, root)
		for range 2 {
			wg.Go(func() {
				if _, err := compressed.New(s, compressed.Options{Sink: count.sink}).Resolve(t.Context(), registrytest.Ref("app")); err != nil {
					t.Error(err)
				}
			})
		}
	}
	wg.Wait()
	if count.n != 2 {
		t.Errorf("%d compressions of 2 layers", count.n)
	}
}

func TestErrors(t *testing.T) {
	s := openStore(t, t.TempDir())
	build(t, s, "app", 100)
	for _, bad := range []layer.Compression{{Kind: "lzma"}, {Kind: layer.Gzip, Level: 99}} {
		if _, err := compressed.New(s, compressed.Options{Compression: bad}).Resolve(t.Context(), registrytest.Ref("app")); err == nil {
			t.Errorf("%v compresses", bad)
		}
	}
	if _, err := compressed.New(s, compressed.Options{}).Resolve(t.Context(), registrytest.Ref("none")); !errors.Is(err, registry.ErrAbsent) {
		t.Errorf("of no image: %v", err)
	}
	if _, err := compressed.New(s, compressed.Options{}).Open(t.Context(), "", registrytest.NewBlob("x/y", []byte("none")).Descriptor); !errors.Is(err, registry.ErrAbsent) {
		t.Errorf("of no blob: %v", err)
	}
}

// TestSource: an image whose manifest is not in the store, as a build has that is only exported.
func TestSource(t *testing.T) {
	s := openStore(t, t.TempDir())
	l := addLayer(t, s, "x", text(10_000))
	cfg := image.Config{}
	cfg.Platform = image.Platform{OS: "linux", Architecture: "amd64"}
	a, err := image.Assemble(cfg, []image.Layer{l})
	if err != nil {
		t.Fatal(err)
	}
	src := mem.New()
	src.Sparse = true
	for _, b := range []registrytest.Blob{{Descriptor: a.ConfigDesc, Data: a.Config}, {Descriptor: a.ManifestDesc, Data: a.Manifest}} {
		if err := registrytest.Push(t.Context(), src, "", b); err != nil {
			t.Fatal(err)
		}
	}
	for _, kind := range []string{layer.Gzip, layer.EStargz} {
		r := compressed.New(s, compressed.Options{Compression: layer.Compression{Kind: kind}, Source: both{src, s}})
		d, err := r.Remake(t.Context(), a.ManifestDesc)
		if err != nil {
			t.Fatal(err)
		}
		to, err := layout.Create(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := registry.Copy(t.Context(), to, registrytest.Ref("x"), r, registry.Ref{Digest: d.Digest}, registry.CopyOptions{}); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(content(t, to, d), content(t, r, d)) {
			t.Error("the manifest changed on its way")
		}
		wantWhole(t, to, d)
	}
}

// TestConform: as it is uncompressed, the store's images are the same to every byte.
func TestConform(t *testing.T) {
	registrytest.ConformReader(t, func(t testing.TB, fill func(registry.Writer)) registrytest.ReadLister {
		s := openStore(t, t.TempDir())
		fill(s)
		return struct {
			*compressed.Reader
			registry.Lister
		}{compressed.New(s, compressed.Options{Compression: layer.Compression{Kind: layer.Uncompressed}}), s}
	})
}

// TestReadOnly: from a store that is only read, what is compressed already can be had, and nothing else.
func TestReadOnly(t *testing.T) {
	root := t.TempDir()
	s := openStore(t, root)
	build(t, s, "app", 1000)
	d, err := compressed.New(s, compressed.Options{}).Resolve(t.Context(), registrytest.Ref("app"))
	if err != nil {
		t.Fatal(err)
	}
	build(t, s, "other", 2000)
	s.Close()
	ro, err := store.Open(t.Context(), root, store.Options{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	defer ro.Close()
	r := compressed.New(ro, compressed.Options{})
	if got, err := r.Resolve(t.Context(), registrytest.Ref("app")); err != nil || got.Digest != d.Digest {
		t.Errorf("%s, %v; want %s", got.Digest, err, d.Digest)
	}
	wantWhole(t, r, d)
	if _, err := compressed.Send(t.Context(), mem.New(), registrytest.Ref("x/app"), ro, registrytest.Ref("app"), compressed.Options{}, registry.CopyOptions{}); err != nil {
		t.Errorf("send: %v", err)
	}
	// The form is known, and the manifest with docker's types is made without being kept.
	docker := compressed.New(ro, compressed.Options{Types: compressed.Docker})
	if d, err = docker.Resolve(t.Context(), registrytest.Ref("app")); err != nil || d.MediaType != image.TypeDockerManifest {
		t.Errorf("%s, %v", d.MediaType, err)
	} else {
		wantWhole(t, docker, d)
	}
	if _, err := r.Resolve(t.Context(), registrytest.Ref("other")); !errors.Is(err, registry.ErrReadOnly) {
		t.Errorf("what is not compressed yet: %v", err)
	}
}

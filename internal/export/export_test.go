package export_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"testing"
	"time"

	"nacre/internal/export"
	"nacre/internal/image"
	"nacre/internal/layer"
	"nacre/internal/registry"
	"nacre/internal/registry/compressed"
	"nacre/internal/registry/mem"
	"nacre/internal/registry/registrytest"
	"nacre/internal/registry/store"
)

var (
	amd64 = image.Platform{OS: "linux", Architecture: "amd64"}
	arm64 = image.Platform{OS: "linux", Architecture: "arm64"}
	early = time.Date(2001, 1, 1, 0, 0, 0, 0, time.UTC)
	epoch = time.Date(2010, 1, 1, 0, 0, 0, 0, time.UTC)
	late  = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
)

func open(t *testing.T) (*store.Store, *store.Lease) {
	t.Helper()
	s, err := store.Open(t.Context(), t.TempDir(), store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	l, err := s.Lease(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return s, l
}

// add makes a layer of two files: name, of a time, and one that is old.
func add(t *testing.T, s *store.Store, l *store.Lease, name string, at time.Time) image.Layer {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range []*tar.Header{
		{Name: name, Mode: 0o644, Size: 5, ModTime: at, PAXRecords: map[string]string{"SCHILY.xattr.user.x": "y"}},
		{Name: "old", Typeflag: tar.TypeSymlink, Linkname: name, ModTime: early},
	} {
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if h.Size > 0 {
			io.WriteString(w, "12345")
		}
	}
	w.Close()
	info, err := s.MakeLayer(t.Context(), l, func(dir string) (layer.Info, error) {
		return layer.Ingest(t.Context(), dir, &b, layer.IngestOptions{})
	})
	if err != nil {
		t.Fatal(err)
	}
	return image.Layer{DiffID: info.DiffID, Size: info.Size}
}

func put(t *testing.T, s *store.Store, l *store.Lease, p image.Platform, layers ...image.Layer) registry.Descriptor {
	t.Helper()
	cfg := image.Config{}
	cfg.Platform = p
	cfg.Created = &late
	for i := range layers {
		at := []time.Time{early, late}[i%2]
		cfg.History = append(cfg.History, image.History{Created: &at})
	}
	a, err := image.Assemble(cfg, layers)
	if err != nil {
		t.Fatal(err)
	}
	img, err := s.PutImage(t.Context(), l, store.NewImage{Config: a.Config, Manifest: a.Manifest}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return img.Target
}

func read(t *testing.T, r registry.Reader, d registry.Descriptor) []byte {
	t.Helper()
	rc, err := r.Open(t.Context(), "", registry.Descriptor{Digest: d.Digest})
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

// parse returns the manifest and config of an image.
func parse(t *testing.T, r registry.Reader, d registry.Descriptor) (image.Manifest, image.Config) {
	t.Helper()
	m, err := image.ParseManifest(read(t, r, d))
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := image.ParseConfig(read(t, r, m.Config))
	if err != nil {
		t.Fatal(err)
	}
	return m, cfg
}

func TestEpoch(t *testing.T) {
	s, l := open(t)
	base, old, young := add(t, s, l, "base", late), add(t, s, l, "x", early), add(t, s, l, "y", late)
	d := put(t, s, l, amd64, base, old, young)
	img, err := export.Make(t.Context(), s, l, s, d, export.Options{Epoch: &epoch, Base: 1})
	if err != nil {
		t.Fatal(err)
	}
	m, cfg := parse(t, img, img.Desc)
	if m.Layers[0].Digest != base.DiffID || m.Layers[1].Digest != old.DiffID || m.Layers[2].Digest == young.DiffID || cfg.RootFS.DiffIDs[2] != m.Layers[2].Digest {
		t.Errorf("layers %v, diffIDs %v; want the third changed alone", m.Layers, cfg.RootFS.DiffIDs)
	}
	if !cfg.Created.Equal(epoch) || !cfg.History[0].Created.Equal(early) || !cfg.History[1].Created.Equal(epoch) || !img.Created.Equal(epoch) {
		t.Errorf("created %v, history %v", cfg.Created, cfg.History)
	}
	in := tar.NewReader(bytes.NewReader(read(t, img, m.Layers[2])))
	h, err := in.Next()
	if err != nil || h.Name != "y" || !h.ModTime.Equal(epoch) || h.PAXRecords["SCHILY.xattr.user.x"] != "y" {
		t.Errorf("%+v, %v", h, err)
	}
	if text, err := io.ReadAll(in); err != nil || string(text) != "12345" {
		t.Errorf("%q, %v", text, err)
	}
	if h, err = in.Next(); err != nil || h.Name != "old" || !h.ModTime.Equal(early) || h.Linkname != "y" {
		t.Errorf("%+v, %v", h, err)
	}
	// It is whole: another registry takes it.
	if _, err := registry.Copy(t.Context(), mem.New(), registrytest.Ref("x"), img, registry.Ref{Digest: img.Desc.Digest}, registry.CopyOptions{}); err != nil {
		t.Error(err)
	}
}

func TestAnnotations(t *testing.T) {
	s, l := open(t)
	x := add(t, s, l, "x", early)
	a, b := put(t, s, l, amd64, x), put(t, s, l, arm64, x)
	notes := export.Annotations{
		{Key: "all", Value: "1"}, {Key: "all", Value: "2"}, {Platform: &arm64, Key: "arm", Value: "3"},
		{Place: export.ManifestDescriptor, Platform: &amd64, Key: "desc", Value: "4"},
		{Place: export.Index, Key: "index", Value: "5"}, {Place: export.IndexDescriptor, Key: "top", Value: "6"},
	}
	if _, err := export.Make(t.Context(), s, l, s, a, export.Options{Annotations: notes}); !errors.Is(err, export.ErrNoIndex) {
		t.Errorf("annotations for an index of an image: %v", err)
	}
	was := a.Digest
	a.Platform, b.Platform = &amd64, &arm64
	about := put(t, s, l, image.Platform{OS: "unknown", Architecture: "unknown"}, x)
	about.Annotations = map[string]string{"vnd.docker.reference.digest": was.String()}
	data, d, err := image.AssembleIndex([]registry.Descriptor{a, b, about}, map[string]string{"was": "0"})
	if err != nil {
		t.Fatal(err)
	}
	if err := registrytest.Push(t.Context(), s, "", registrytest.Blob{Descriptor: d, Data: data}); err != nil {
		t.Fatal(err)
	}
	for _, compress := range []bool{false, true} {
		img, err := export.Make(t.Context(), s, l, s, d, export.Options{Annotations: notes, Compress: compress, Compressed: compressed.Options{Types: compressed.OCI}})
		if err != nil {
			t.Fatal(err)
		}
		index, err := image.ParseIndex(read(t, img, img.Desc))
		if err != nil {
			t.Fatal(err)
		}
		if index.Annotations["was"] != "0" || index.Annotations["index"] != "5" || img.Desc.Annotations["top"] != "6" {
			t.Errorf("index %v, descriptor %v", index.Annotations, img.Desc.Annotations)
		}
		first, second := index.Manifests[0], index.Manifests[1]
		if first.Annotations["desc"] != "4" || second.Annotations["desc"] != "" || first.Platform.Architecture != "amd64" {
			t.Errorf("descriptors %+v", index.Manifests)
		}
		m1, _ := parse(t, img, first)
		m2, _ := parse(t, img, second)
		if m1.Annotations["all"] != "2" || m1.Annotations["arm"] != "" || m2.Annotations["arm"] != "3" {
			t.Errorf("manifests %v and %v", m1.Annotations, m2.Annotations)
		}
		if got := index.Manifests[2].Annotations["vnd.docker.reference.digest"]; got != first.Digest.String() {
			t.Errorf("what is about the first is about %s, not %s", got, first.Digest)
		}
		if isGzip := m1.Layers[0].MediaType == image.TypeLayerGzip; isGzip != compress {
			t.Errorf("compress %v: %s", compress, m1.Layers[0].MediaType)
		}
		if at, err := img.Resolve(t.Context(), registry.Ref{Digest: img.Desc.Digest}); err != nil || at.Annotations["top"] != "6" {
			t.Errorf("by digest it is %+v, %v", at, err)
		}
	}
}

func TestPush(t *testing.T) {
	s, l := open(t)
	d := put(t, s, l, amd64, add(t, s, l, "x", late))
	to := mem.New()
	names := []registry.Ref{registrytest.Ref("example.com/a:1"), registrytest.Ref("example.com/a:2"), {Repo: "example.com/b"}}
	img, err := export.Push(t.Context(), s, l, s, d, export.Options{Annotations: export.Annotations{{Key: "k", Value: "v"}}}, to, names, registry.CopyOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range names[:2] {
		if got, err := to.Resolve(t.Context(), n); err != nil || got.Digest != img.Desc.Digest {
			t.Errorf("%s is %s, %v; want %s", n, got.Digest, err, img.Desc.Digest)
		}
	}
	m, _ := parse(t, to, img.Desc)
	if m.Annotations["k"] != "v" || m.Layers[0].MediaType != image.TypeLayerGzip {
		t.Errorf("pushed %+v", m)
	}
}

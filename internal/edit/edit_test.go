package edit

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"nacre/internal/export"
	"nacre/internal/image"
	"nacre/internal/imagefs"
	"nacre/internal/layer"
	"nacre/internal/registry"
	"nacre/internal/registry/mem"
	"nacre/internal/registry/registrytest"
)

var (
	amd64 = image.Platform{OS: "linux", Architecture: "amd64"}
	arm64 = image.Platform{OS: "linux", Architecture: "arm64"}
)

// push puts an image into r and returns where it is.
func push(t *testing.T, r *mem.Registry, img registrytest.Image) Source {
	t.Helper()
	for _, b := range img.Blobs {
		if err := registrytest.Push(t.Context(), r, "", b); err != nil {
			t.Fatal(err)
		}
	}
	return Source{Reader: r, Desc: img.Desc()}
}

func newImage(p image.Platform, files ...string) registrytest.Image {
	var tars [][]byte
	for i := 0; i < len(files); i += 2 {
		tars = append(tars, registrytest.Tar(files[i], files[i+1]))
	}
	return registrytest.NewImage(p, tars)
}

// folder makes a layer of one file.
func folder(t *testing.T, name, text string) *Layer {
	t.Helper()
	from := t.TempDir()
	if err := os.WriteFile(filepath.Join(from, name), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	at := time.Unix(1000, 0)
	l, err := FromFolder(t.Context(), t.TempDir(), from, Placing{NotAfter: &at})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// arrived copies what came of an edit to a registry of its own, which refuses what does not fit, and returns its parts.
func arrived(t *testing.T, e *Edit, d registry.Descriptor) *Parts {
	t.Helper()
	to := mem.New()
	if _, err := registry.Copy(t.Context(), to, registrytest.Ref("x"), e, registry.Ref{Digest: d.Digest}, registry.CopyOptions{}); err != nil {
		t.Fatal(err)
	}
	p, err := New(Source{Reader: to, Desc: d}).parts(t.Context(), Source{Reader: to}, d)
	if err != nil {
		t.Fatal(err)
	}
	if err := image.Validate(p.Config, p.Manifest); err != nil {
		t.Error(err)
	}
	return p
}

func TestAppend(t *testing.T) {
	l := folder(t, "new", "new")
	for _, media := range []string{image.TypeLayer, image.TypeLayerGzip, image.TypeLayerZstd, image.TypeDockerLayerGzip} {
		t.Run(media, func(t *testing.T) {
			s := push(t, mem.New(), registrytest.NewImage(amd64, [][]byte{registrytest.Tar("a", "a")}, media))
			e := New(s)
			d, err := e.Apply(t.Context(), Options{}, e.Append([]*Layer{l, l}, AppendOptions{CreatedBy: "test"}))
			if err != nil {
				t.Fatal(err)
			}
			p := arrived(t, e, d)
			if len(p.Manifest.Layers) != 3 || p.Manifest.Layers[1].MediaType != media || p.Config.RootFS.DiffIDs[2] != l.Info.DiffID || d.MediaType != s.Desc.MediaType {
				t.Errorf("%s: layers %v, diffIDs %v", d.MediaType, p.Manifest.Layers, p.Config.RootFS.DiffIDs)
			}
			if h := p.Config.History; len(h) != 3 || h[2].CreatedBy != "test" || !h[2].Created.Equal(*p.Config.Created) {
				t.Errorf("history %+v", h)
			}
		})
	}
}

// TestCompressions: each says what it is, and is what its config says; the same one is made once.
func TestCompressions(t *testing.T) {
	l := folder(t, "new", strings.Repeat("new", 1000))
	s := push(t, mem.New(), newImage(amd64, "a", "a"))
	for kind, media := range map[string]string{
		layer.Gzip: image.TypeLayerGzip, layer.Zstd: image.TypeLayerZstd, layer.EStargz: image.TypeLayerGzip, layer.Uncompressed: image.TypeLayer,
	} {
		var first registry.Descriptor
		for range 2 {
			e := New(s)
			d, err := e.Apply(t.Context(), Options{}, e.Append([]*Layer{l}, AppendOptions{Compression: &layer.Compression{Kind: kind}}))
			if err != nil {
				t.Fatal(err)
			}
			p := arrived(t, e, d)
			if p.Manifest.Layers[1].MediaType != media || first.Digest != "" && d.Digest != first.Digest {
				t.Errorf("%s: %+v, first %s then %s", kind, p.Manifest.Layers[1], first.Digest, d.Digest)
			}
			first = d
			ls := imagefs.New(t.TempDir(), imagefs.Options{})
			root, err := ls.Root(t.Context(), imagefs.Image{Reader: e, Manifest: p.Manifest, Config: p.Config})
			if err != nil {
				t.Fatalf("%s: %v", kind, err)
			}
			if info, err := root.Stat("new"); err != nil || info.Size() != 3000 {
				t.Errorf("%s: %v", kind, err)
			}
			if err := ls.Close(); err != nil {
				t.Error(err)
			}
		}
	}
}

// TestDockerAnnotated: docker's manifests have no annotations, so one that gets some becomes an OCI one.
func TestDockerAnnotated(t *testing.T) {
	e := New(push(t, mem.New(), registrytest.NewImage(amd64, [][]byte{registrytest.Tar("a", "a")}, image.TypeDockerLayerGzip)))
	notes := export.Annotations{{Key: "k", Value: "v"}}
	d, err := e.Apply(t.Context(), Options{Annotations: notes}, e.Append([]*Layer{folder(t, "b", "b")}, AppendOptions{}))
	if err != nil {
		t.Fatal(err)
	}
	p := arrived(t, e, d)
	if d.MediaType != image.TypeManifest || p.Manifest.Config.MediaType != image.TypeConfig || p.Manifest.Annotations["k"] != "v" {
		t.Errorf("%s %+v", d.MediaType, p.Manifest)
	}
	for _, l := range p.Manifest.Layers {
		if l.MediaType != image.TypeLayerGzip {
			t.Errorf("layer %s", l.MediaType)
		}
	}
}

func TestScratch(t *testing.T) {
	e, err := Scratch(arm64)
	if err != nil {
		t.Fatal(err)
	}
	d, err := e.Apply(t.Context(), Options{}, e.Append([]*Layer{folder(t, "a", "a")}, AppendOptions{}))
	if err != nil {
		t.Fatal(err)
	}
	p := arrived(t, e, d)
	if p.Config.Architecture != "arm64" || p.Manifest.Layers[0].MediaType != image.TypeLayerGzip || p.Config.Created != nil {
		t.Errorf("%+v %+v", p.Config, p.Manifest)
	}
}

// index is two images, an attestation of the first, and an artifact.
func index(t *testing.T, r *mem.Registry) (Source, image.Index) {
	t.Helper()
	a, b := newImage(amd64, "f", "a"), newImage(arm64, "f", "b")
	push(t, r, a)
	push(t, r, b)
	about := registrytest.NewImageOf(registrytest.NewBlob(image.TypeConfig, []byte(`{"architecture":"unknown","os":"unknown","rootfs":{"type":"layers","diff_ids":[]}}`)))
	push(t, r, about)
	artifact := registrytest.NewImageOf(registrytest.NewBlob("application/x", []byte(`{}`)))
	push(t, r, artifact)
	da, db, dc := a.Desc(), b.Desc(), about.Desc()
	da.Platform, db.Platform = &amd64, &arm64
	dc.Annotations = map[string]string{image.AboutAnnotation: da.Digest.String()}
	data, d, err := image.AssembleIndex([]image.Descriptor{da, db, dc, artifact.Desc()}, map[string]string{"kept": "1"})
	if err != nil {
		t.Fatal(err)
	}
	if err := registrytest.Push(t.Context(), r, "", registrytest.Blob{Descriptor: d, Data: data}); err != nil {
		t.Fatal(err)
	}
	x, err := image.ParseIndex(data)
	if err != nil {
		t.Fatal(err)
	}
	return Source{Reader: r, Desc: d}, x
}

func TestIndex(t *testing.T) {
	r := mem.New()
	s, was := index(t, r)
	var notes []string
	e := New(s)
	o := Options{Note: func(s string) { notes = append(notes, s) }, Annotations: export.Annotations{{Place: export.Index, Key: "new", Value: "2"}}}
	user := "u"
	d, err := e.Apply(t.Context(), o, Mutate(Mutation{User: &user}))
	if err != nil {
		t.Fatal(err)
	}
	data, err := e.read(t.Context(), s, d)
	if err != nil {
		t.Fatal(err)
	}
	x, err := image.ParseIndex(data)
	if err != nil {
		t.Fatal(err)
	}
	if len(x.Manifests) != 3 || x.Annotations["kept"] != "1" || x.Annotations["new"] != "2" || x.Manifests[2].Digest != was.Manifests[3].Digest {
		t.Errorf("%+v", x)
	}
	for i, c := range x.Manifests[:2] {
		p, err := e.parts(t.Context(), s, c)
		if err != nil || p.Config.Config.User != "u" || c.Platform.Architecture != was.Manifests[i].Platform.Architecture || c.Digest == was.Manifests[i].Digest {
			t.Errorf("%+v, %v", c, err)
		}
	}
	if len(notes) != 1 || !strings.Contains(notes[0], "attestations") {
		t.Errorf("notes %q", notes)
	}

	// What changes nothing gives what there was, attestations and all.
	e = New(s)
	if d, err = e.Apply(t.Context(), Options{}, Mutate(Mutation{})); err != nil || d.Digest != s.Desc.Digest {
		t.Errorf("%s, %v; want %s", d.Digest, err, s.Desc.Digest)
	}
	// So does what is so already.
	cmd := []string{"/hello"}
	e = New(s)
	if d, err = e.Apply(t.Context(), Options{}, Mutate(Mutation{Cmd: &cmd})); err != nil || d.Digest != s.Desc.Digest {
		t.Errorf("%s, %v; want %s", d.Digest, err, s.Desc.Digest)
	}
	// One of them alone.
	e = New(s)
	if d, err = e.Apply(t.Context(), Options{Platform: &arm64}, Mutate(Mutation{User: &user})); err != nil || d.MediaType != image.TypeManifest {
		t.Fatal(d.MediaType, err)
	}
	if p := arrived(t, e, d); p.Config.Architecture != "arm64" {
		t.Error(p.Config.Architecture)
	}
	if _, err = New(s).Apply(t.Context(), Options{Platform: &image.Platform{OS: "linux", Architecture: "s390x"}}, Mutate(Mutation{})); !errors.Is(err, image.ErrNoPlatform) {
		t.Error(err)
	}
	// Of which only one is here.
	if err := r.Delete(t.Context(), "", was.Manifests[0].Digest); err != nil {
		t.Fatal(err)
	}
	notes, e = nil, New(s)
	o.Annotations = nil
	if d, err = e.Apply(t.Context(), o, Mutate(Mutation{User: &user})); err != nil || len(notes) != 1 {
		t.Fatal(err, notes)
	}
	if p := arrived(t, e, d); p.Config.Architecture != "arm64" {
		t.Error(p.Config.Architecture)
	}
}

// TestHostile: documents that do not fit are an error, and so are layers that are not what they are said to be.
func TestHostile(t *testing.T) {
	r := mem.New()
	r.Sparse = true
	config := func(s string) registrytest.Blob { return registrytest.NewBlob(image.TypeConfig, []byte(s)) }
	tar := registrytest.NewBlob(image.TypeLayer, registrytest.Tar("a", "a"))
	other := registrytest.NewBlob(image.TypeLayer, registrytest.Tar("a", "b"))
	for name, img := range map[string]registrytest.Image{
		"no diffIDs":   registrytest.NewImageOf(config(`{"os":"linux","architecture":"amd64","rootfs":{"type":"layers","diff_ids":[]}}`), tar),
		"no JSON":      registrytest.NewImageOf(config(`{`), tar),
		"no digest":    registrytest.NewImageOf(config(`{"os":"linux","architecture":"amd64","rootfs":{"type":"layers","diff_ids":["../../x"]}}`), tar),
		"no os":        registrytest.NewImageOf(config(`{"rootfs":{"type":"layers","diff_ids":["`+tar.Digest.String()+`"]}}`), tar),
		"an artifact":  registrytest.NewImageOf(registrytest.NewBlob("application/x", []byte(`{}`)), tar),
		"wrong diffID": registrytest.NewImageOf(config(`{"os":"linux","architecture":"amd64","rootfs":{"type":"layers","diff_ids":["`+other.Digest.String()+`","`+tar.Digest.String()+`"]}}`), tar, tar),
	} {
		t.Run(name, func(t *testing.T) {
			s := push(t, r, img)
			ls := imagefs.New(t.TempDir(), imagefs.Options{})
			defer ls.Close()
			e := New(s)
			_, err := e.Apply(t.Context(), Options{}, func(ctx context.Context, p *Parts) error {
				if err := Mutate(Mutation{})(ctx, p); err != nil {
					return err
				}
				return e.Flatten(FlattenOptions{Layers: ls, Dir: t.TempDir()})(ctx, p)
			})
			switch {
			case name == "wrong diffID":
				if !errors.Is(err, layer.ErrDiffID) {
					t.Errorf("%v", err)
				}
			case name == "an artifact":
				if !errors.Is(err, registry.ErrUnsupported) {
					t.Errorf("%v", err)
				}
			case !errors.Is(err, registry.ErrInvalid):
				t.Errorf("%v", err)
			}
		})
	}
}

// TestFromTarHostile: what is no layer is not appended, and leaves no file of one.
func TestFromTarHostile(t *testing.T) {
	for name, c := range map[string]struct {
		data string
		want error
	}{
		"no tar":    {strings.Repeat("x", 1024), layer.ErrFormat},
		"truncated": {string(registrytest.Tar("a", strings.Repeat("x", 5000))[:2000]), layer.ErrTruncated},
		"outside":   {string(registrytest.Tar("../../a", "x")), layer.ErrUnsafe},
	} {
		for _, o := range []Placing{{}, {To: "x"}} {
			if _, err := FromTar(t.Context(), t.TempDir(), strings.NewReader(c.data), o); !errors.Is(err, c.want) {
				t.Errorf("%s: %v, want %v", name, err, c.want)
			}
		}
	}
}

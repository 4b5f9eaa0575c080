// Package registrytest proves that a registry keeps the contract of package
// registry: Conform for whole registries, ConformReader for media that are only
// read. It also makes the images tests need.
package registrytest

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"slices"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"

	"nacre/internal/image"
	"nacre/internal/registry"
)

// Blob is content with its descriptor.
type Blob struct {
	registry.Descriptor
	Data []byte
}

// NewBlob describes data.
func NewBlob(mediaType string, data []byte) Blob {
	return Blob{image.Describe(mediaType, data), data}
}

// Image is a manifest or index and all it refers to, in an order in which it may be uploaded:
// the last of Blobs is the manifest or index itself.
type Image struct{ Blobs []Blob }

// Desc describes the manifest or index.
func (i Image) Desc() registry.Descriptor { return i.Blobs[len(i.Blobs)-1].Descriptor }

// Tar is a layer of regular files, as an uncompressed tar; files alternate name and content.
func Tar(files ...string) []byte {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for i := 0; i < len(files); i += 2 {
		h := &tar.Header{Typeflag: tar.TypeReg, Name: files[i], Mode: 0o644, Size: int64(len(files[i+1])), ModTime: time.Unix(0, 0)}
		must(w.WriteHeader(h))
		_, err := io.WriteString(w, files[i+1])
		must(err)
	}
	must(w.Close())
	return b.Bytes()
}

// Compress returns data as the media type of a layer says: gzip, zstd or as it is.
func Compress(mediaType string, data []byte) []byte {
	var b bytes.Buffer
	var w io.WriteCloser
	switch image.Compression(mediaType) {
	case "":
		return data
	case "gzip":
		w = gzip.NewWriter(&b)
	case "zstd":
		z, err := zstd.NewWriter(&b)
		must(err)
		w = z
	}
	_, err := w.Write(data)
	must(err)
	must(w.Close())
	return b.Bytes()
}

// NewImage makes an OCI image of uncompressed tars. mediaTypes says how layers are kept, in
// turn; none: uncompressed. Docker's layer types make a docker schema 2 manifest.
func NewImage(platform image.Platform, tars [][]byte, mediaTypes ...string) Image {
	if len(mediaTypes) == 0 {
		mediaTypes = []string{image.TypeLayer}
	}
	created := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	cfg := image.Config{}
	cfg.Platform = platform
	cfg.Created = &created
	cfg.Config.Cmd = []string{"/hello"}
	cfg.RootFS.Type = "layers"
	cfg.RootFS.DiffIDs = []digest.Digest{}
	m := image.Manifest{MediaType: image.TypeManifest, Layers: []image.Descriptor{}}
	m.SchemaVersion = 2
	configType := image.TypeConfig
	var img Image
	for i, data := range tars {
		mediaType := mediaTypes[i%len(mediaTypes)]
		switch mediaType {
		case image.TypeDockerLayer, image.TypeDockerLayerGzip, image.TypeDockerLayerZstd:
			m.MediaType, configType = image.TypeDockerManifest, image.TypeDockerConfig
		}
		layer := NewBlob(mediaType, Compress(mediaType, data))
		img.Blobs = append(img.Blobs, layer)
		m.Layers = append(m.Layers, layer.Descriptor)
		cfg.RootFS.DiffIDs = append(cfg.RootFS.DiffIDs, digest.FromBytes(data))
		cfg.History = append(cfg.History, image.History{Created: &created, CreatedBy: fmt.Sprintf("COPY layer %d", i)})
	}
	config := NewBlob(configType, marshal(cfg))
	m.Config = config.Descriptor
	img.Blobs = append(img.Blobs, config, NewBlob(m.MediaType, marshal(m)))
	return img
}

// NewImageOf makes an OCI image of parts as they are, whether or not they fit.
func NewImageOf(config Blob, layers ...Blob) Image {
	m := image.Manifest{MediaType: image.TypeManifest, Config: config.Descriptor, Layers: []image.Descriptor{}}
	m.SchemaVersion = 2
	img := Image{slices.Clone(layers)}
	for _, l := range layers {
		m.Layers = append(m.Layers, l.Descriptor)
	}
	img.Blobs = append(img.Blobs, config, NewBlob(m.MediaType, marshal(m)))
	return img
}

// With is an image whose blobs are all named by another algorithm, the manifest too. Its last
// blobs are a config and a manifest, as NewImage makes them.
func With(img Image, by digest.Algorithm) Image {
	again := func(b Blob) Blob {
		b.Digest = by.FromBytes(b.Data)
		return b
	}
	var layers []Blob
	n := len(img.Blobs)
	for _, b := range img.Blobs[:n-2] {
		layers = append(layers, again(b))
	}
	out := NewImageOf(again(img.Blobs[n-2]), layers...)
	out.Blobs[n-1] = again(out.Blobs[n-1])
	return out
}

// Hello is a small image of two layers, told apart from others by name.
func Hello(name string, mediaTypes ...string) Image {
	return NewImage(image.Platform{OS: "linux", Architecture: "amd64"}, [][]byte{
		Tar("base", "the same in all"),
		Tar("hello", "hello from "+name),
	}, mediaTypes...)
}

// NewIndex makes an index of images, with their platforms as children's platforms.
func NewIndex(platforms []image.Platform, images []Image) Image {
	var all Image
	var children []image.Descriptor
	for i, img := range images {
		all.Blobs = append(all.Blobs, img.Blobs...)
		d := img.Desc()
		d.Platform = &platforms[i]
		children = append(children, d)
	}
	data, d, err := image.AssembleIndex(children, nil)
	must(err)
	all.Blobs = append(all.Blobs, Blob{d, data})
	return all
}

// NewArtifact makes an OCI artifact: a manifest whose config and content are of
// types nobody knows.
func NewArtifact(content []byte) Image {
	body := NewBlob("application/vnd.example.content", content)
	empty := NewBlob("application/vnd.oci.empty.v1+json", []byte("{}"))
	m := image.Manifest{MediaType: image.TypeManifest, ArtifactType: "application/vnd.example.thing",
		Config: empty.Descriptor, Layers: []image.Descriptor{body.Descriptor}}
	m.SchemaVersion = 2
	return Image{[]Blob{body, empty, NewBlob(m.MediaType, marshal(m))}}
}

// About is a manifest's image or artifact with a subject and annotations.
func About(img Image, subject registry.Descriptor, annotations map[string]string) Image {
	n := len(img.Blobs) - 1
	m, err := image.ParseManifest(img.Blobs[n].Data)
	must(err)
	m.Subject, m.Annotations = &subject, annotations
	return Image{append(slices.Clone(img.Blobs[:n]), NewBlob(m.MediaType, marshal(m)))}
}

// Push uploads one blob.
func Push(ctx context.Context, w registry.Writer, repo string, b Blob) error {
	u, err := w.Create(ctx, repo, b.Descriptor)
	if err != nil {
		return err
	}
	defer u.Cancel()
	if _, err := u.Write(b.Data); err != nil {
		return err
	}
	return u.Commit()
}

// Put uploads an image and tags it, or fails the test.
func Put(t testing.TB, w registry.Writer, ref registry.Ref, img Image) {
	t.Helper()
	for _, b := range img.Blobs {
		if err := Push(t.Context(), w, ref.Repo, b); err != nil {
			t.Fatalf("upload %s %s: %v", b.MediaType, b.Digest, err)
		}
	}
	if err := w.Tag(t.Context(), ref, img.Desc()); err != nil {
		t.Fatalf("tag %s: %v", ref, err)
	}
}

// Check fails the test unless r has all of img, with the right bytes.
func Check(t testing.TB, r registry.Reader, repo string, img Image) {
	t.Helper()
	for _, b := range img.Blobs {
		got, err := Get(t.Context(), r, repo, b.Descriptor)
		if err != nil {
			t.Errorf("%s %s: %v", b.MediaType, b.Digest, err)
		} else if !bytes.Equal(got, b.Data) {
			t.Errorf("%s %s: %d bytes that are not those uploaded (%d)", b.MediaType, b.Digest, len(got), len(b.Data))
		}
	}
}

// Get reads d whole.
func Get(ctx context.Context, r registry.Reader, repo string, d registry.Descriptor) ([]byte, error) {
	rc, err := r.Open(ctx, repo, d)
	if err != nil {
		return nil, err
	}
	defer rc.Close()
	return io.ReadAll(rc)
}

// Ref parses a name that is known to be right.
func Ref(s string) registry.Ref {
	r, err := registry.ParseRef(s)
	must(err)
	return r
}

func marshal(v any) []byte {
	data, err := image.Marshal(v)
	must(err)
	return data
}

// must is for what cannot fail: writing to memory.
func must(err error) {
	if err != nil {
		panic(err)
	}
}

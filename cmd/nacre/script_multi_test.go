package main

import (
	"archive/tar"
	"bytes"
	"fmt"
	"os"
	"strings"
	"time"

	"nacre/internal/image"

	"github.com/opencontainers/go-digest"
	"github.com/rogpeppe/go-internal/testscript"
)

// multiImage is "multi FILE PLATFORM...": an archive with the image multi:1, an index of an image for each platform. All
// have a layer of 20000 bytes, and each one of 5000 of its own. The platform "host" is this machine's, and $HOST from then on.
// "PLATFORM+" has an attestation about that image beside it, as BuildKit makes them.
func multiImage(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: multi FILE PLATFORM...")
	}
	f, err := os.Create(ts.MkAbs(args[0]))
	ts.Check(err)
	defer f.Close()
	m := multiWriter{tar: tar.NewWriter(f), check: ts.Check}
	m.file("oci-layout", []byte(`{"imageLayoutVersion":"1.0.0"}`))
	shared := m.layer("shared", 20000)
	x := image.Index{MediaType: image.TypeIndex}
	x.SchemaVersion = 2
	host := image.FormatPlatform(image.DefaultPlatform())
	ts.Setenv("HOST", host)
	for _, arg := range args[1:] {
		arg, attested := strings.CutSuffix(strings.ReplaceAll(arg, "host", host), "+")
		p, err := image.ParsePlatform(arg)
		ts.Check(err)
		d := m.image(p, shared, m.layer(strings.ReplaceAll(arg, "/", "-"), 5000))
		d.Platform = &p
		x.Manifests = append(x.Manifests, d)
		if attested {
			x.Manifests = append(x.Manifests, m.attestation(d))
		}
	}
	top := image.Index{}
	top.SchemaVersion = 2
	top.Manifests = []image.Descriptor{m.blob(x.MediaType, m.json(x))}
	top.Manifests[0].Annotations = map[string]string{"io.containerd.image.name": "docker.io/library/multi:1", "org.opencontainers.image.ref.name": "1"}
	m.file("index.json", m.json(top))
	ts.Check(m.tar.Close())
}

// multiWriter writes files into an archive.
type multiWriter struct {
	tar   *tar.Writer
	check func(error)
}

func (m multiWriter) file(name string, data []byte) {
	m.check(m.tar.WriteHeader(&tar.Header{Name: name, Size: int64(len(data)), Mode: 0o644}))
	_, err := m.tar.Write(data)
	m.check(err)
}

func (m multiWriter) json(v any) []byte {
	data, err := image.Marshal(v)
	m.check(err)
	return data
}

func (m multiWriter) blob(mediaType string, data []byte) image.Descriptor {
	d := image.Describe(mediaType, data)
	m.file("blobs/sha256/"+d.Digest.Encoded(), data)
	return d
}

// layer is one with a file of that name and size.
func (m multiWriter) layer(name string, size int) image.Layer {
	var b bytes.Buffer
	inner := multiWriter{tar.NewWriter(&b), m.check}
	inner.file(name, bytes.Repeat([]byte("x"), size))
	m.check(inner.tar.Close())
	m.blob(image.TypeLayer, b.Bytes())
	return image.Layer{DiffID: digest.FromBytes(b.Bytes()), Size: int64(b.Len())}
}

func (m multiWriter) image(p image.Platform, layers ...image.Layer) image.Descriptor {
	made := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	cfg := image.Config{}
	cfg.Created, cfg.Platform = &made, p
	cfg.Config.Labels = map[string]string{"for": image.FormatPlatform(p)}
	cfg.RootFS.Type = "layers"
	for i := range layers {
		cfg.History = append(cfg.History, image.History{Created: &made, CreatedBy: fmt.Sprintf("layer %d for %s", i+1, image.FormatPlatform(p))})
	}
	as, err := image.Assemble(cfg, layers)
	m.check(err)
	m.blob(image.TypeConfig, as.Config)
	return m.blob(image.TypeManifest, as.Manifest)
}

// attestation is one about the image d.
func (m multiWriter) attestation(d image.Descriptor) image.Descriptor {
	unknown := image.Platform{OS: "unknown", Architecture: "unknown"}
	at := m.image(unknown, m.layer("about "+d.Digest.Encoded(), 100))
	at.Platform = &unknown
	at.Annotations = map[string]string{image.AboutAnnotation: d.Digest.String(), "vnd.docker.reference.type": "attestation-manifest"}
	return at
}

package image

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
)

var blobJSON = `{"mediaType":"x/y","digest":"` + digest.FromString("x").String() + `","size":1}`

func TestParse(t *testing.T) {
	const manifest, index, config = "manifest", "index", "config"
	for name, c := range map[string]struct{ doc, is string }{
		"OCI manifest":                 {`{"schemaVersion":2,"mediaType":"` + TypeManifest + `","config":` + blobJSON + `,"layers":[` + blobJSON + `]}`, manifest},
		"OCI manifest without type":    {`{"schemaVersion":2,"config":` + blobJSON + `,"layers":[]}`, manifest},
		"docker manifest":              {`{"schemaVersion":2,"mediaType":"` + TypeDockerManifest + `","config":` + blobJSON + `,"layers":[]}`, manifest},
		"unknown fields":               {`{"schemaVersion":2,"config":` + blobJSON + `,"layers":null,"x":{"y":[]}}`, manifest},
		"OCI index":                    {`{"schemaVersion":2,"mediaType":"` + TypeIndex + `","manifests":[` + blobJSON + `]}`, index},
		"index without type":           {`{"schemaVersion":2,"manifests":[]}`, index},
		"docker index":                 {`{"schemaVersion":2,"mediaType":"` + TypeDockerIndex + `","manifests":[]}`, index},
		"config":                       {`{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":["` + digest.FromString("x").String() + `"]}}`, config},
		"both (CVE-2021-41190)":        {`{"schemaVersion":2,"manifests":[],"config":` + blobJSON + `,"layers":[]}`, ""},
		"both, as a manifest":          {`{"schemaVersion":2,"mediaType":"` + TypeManifest + `","manifests":[],"config":` + blobJSON + `,"layers":[]}`, ""},
		"schema 1":                     {`{"schemaVersion":1,"fsLayers":[],"history":[]}`, ""},
		"signed schema 1":              {`{"schemaVersion":1,"mediaType":"application/vnd.docker.distribution.manifest.v1+prettyjws"}`, ""},
		"schema 3":                     {`{"schemaVersion":3,"config":` + blobJSON + `,"layers":[]}`, ""},
		"another type":                 {`{"schemaVersion":2,"mediaType":"application/json","config":` + blobJSON + `,"layers":[]}`, ""},
		"no digest":                    {`{"schemaVersion":2,"config":{"mediaType":"a","size":1},"layers":[]}`, ""},
		"unsafe digest":                {`{"schemaVersion":2,"config":{"mediaType":"a","digest":"sha256:../../etc","size":1},"layers":[]}`, ""},
		"unknown digest algorithm":     {`{"schemaVersion":2,"config":{"mediaType":"a","digest":"md5:d41d8cd98f00b204e9800998ecf8427e","size":1},"layers":[]}`, ""},
		"no media type":                {`{"schemaVersion":2,"config":{"digest":"` + digest.FromString("x").String() + `","size":1},"layers":[]}`, ""},
		"negative size":                {`{"schemaVersion":2,"config":{"mediaType":"a","digest":"` + digest.FromString("x").String() + `","size":-1},"layers":[]}`, ""},
		"size too large for 64 bits":   {`{"schemaVersion":2,"config":{"mediaType":"a","digest":"` + digest.FromString("x").String() + `","size":99999999999999999999},"layers":[]}`, ""},
		"bad layer":                    {`{"schemaVersion":2,"config":` + blobJSON + `,"layers":[{}]}`, ""},
		"bad child":                    {`{"schemaVersion":2,"manifests":[{}]}`, ""},
		"HTML":                         {`<html>404</html>`, ""},
		"empty":                        {``, ""},
		"trailing":                     {`{"schemaVersion":2,"manifests":[]} {}`, ""},
		"too large":                    {strings.Repeat(" ", MaxSize) + `{"schemaVersion":2,"manifests":[]}`, ""},
		"config with an unsafe diffID": {`{"rootfs":{"type":"layers","diff_ids":["../x"]}}`, ""},
	} {
		for is, parse := range map[string]func() error{
			manifest: func() error { _, err := ParseManifest([]byte(c.doc)); return err },
			index:    func() error { _, err := ParseIndex([]byte(c.doc)); return err },
			config: func() error {
				if strings.Contains(c.doc, "schemaVersion") {
					return ErrInvalid // any object is a config: this says nothing
				}
				_, err := ParseConfig([]byte(c.doc))
				return err
			},
		} {
			err := parse()
			if (err == nil) != (is == c.is) || (err != nil && !errors.Is(err, ErrInvalid)) {
				t.Errorf("%s as %s: %v", name, is, err)
			}
		}
	}
}

// FuzzParse: what parses has safe digests and parses again as it is written.
func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"schemaVersion":2,"mediaType":"` + TypeManifest + `","config":` + blobJSON + `,"layers":[` + blobJSON + `]}`))
	f.Add([]byte(`{"schemaVersion":2,"manifests":[` + blobJSON + `]}`))
	f.Add([]byte(`{"architecture":"amd64","os":"linux","created":"2026-01-02T03:04:05Z","config":{"Env":["a=b"],"Healthcheck":{"Test":["NONE"]}},"rootfs":{"type":"layers","diff_ids":[]},"history":[{"empty_layer":true}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		if m, err := ParseManifest(data); err == nil {
			stable(t, m, ParseManifest)
			if _, err := MediaTypeOf(data); err != nil && m.MediaType != "" {
				t.Errorf("a manifest has no media type: %v", err)
			}
			for _, l := range append(m.Layers, m.Config) {
				if strings.ContainsAny(l.Digest.Encoded(), "/.") || l.Size < 0 {
					t.Errorf("unsafe %+v", l)
				}
			}
		}
		if x, err := ParseIndex(data); err == nil && x.Manifests != nil {
			stable(t, x, ParseIndex)
			MatchPlatform(x, DefaultPlatform())
		}
		if c, err := ParseConfig(data); err == nil {
			stable(t, c, ParseConfig)
			Trace(c, Manifest{})
		}
	})
}

func stable[T any](t *testing.T, v T, parse func([]byte) (T, error)) {
	t.Helper()
	out, err := Marshal(v)
	if err != nil {
		return // a time outside of what JSON can say
	}
	if len(out) > MaxSize {
		return
	}
	again, err := parse(out)
	if err != nil {
		t.Fatalf("%s: %v", out, err)
	}
	if out2, _ := Marshal(again); !bytes.Equal(out, out2) {
		t.Errorf("%s\n%s", out, out2)
	}
}

// TestMediaTypeOf tells documents that do not say what they are by their shape.
func TestMediaTypeOf(t *testing.T) {
	for doc, want := range map[string]string{
		`{"schemaVersion":2,"config":{},"layers":[]}`:                           TypeManifest,
		`{"schemaVersion":2,"manifests":[]}`:                                    TypeIndex,
		`{"schemaVersion":2,"mediaType":"` + TypeDockerManifest + `"}`:          TypeDockerManifest,
		`{"architecture":"amd64","config":{"Cmd":["x"]},"rootfs":{}}`:           "",
		`{"schemaVersion":2,"config":{},"manifests":[]}`:                        "",
		`{"schemaVersion":2,"mediaType":"application/vnd.example","config":{}}`: "",
		`{"schemaVersion":1,"fsLayers":[]}`:                                     "",
		`{"schemaVersion":2,"config":{},"layers":[]}{"schemaVersion":2}`:        "",
	} {
		got, err := MediaTypeOf([]byte(doc))
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%s: %q, %v", doc, got, err)
		}
	}
}

package image

import (
	"errors"
	"testing"
)

func TestParsePlatform(t *testing.T) {
	for in, want := range map[string]string{
		"linux/amd64": "linux/amd64", "amd64": "linux/amd64", "x86_64": "linux/amd64", "linux/amd64/v1": "linux/amd64",
		"linux/amd64/v3": "linux/amd64/v3", "arm64": "linux/arm64", "linux/arm64/v8": "linux/arm64", "aarch64": "linux/arm64",
		"linux/arm": "linux/arm/v7", "armhf": "linux/arm/v7", "linux/arm/6": "linux/arm/v6", "Linux/ARM/V6": "linux/arm/v6",
		"windows/amd64": "windows/amd64", "linux": FormatPlatform(DefaultPlatform()),
	} {
		if p, err := ParsePlatform(in); err != nil || FormatPlatform(p) != want {
			t.Errorf("%q is %s, %v; want %s", in, FormatPlatform(p), err, want)
		}
	}
	for _, in := range []string{"", "/", "linux/", "a/b/c/d", "linux/amd 64", "linux/ä", "linux//v7"} {
		if p, err := ParsePlatform(in); err == nil {
			t.Errorf("%q was taken for %s", in, FormatPlatform(p))
		}
	}
}

func TestMatchPlatform(t *testing.T) {
	for _, c := range []struct {
		have []string // "" for an entry without platform
		want string
		got  int // -1: none
	}{
		{[]string{"linux/amd64", "linux/arm64"}, "linux/arm64", 1},
		{[]string{"linux/amd64", "linux/arm64/v8"}, "linux/arm64", 1},
		{[]string{"linux/arm64"}, "linux/arm64/v8", 0},
		{[]string{"linux/arm/v5", "linux/arm/v6", "linux/arm/v7"}, "linux/arm/v6", 1},
		{[]string{"linux/arm/v6", "linux/arm/v5"}, "linux/arm/v7", 0},
		{[]string{"linux/arm/v7"}, "linux/arm/v6", -1},
		{[]string{"linux/amd64", "linux/amd64/v2", "linux/amd64/v4"}, "linux/amd64/v3", 1},
		{[]string{"linux/amd64/v2"}, "linux/amd64", -1},
		{[]string{"windows/amd64"}, "linux/amd64", -1},
		{[]string{"linux/amd64", "linux/amd64"}, "linux/amd64", 0},
		{[]string{"unknown/unknown", "linux/amd64"}, "linux/amd64", 1},
		{[]string{"unknown/unknown"}, "linux/amd64", -1},
		{[]string{""}, "linux/amd64", 0},
		{[]string{"", ""}, "linux/amd64", -1},
		{nil, "linux/amd64", -1},
	} {
		var x Index
		for i, s := range c.have {
			d := Descriptor{Size: int64(i)}
			if s != "" {
				// Verbatim, as an index may have it.
				p := Platform{}
				for j, part := range split3(s) {
					*[]*string{&p.OS, &p.Architecture, &p.Variant}[j] = part
				}
				d.Platform = &p
			}
			x.Manifests = append(x.Manifests, d)
		}
		want, err := ParsePlatform(c.want)
		if err != nil {
			t.Fatal(err)
		}
		d, err := MatchPlatform(x, want)
		if (c.got < 0) != errors.Is(err, ErrNoPlatform) || (c.got >= 0 && (err != nil || d.Size != int64(c.got))) {
			t.Errorf("%s of %q: %d, %v; want %d", c.want, c.have, d.Size, err, c.got)
		}
	}
}

func split3(s string) [3]string {
	var parts [3]string
	i := 0
	for _, r := range s {
		if r == '/' {
			i++
		} else {
			parts[i] += string(r)
		}
	}
	return parts
}

func TestMediaTypes(t *testing.T) {
	for mediaType, want := range map[string][2]string{ // what it is, how it is compressed
		TypeIndex: {"index"}, TypeDockerIndex: {"index"}, TypeManifest: {"manifest"}, TypeDockerManifest: {"manifest"},
		TypeConfig: {"config"}, TypeDockerConfig: {"config"}, "application/json": {""}, "": {""},
		TypeLayer: {"layer"}, TypeLayerGzip: {"layer", "gzip"}, TypeLayerZstd: {"layer", "zstd"},
		TypeDockerLayer: {"layer"}, TypeDockerLayerGzip: {"layer", "gzip"}, TypeDockerLayerZstd: {"layer", "zstd"},
		TypeDockerForeignGzip: {"layer", "gzip"}, typeForeignZstd: {"layer", "zstd"}, typeForeign: {"layer"},
	} {
		got := ""
		for is, f := range map[string]func(string) bool{"index": IsIndex, "manifest": IsManifest, "config": IsConfig, "layer": IsLayer} {
			if f(mediaType) {
				got += is
			}
		}
		if got != want[0] || Compression(mediaType) != want[1] {
			t.Errorf("%s is %q, compressed %q; want %q", mediaType, got, Compression(mediaType), want)
		}
	}
}

package main

import (
	"slices"
	"strings"
	"testing"

	"nacre/internal/export"
	"nacre/internal/image"
	"nacre/internal/registry"

	"github.com/opencontainers/go-digest"
)

func TestParseAnnotation(t *testing.T) {
	for text, want := range map[string]string{
		"a=b":                                  "0  a b",
		"a.b=c=d":                              "0  a.b c=d",
		"manifest:a=b":                         "0  a b",
		"index:a=b":                            "2  a b",
		"index,manifest:a=":                    "2  a |0  a ",
		"manifest-descriptor[linux/arm64]:a=b": "1 linux/arm64 a b",
		"index-descriptor:a=b":                 "3  a b",
		"[linux/arm/v7]:a=b":                   "0 linux/arm/v7 a b",
		"http://x=y":                           "!",
		"Some Key:x=y":                         "0  Some Key:x y",
		"manifst:a=b":                          "!",
		"manifest[linux:a=b":                   "!",
		"manifest[arm64]:a=b":                  "0 linux/arm64 a b", // as BuildKit reads platforms
		"manifest[a/b/c/d]:a=b":                "!",
		"manifest:=b":                          "!",
		"a":                                    "!",
		"=a":                                   "!",
	} {
		list, err := parseAnnotations([]string{text})
		var got []string
		for _, n := range list {
			platform := ""
			if n.Platform != nil {
				platform = image.FormatPlatform(*n.Platform)
			}
			got = append(got, strings.Join([]string{string(rune('0' + n.Place)), platform, n.Key, n.Value}, " "))
		}
		if err != nil {
			got = []string{"!"}
		}
		if strings.Join(got, "|") != want {
			t.Errorf("--annotation %q: %q, %v; want %q", text, got, err, want)
		}
	}
	for text, want := range map[string]export.Place{
		"annotation.a": export.Manifest, "annotation-manifest.a": export.Manifest, "annotation-manifest-descriptor.a": export.ManifestDescriptor,
		"annotation-index[linux/amd64].a": export.Index, "annotation[linux/amd64].a": export.Manifest,
	} {
		if n, err := parseAnnotationKey(text); err != nil || n.Place != want || n.Key != "a" || strings.Contains(text, "[") != (n.Platform != nil) {
			t.Errorf("%s: %+v, %v", text, n, err)
		}
	}
}

// FuzzOutput: no --output breaks the parser, and what is accepted has a type and what that needs.
func FuzzOutput(f *testing.F) {
	for _, s := range []string{
		"-", "dir", "type=image,name=a,push=true", `type=oci,dest=x,"name=a,b",annotation[linux/amd64].k=v`, "type=docker,compression=zstd,compression-level=3",
		"type=tar,dest=-,platform-split", "type=oci,dest=x,annotation-manifest-descriptor.a=b,oci-mediatypes=false",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		o, err := parseOutput(s)
		if err != nil {
			return
		}
		if o.checkKind() != nil || o.check() != nil || o.kind == "local" && o.dest == "-" {
			t.Errorf("%q was accepted: %+v", s, o)
		}
	})
}

func TestOutputNames(t *testing.T) {
	d := digest.FromString("x")
	names := []registry.Ref{{Repo: "a", Tag: "1"}, {Repo: "a", Tag: "2"}, {Repo: "b", Tag: "1"}}
	for text, want := range map[string][]registry.Ref{
		"type=image":                           names,
		"type=image,name-canonical=true":       append(names[:3:3], registry.Ref{Repo: "a", Digest: d}, registry.Ref{Repo: "b", Digest: d}),
		"type=image,name-canonical=false":      names,
		"type=image,dangling-name-prefix=lost": names,
	} {
		o, err := parseOutput(text)
		if err != nil {
			t.Fatal(err)
		}
		if got := o.allNames(names, export.Image{Desc: registry.Descriptor{Digest: d}}); !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", text, got, want)
		}
	}
}

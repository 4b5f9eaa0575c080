package portable

import (
	"reflect"
	"slices"
	"testing"
	"time"

	"nacre/internal/cache"
	"nacre/internal/image"

	"github.com/opencontainers/go-digest"
)

// FuzzConfig: what parses is written and read again as the same entries, and keys are
// always those of the fields.
func FuzzConfig(f *testing.F) {
	h := cache.NewHash("k/1", "base\x00stage\x001")
	h.Add("a", "\xff")
	c := newConfig(Contents{Entries: []cache.Entry{{Record: h.Sum(), Output: cache.Output{
		DiffID: digest.FromString("l"), Content: digest.FromString("c"), Created: time.Unix(5, 0).UTC(), Size: 1,
	}}}, Mounts: []Mount{{"go", "uid=5", 0o1755, 5, 6, digest.FromString("m")}}}, "base")
	data, err := c.marshal()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add([]byte(`{}`))
	f.Add([]byte(`{"layers":["sha256:00"],"records":[],"mounts":[{"id":"","layer":0}]}`))
	f.Add([]byte(`{"records":[],"mounts":[{"id":"a","mode":65535,"uid":-1,"layer":-1}]}`))
	f.Add([]byte(`{"layers":["sha256:00"],"records":[{"layer":-1}]}`))
	f.Add([]byte(`{"layers":[],"records":[{"layer":0,"fields":"MTphPTE6Ygo="}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		contents, _, err := parseConfig(data, "base")
		if err != nil {
			return
		}
		entries := contents.Entries
		for _, e := range entries {
			if !e.Valid() {
				t.Fatalf("%+v has a key that is not its fields'", e)
			}
		}
		written, err := newConfig(contents, "base").marshal()
		if err != nil {
			return // a time that JSON cannot have
		}
		second, _, err := parseConfig(written, "base")
		if err != nil {
			t.Fatalf("%v: %s", err, written)
		}
		if !slices.Equal(second.Mounts, contents.Mounts) {
			t.Fatalf("%+v became %+v", contents.Mounts, second.Mounts)
		}
		again := second.Entries
		if len(again) != len(entries) {
			t.Fatalf("%d entries became %d", len(entries), len(again))
		}
		for i := range again {
			if again[i].Key != entries[i].Key || again[i].Content != entries[i].Content || !again[i].Created.Equal(entries[i].Created) ||
				!reflect.DeepEqual(again[i].Fields, entries[i].Fields) {
				t.Fatalf("%+v became %+v", entries[i], again[i])
			}
		}
	})
}

// FuzzInline: whatever is in an image's config, reading it ends, and records are of the image's own layers.
func FuzzInline(f *testing.F) {
	layer := digest.FromString("l")
	cfg := image.Config{}
	cfg.OS, cfg.Architecture = "linux", "amd64"
	a, err := image.Assemble(cfg, []image.Layer{{DiffID: layer, Size: 1}})
	if err != nil {
		f.Fatal(err)
	}
	rec := cache.NewHash("k/1", "base\x00stage\x001").Sum()
	out := cache.Output{DiffID: layer, Content: digest.FromString("c"), Created: time.Unix(5, 0).UTC()}
	other := out
	other.DiffID = digest.FromString("another")
	with, err := Inline(a, []cache.Entry{{Record: rec, Output: out}, {Record: rec, Output: other}}, "base")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(with.Config)
	f.Add(a.Config)
	f.Add([]byte(`{"vnd.nacre.cache.v1":"KLUv/Q=="}`))
	m, err := image.ParseManifest(a.Manifest)
	if err != nil {
		f.Fatal(err)
	}
	if entries, blobs, err := readInline(with.Config, m, "base"); err != nil || len(entries) != 1 || entries[0].DiffID != layer || len(blobs) != 1 {
		f.Fatalf("what was written reads as %+v, %v, %v", entries, blobs, err)
	}
	f.Fuzz(func(t *testing.T, config []byte) {
		entries, _, err := readInline(config, m, "base")
		if err != nil {
			return
		}
		for _, e := range entries {
			if !e.Valid() || e.DiffID != layer {
				t.Fatalf("%+v", e)
			}
		}
	})
}

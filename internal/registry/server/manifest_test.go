package server

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"nacre/internal/image"
)

// FuzzManifestType checks that what passes for a manifest is JSON that nests no deeper than
// allowed, and of the type it came as.
func FuzzManifestType(f *testing.F) {
	f.Add(image.TypeManifest, []byte(`{"schemaVersion":2,"config":{},"layers":[]}`))
	f.Add("application/json; charset=utf-8", []byte(`{"schemaVersion":2,"manifests":[],"a":"]\"[","b":`+strings.Repeat("[", 62)+strings.Repeat("]", 62)+`}`))
	f.Add("", []byte(strings.Repeat(`{"a":`, 100)))
	f.Fuzz(func(t *testing.T, contentType string, data []byte) {
		got, err := manifestType(contentType, data)
		if err != nil {
			return
		}
		if !image.IsManifest(got) && !image.IsIndex(got) {
			t.Fatalf("the type is %q", got)
		}
		if n := depth(t, data); n > maxDepth {
			t.Fatalf("%d deep", n)
		}
		if strings.HasPrefix(contentType, "application/vnd.") && !strings.HasPrefix(contentType, got) {
			t.Fatalf("came as %q, is %q", contentType, got)
		}
	})
}

// depth is how deep the JSON nests, found by its own decoder.
func depth(t *testing.T, data []byte) (deepest int) {
	now := 0
	for d := json.NewDecoder(strings.NewReader(string(data))); ; {
		token, err := d.Token()
		if err == io.EOF {
			return deepest
		}
		if err != nil {
			t.Fatalf("it is not JSON: %v", err)
		}
		switch token {
		case json.Delim('{'), json.Delim('['):
			now++
		case json.Delim('}'), json.Delim(']'):
			now--
		}
		deepest = max(deepest, now)
	}
}

// TestManifestCache keeps what is asked for, and no more than it may.
func TestManifestCache(t *testing.T) {
	c := newManifestCache()
	often := digest.FromString("often")
	c.put(often, []byte("often"))
	large := make([]byte, cachedManifest)
	for i := range 1000 {
		c.put(digest.FromString(fmt.Sprint(i)), large)
		if data, ok := c.get(often); !ok || string(data) != "often" {
			t.Fatalf("after %d others it is %q, %v", i, data, ok)
		}
		if size := len(c.young) + len(c.old); size > cachedBytes/cachedManifest+2 {
			t.Fatalf("%d are kept", size)
		}
	}
	if _, ok := c.get(digest.FromString("0")); ok {
		t.Error("the first is still there")
	}
	c.put("large", make([]byte, cachedManifest+1))
	if _, ok := c.get("large"); ok {
		t.Error("a large one is kept")
	}
}

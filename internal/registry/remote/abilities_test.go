package remote_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"nacre/internal/image"
	"nacre/internal/registry"
	"nacre/internal/registry/registrytest"
	"nacre/internal/registry/remote"
)

// each runs a test against our own server and against Docker's.
func each(t *testing.T, f func(t *testing.T, c *remote.Registry, addr string)) {
	t.Run("nacre", func(t *testing.T) { f(t, client(t, remote.Options{}), serve(t, nil).addr) })
	t.Run("docker", func(t *testing.T) { f(t, client(t, remote.Options{}), docker(t)) })
}

// about makes an artifact whose subject is another manifest.
func about(subject registry.Descriptor, text string) registrytest.Image {
	img := registrytest.NewArtifact([]byte(text))
	last := &img.Blobs[len(img.Blobs)-1]
	var m map[string]any
	if err := json.Unmarshal(last.Data, &m); err != nil {
		panic(err)
	}
	m["subject"] = map[string]any{"mediaType": subject.MediaType, "digest": subject.Digest, "size": subject.Size}
	m["annotations"] = map[string]string{"text": text}
	data, err := json.Marshal(m)
	if err != nil {
		panic(err)
	}
	*last = registrytest.NewBlob(last.MediaType, data)
	return img
}

// TestReferrers: they are found, with the API (ours) and without (Docker's), where a tag lists them.
func TestReferrers(t *testing.T) {
	each(t, func(t *testing.T, c *remote.Registry, addr string) {
		repo := addr + "/app"
		img := registrytest.Hello("subject")
		registrytest.Put(t, c, registry.Ref{Repo: repo, Tag: "1"}, img)
		collect := func(d digest.Digest) map[string]registry.Descriptor {
			all := map[string]registry.Descriptor{}
			for r, err := range c.Referrers(t.Context(), repo, d) {
				if err != nil {
					t.Fatal(err)
				}
				all[r.Annotations["text"]] = r
			}
			return all
		}
		if got := collect(img.Desc().Digest); len(got) != 0 {
			t.Errorf("before: %v", got)
		}
		for _, text := range []string{"one", "two", "one"} {
			a := about(img.Desc(), text)
			registrytest.Put(t, c, registry.Ref{Repo: repo, Digest: a.Desc().Digest}, a)
		}
		got := collect(img.Desc().Digest)
		want := about(img.Desc(), "two").Desc()
		if len(got) != 2 || got["two"].Digest != want.Digest || got["two"].Size != want.Size || got["two"].ArtifactType != "application/vnd.example.thing" {
			t.Errorf("referrers: %+v", got)
		}
	})
}

// TestChunks: pieces are put together by both.
func TestChunks(t *testing.T) {
	for name, addr := range map[string]string{"nacre": serve(t, nil).addr, "docker": docker(t)} {
		c := client(t, remote.Options{Hosts: remote.Hosts{addr: {Chunk: 300_000}}})
		for _, size := range []int{0, 1, 299_999, 300_000, 300_001, 600_000, 1_000_000} {
			b := noise(size)
			if err := registrytest.Push(t.Context(), c, addr+"/app", b); err != nil {
				t.Errorf("%s: %d bytes: %v", name, size, err)
			}
			registrytest.Check(t, c, addr+"/app", registrytest.Image{Blobs: []registrytest.Blob{b}})
		}
	}
}

// TestMount: content goes from repository to repository without being sent.
func TestMount(t *testing.T) {
	each(t, func(t *testing.T, c *remote.Registry, addr string) {
		b := noise(100_000)
		if err := registrytest.Push(t.Context(), c, addr+"/from", b); err != nil {
			t.Fatal(err)
		}
		if ok, err := c.Has(t.Context(), addr+"/to", b.Descriptor); ok || err != nil {
			t.Errorf("has it before: %v, %v", ok, err)
		}
		if err := c.Mount(t.Context(), addr+"/to", addr+"/from", b.Descriptor); err != nil {
			t.Error(err)
		}
		registrytest.Check(t, c, addr+"/to", registrytest.Image{Blobs: []registrytest.Blob{b}})
		absent := noise(200_000)
		if err := c.Mount(t.Context(), addr+"/to", addr+"/from", absent.Descriptor); !errors.Is(err, registry.ErrUnsupported) && !errors.Is(err, registry.ErrAbsent) {
			t.Errorf("mount of what is not there: %v", err)
		}
		if err := registrytest.Push(t.Context(), c, addr+"/to", absent); err != nil {
			t.Errorf("upload after that: %v", err)
		}
		registrytest.Check(t, c, addr+"/to", registrytest.Image{Blobs: []registrytest.Blob{absent}})
		if err := c.Mount(t.Context(), addr+"/to", "localhost:1/from", b.Descriptor); !errors.Is(err, registry.ErrUnsupported) {
			t.Errorf("mount from another registry: %v", err)
		}
	})
}

// TestStatAndOpenAt: content described and read from its middle.
func TestStatAndOpenAt(t *testing.T) {
	each(t, func(t *testing.T, c *remote.Registry, addr string) {
		repo := addr + "/app"
		b, img := noise(100_000), registrytest.Hello("stat")
		if err := registrytest.Push(t.Context(), c, repo, b); err != nil {
			t.Fatal(err)
		}
		registrytest.Put(t, c, registry.Ref{Repo: repo, Tag: "1"}, img)
		if d, err := c.Stat(t.Context(), repo, b.Digest); err != nil || d.Size != b.Size || d.MediaType != "" || d.Digest != b.Digest {
			t.Errorf("blob: %+v, %v", d, err)
		}
		if d, err := c.Stat(t.Context(), repo, img.Desc().Digest); err != nil || d.Size != img.Desc().Size || d.MediaType != image.TypeManifest {
			t.Errorf("manifest: %+v, %v", d, err)
		}
		if _, err := c.Stat(t.Context(), repo, noise(7).Digest); !errors.Is(err, registry.ErrAbsent) {
			t.Errorf("absent: %v", err)
		}
		for _, at := range []int64{0, 1, 99_999, 100_000} {
			rc, err := c.OpenAt(t.Context(), repo, b.Descriptor, at)
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(rc)
			rc.Close()
			if err != nil || !bytes.Equal(got, b.Data[at:]) {
				t.Errorf("from %d: %d bytes, %v", at, len(got), err)
			}
		}
		if _, err := c.OpenAt(t.Context(), repo, b.Descriptor, b.Size+1); err == nil {
			t.Error("opened behind the end")
		}
	})
}

// TestNames: what is no name is refused before anything is asked.
func TestNames(t *testing.T) {
	c := client(t, remote.Options{})
	for _, ref := range []registry.Ref{
		{Repo: "app", Tag: "1"}, {Repo: "localhost:1/../x", Tag: "1"}, {Repo: "localhost:1/app", Tag: "../1"}, {Repo: "localhost:1/app", Tag: "a?b"},
		{Repo: "localhost:1/app", Tag: strings.Repeat("x", 129)}, {Repo: "localhost:1/app"}, {Repo: "localhost:1/app", Digest: "sha256:x"}, {},
		{Repo: "team/app", Tag: "1"}, {Repo: "user@localhost:1/app", Tag: "1"},
	} {
		if _, err := c.Resolve(t.Context(), ref); !errors.Is(err, registry.ErrInvalid) {
			t.Errorf("%+v: %v", ref, err)
		}
	}
}

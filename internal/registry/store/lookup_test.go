package store_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"nacre/internal/registry"
	"nacre/internal/registry/registrytest"
	"nacre/internal/registry/store"
)

func TestLookup(t *testing.T) {
	s := open(t)
	base := made(t, s, nil, "base")
	a := put(t, s, 1, []string{"app:1", "localhost:5000/team/app:1"}, base)
	b := put(t, s, 2, []string{"app:2"}, base)
	twin := put(t, s, 3, []string{"deadbeef"}, base) // a name made of hex digits
	for _, c := range []struct {
		name string
		want store.Image
	}{
		{"app:1", a},
		{"docker.io/library/app:1", a},
		{"localhost:5000/team/app:1", a},
		{"app:2", b},
		{"deadbeef", twin},
		{a.ID.String(), a},
		{a.ID.Encoded(), a},
		{a.ID.Encoded()[:12], a},
		{"sha256:" + a.ID.Encoded()[:12], a},
		{a.Target.Digest.String(), a},
		{a.Target.Digest.Encoded()[:20], a},
		{"app@" + a.Target.Digest.String(), a},
		{"app:2@" + a.Target.Digest.String(), a}, // the digest decides
		{"app@" + b.ID.String(), b},
	} {
		got, err := s.Lookup(t.Context(), c.name)
		if err != nil || got.Target.Digest != c.want.Target.Digest {
			t.Errorf("%s: %s, %v; want %s", c.name, got.Target.Digest, err, c.want.Target.Digest)
		}
	}
	for _, absent := range []string{
		"app", "app:3", "team/app:1", "sha256:" + strings.Repeat("0", 64), strings.Repeat("0", 64), "00000000000000",
		"app@sha256:" + strings.Repeat("1", 64),
	} {
		if _, err := s.Lookup(t.Context(), absent); !errors.Is(err, registry.ErrAbsent) {
			t.Errorf("%s: %v, want ErrAbsent", absent, err)
		}
	}
	for _, invalid := range []string{"", "App", "a b", "app:", "-"} {
		if _, err := s.Lookup(t.Context(), invalid); err == nil {
			t.Errorf("%q was found", invalid)
		}
	}
}

func TestLookupAmbiguous(t *testing.T) {
	s := open(t)
	byDigit := map[string][]store.Image{}
	var prefix string
	for i := 0; prefix == ""; i++ {
		img := put(t, s, i, []string{fmt.Sprintf("app:%d", i)})
		digit := img.ID.Encoded()[:1]
		if byDigit[digit] = append(byDigit[digit], img); len(byDigit[digit]) == 2 {
			prefix = digit
		}
	}
	_, err := s.Lookup(t.Context(), prefix)
	if !errors.Is(err, store.ErrAmbiguous) {
		t.Fatalf("%s: %v, want ErrAmbiguous", prefix, err)
	}
	for _, img := range byDigit[prefix] {
		if !strings.Contains(err.Error(), img.ID.Encoded()[:12]) || !strings.Contains(err.Error(), img.Names[0].Familiar()) {
			t.Errorf("%q does not name %s %s", err, img.ID, img.Names[0].Familiar())
		}
	}
	if _, _, err := s.Remove(t.Context(), prefix, store.RemoveOptions{Force: true}); !errors.Is(err, store.ErrAmbiguous) {
		t.Errorf("remove %s: %v, want ErrAmbiguous", prefix, err)
	}
}

func TestImages(t *testing.T) {
	s := open(t)
	base := made(t, s, nil, "base")
	old := put(t, s, 1, []string{"app:1", "app:latest"}, base)
	cfg := config(5, base)
	cfg.Config.Labels = map[string]string{"a": "b"}
	img, err := s.PutImage(t.Context(), nil, assemble(t, cfg, base), refs("app:latest", "zoo:1"))
	if err != nil {
		t.Fatal(err)
	}
	dangling := put(t, s, 3, nil, base)
	var got []store.Image
	for i, err := range s.Images(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, i)
	}
	if len(got) != 3 || got[0].ID != img.ID || got[1].ID != dangling.ID || got[2].ID != old.ID {
		t.Fatalf("images %v", got)
	}
	if n := familiar(got[0].Names); !slices.Equal(n, []string{"app:latest", "zoo:1"}) || got[0].Labels["a"] != "b" || got[0].Dangling {
		t.Errorf("newest: %+v", got[0])
	}
	if d := familiar(got[0].Digests); !slices.Equal(d, []string{"app@" + img.Target.Digest.String(), "zoo@" + img.Target.Digest.String()}) {
		t.Errorf("digests %q", d)
	}
	if !got[1].Dangling || len(got[1].Names) != 0 {
		t.Errorf("dangling: %+v", got[1])
	}
	if n := familiar(got[2].Names); !slices.Equal(n, []string{"app:1"}) {
		t.Errorf("oldest after retag: %q", n)
	}
	if want := time.Date(2026, 1, 1, 5, 0, 0, 0, time.UTC); !got[0].Created.Equal(want) || got[0].Size != base.FileBytes || got[0].Platform.Architecture != "amd64" {
		t.Errorf("created %s, size %d, platform %v", got[0].Created, got[0].Size, got[0].Platform)
	}
}

func TestIndexIsDescribedByItsChild(t *testing.T) {
	s := open(t)
	ours := registrytest.NewImage(defaultPlatform, [][]byte{registrytest.Tar("ours", "12345")})
	other := otherPlatform
	x := registrytest.NewIndex([]platform{other, defaultPlatform}, []registrytest.Image{
		registrytest.NewImage(other, [][]byte{registrytest.Tar("theirs", "123")}), ours})
	registrytest.Put(t, s, registrytest.Ref("multi"), x)
	img, err := s.Lookup(t.Context(), "multi")
	if err != nil {
		t.Fatal(err)
	}
	if config := ours.Blobs[1]; img.ID != config.Digest || img.Size != 5 || img.Target.Digest != x.Desc().Digest {
		t.Errorf("index: %+v", img)
	}
	m, d, err := s.Manifest(t.Context(), img, &other)
	if err != nil || d.Digest != x.Blobs[2].Digest || len(m.Layers) != 1 {
		t.Errorf("child for %v: %v %v", other, d, err)
	}
	if _, _, err := s.Manifest(t.Context(), img, &platform{OS: "plan9", Architecture: "mips"}); err == nil {
		t.Error("a child for plan9 was found")
	}
}

// TestPartialIndex: of an index only the children that were fetched must be whole.
func TestPartialIndex(t *testing.T) {
	s := open(t)
	there := registrytest.NewImage(defaultPlatform, [][]byte{registrytest.Tar("there", "")})
	gone := registrytest.NewImage(otherPlatform, [][]byte{registrytest.Tar("gone", "")})
	x := registrytest.NewIndex([]platform{defaultPlatform, otherPlatform}, []registrytest.Image{there, gone})
	index := x.Blobs[len(x.Blobs)-1]
	ref := registrytest.Ref("partial")
	if err := registrytest.Push(t.Context(), s, ref.Repo, index); err != nil {
		t.Fatal(err)
	}
	if err := s.Tag(t.Context(), ref, index.Descriptor); !errors.Is(err, registry.ErrAbsent) {
		t.Errorf("tag of an index without any child: %v", err)
	}
	for _, b := range there.Blobs {
		if err := registrytest.Push(t.Context(), s, ref.Repo, b); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Tag(t.Context(), ref, index.Descriptor); err != nil {
		t.Fatal(err)
	}
	// The manifest of the other child arrives, but none of its layers.
	if err := registrytest.Push(t.Context(), s, ref.Repo, gone.Blobs[2]); err != nil {
		t.Fatal(err)
	}
	if err := s.Tag(t.Context(), ref, index.Descriptor); !errors.Is(err, registry.ErrAbsent) {
		t.Errorf("tag with half a child: %v", err)
	}
	for _, b := range gone.Blobs {
		if err := registrytest.Push(t.Context(), s, ref.Repo, b); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Tag(t.Context(), ref, index.Descriptor); err != nil {
		t.Error(err)
	}
	wantSound(t, s)
}

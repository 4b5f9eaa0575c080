package manifest_test

import (
	"context"
	"errors"
	"slices"
	"testing"

	"nacre/internal/image"
	"nacre/internal/manifest"
	"nacre/internal/registry"
	"nacre/internal/registry/mem"
	"nacre/internal/registry/registrytest"
	"nacre/internal/registry/store"
)

// lists are those of a new store, before a registry.
func lists(t *testing.T) (*manifest.Lists, *mem.Registry) {
	t.Helper()
	s, err := store.Open(t.Context(), t.TempDir(), store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	world := mem.New()
	return &manifest.Lists{Store: s, Remote: func(context.Context) (registry.Reader, error) { return world, nil }}, world
}

func forPlatform(arch string) registrytest.Image {
	return registrytest.NewImage(image.Platform{OS: "linux", Architecture: arch}, [][]byte{registrytest.Tar(arch, "")}, image.TypeLayerGzip)
}

func find(t *testing.T, l *manifest.Lists, name string) manifest.Entry {
	t.Helper()
	found, err := l.Find(t.Context(), name)
	if err != nil || len(found) != 1 {
		t.Fatalf("find %s: %v, %v", name, found, err)
	}
	return found[0]
}

// TestFoundStays: what was found may be listed though it is removed in between.
func TestFoundStays(t *testing.T) {
	l, _ := lists(t)
	registrytest.Put(t, l.Store, registrytest.Ref("here"), forPlatform("arm64"))
	found := find(t, l, "here")
	other, err := store.Open(t.Context(), l.Store.Root(), store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := other.Remove(t.Context(), "here", store.RemoveOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := other.Prune(t.Context(), store.PruneOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := other.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Change(t.Context(), registrytest.Ref("list"), func(x manifest.List, _ error) (manifest.List, error) {
		return manifest.New(x.Name).Add(found), nil
	}); err != nil {
		t.Error(err)
	}
	if ok, err := l.Store.Has(t.Context(), "", found.Desc); err != nil || !ok {
		t.Errorf("it is listed and gone: %v", err)
	}
}

func TestListIsAValue(t *testing.T) {
	l, world := lists(t)
	for _, arch := range []string{"arm64", "s390x"} {
		registrytest.Put(t, world, registrytest.Ref("localhost/"+arch), forPlatform(arch))
	}
	arm, z := find(t, l, "localhost/arm64"), find(t, l, "localhost/s390x")
	empty := manifest.New(registrytest.Ref("list"))
	one := empty.Add(arm)
	two := one.Add(z).Add(arm)
	less, err := two.Remove(arm.Desc.Digest)
	if err != nil {
		t.Fatal(err)
	}
	other, err := two.Annotate(z.Desc.Digest, manifest.Platform{Architecture: "riscv64", OSFeatures: []string{"a", "a"}, Annotations: map[string]string{"k": "v"}})
	if err != nil {
		t.Fatal(err)
	}
	other = other.Note(map[string]string{"of": "the list"})
	for name, c := range map[string]struct {
		list manifest.List
		want []string
	}{
		"empty": {empty, nil}, "one": {one, []string{"arm64"}}, "two": {two, []string{"arm64", "s390x"}},
		"less": {less, []string{"s390x"}}, "other": {other, []string{"arm64", "riscv64"}},
	} {
		var got []string
		for _, m := range c.list.Index.Manifests {
			got = append(got, m.Platform.Architecture)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
	if m := other.Index.Manifests[1]; m.Annotations["k"] != "v" || !slices.Equal(m.Platform.OSFeatures, []string{"a"}) || len(two.Index.Annotations) != 0 {
		t.Errorf("annotated %+v", m)
	}
	if _, err := one.Remove(z.Desc.Digest); !errors.Is(err, manifest.ErrUnlisted) {
		t.Errorf("remove what is not listed: %v", err)
	}
	if _, err := one.Annotate(z.Desc.Digest, manifest.Platform{}); !errors.Is(err, manifest.ErrUnlisted) {
		t.Errorf("annotate what is not listed: %v", err)
	}
	if _, err := one.Annotate(arm.Desc.Digest, manifest.Platform{OS: "linux", Architecture: "x"}); !errors.Is(err, registry.ErrInvalid) {
		t.Errorf("a platform that there is not: %v", err)
	}
}

// TestNameMoves: what was added under a name is replaced by what has that name when it is added again.
func TestNameMoves(t *testing.T) {
	l, world := lists(t)
	ref := registrytest.Ref("localhost/app:arm")
	registrytest.Put(t, world, ref, forPlatform("arm64"))
	x := manifest.New(registrytest.Ref("list")).Add(find(t, l, "localhost/app:arm"))
	registrytest.Put(t, world, ref, forPlatform("arm"))
	x = x.Add(find(t, l, "localhost/app:arm"))
	if m := x.Index.Manifests; len(m) != 1 || m[0].Digest != forPlatform("arm").Desc().Digest {
		t.Errorf("listed are %+v", m)
	}
}

// TestChange: lists are changed one at a time, and their images are read from where they are.
func TestChange(t *testing.T) {
	l, world := lists(t)
	ctx := t.Context()
	here, there := forPlatform("s390x"), forPlatform("arm64")
	registrytest.Put(t, l.Store, registrytest.Ref("here"), here)
	registrytest.Put(t, world, registrytest.Ref("localhost/there"), there)
	name := registrytest.Ref("localhost/list")
	add := func(from string) error {
		e := find(t, l, from)
		_, err := l.Change(ctx, name, func(x manifest.List, err error) (manifest.List, error) {
			if errors.Is(err, registry.ErrAbsent) {
				x, err = manifest.New(name), nil
			}
			return x.Add(e), err
		})
		return err
	}
	done := make(chan error)
	for _, from := range []string{"here", "localhost/there"} {
		go func() { done <- add(from) }()
	}
	for range 2 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	x, err := l.Open(ctx, name)
	if err != nil || len(x.Index.Manifests) != 2 || !x.Local() {
		t.Fatalf("%+v, %v", x.Index, err)
	}
	for _, c := range []struct {
		name string
		want registrytest.Image
	}{{"here", here}, {"localhost/there", there}, {there.Desc().Digest.String(), there}, {"localhost/list@" + here.Desc().Digest.String(), here}} {
		if d, err := l.Entry(ctx, x, c.name); err != nil || d != c.want.Desc().Digest {
			t.Errorf("entry %s: %s, %v", c.name, d, err)
		}
	}
	if _, err := l.Entry(ctx, x, "localhost/none"); !errors.Is(err, manifest.ErrUnlisted) {
		t.Errorf("an entry that there is not: %v", err)
	}
	r := l.Reader()
	registrytest.Check(t, r, "", registrytest.Image{Blobs: []registrytest.Blob{there.Blobs[2], there.Blobs[0], there.Blobs[1], here.Blobs[0]}})
	if from := r.MountFrom("localhost/elsewhere")(there.Blobs[0].Descriptor); !slices.Equal(from, []string{"localhost/there"}) {
		t.Errorf("a layer is mounted from %v", from)
	}
	if from := r.MountFrom("other.example/x")(there.Blobs[0].Descriptor); len(from) > 0 {
		t.Errorf("a layer is mounted from another registry: %v", from)
	}
	if rc, err := r.Open(ctx, "", registry.Descriptor{Digest: forPlatform("none").Desc().Digest}); !errors.Is(err, registry.ErrAbsent) {
		t.Errorf("what is nowhere: %v, %v", rc, err)
	}
	if _, err := l.Open(ctx, registrytest.Ref("here")); !errors.Is(err, manifest.ErrNotList) {
		t.Errorf("an image for one platform: %v", err)
	}
}

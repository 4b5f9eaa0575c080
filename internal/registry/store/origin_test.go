package store_test

import (
	"errors"
	"testing"

	"nacre/internal/image"
	"nacre/internal/registry"
	"nacre/internal/registry/registrytest"
	"nacre/internal/registry/store"
)

// TestPutIndex: an index may list what is elsewhere, if it is known where.
func TestPutIndex(t *testing.T) {
	s := openAt(t, t.TempDir(), store.Options{})
	ctx := t.Context()
	here := registrytest.NewImage(defaultPlatform, [][]byte{registrytest.Tar("here", "")})
	there := registrytest.NewImage(otherPlatform, [][]byte{registrytest.Tar("there", "")})
	registrytest.Put(t, s, registrytest.Ref("here"), here)
	index := func(images ...registrytest.Image) []byte {
		var list []registry.Descriptor
		for _, img := range images {
			list = append(list, img.Desc())
		}
		data, _, err := image.AssembleIndex(list, nil)
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	name, other := registrytest.Ref("localhost:5000/list"), registrytest.Ref("other")
	if _, err := s.PutIndex(ctx, index(here, there), name, nil); !errors.Is(err, registry.ErrAbsent) {
		t.Errorf("an image that is nowhere was listed: %v", err)
	}
	found := registrytest.Ref("localhost:5000/there:1")
	first, err := s.PutIndex(ctx, index(there), name, []store.Origin{{Digest: there.Desc().Digest, Ref: found}})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Tag(ctx, other, first.Target); err != nil {
		t.Errorf("another name: %v", err)
	}
	wantSound(t, s)
	if got, err := s.Origins(ctx, there.Desc().Digest); err != nil || len(got) != 1 || got[0] != found {
		t.Errorf("origins %v, %v", got, err)
	}

	// The next one takes the name; the first goes with its last.
	second, err := s.PutIndex(ctx, index(there, here), name, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Lookup(ctx, first.Target.Digest.String()); err != nil {
		t.Errorf("an index that has a name is gone: %v", err)
	}
	if _, err := s.PutIndex(ctx, index(here), other, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Lookup(ctx, first.Target.Digest.String()); !errors.Is(err, registry.ErrAbsent) {
		t.Errorf("an index without a name is still there: %v", err)
	}
	wantSound(t, s)

	// What is listed may come later.
	third := registrytest.NewImage(defaultPlatform, [][]byte{registrytest.Tar("later", "")})
	if _, err := s.PutIndex(ctx, index(third), registrytest.Ref("late"), []store.Origin{{Digest: third.Desc().Digest, Ref: found}}); err != nil {
		t.Fatal(err)
	}
	registrytest.Put(t, s, registrytest.Ref("third"), third)
	wantSound(t, s)

	// Where something was is forgotten when nothing lists it.
	if _, err := s.Prune(ctx, store.PruneOptions{}); err != nil {
		t.Fatal(err)
	}
	if got, err := s.Origins(ctx, there.Desc().Digest); err != nil || len(got) != 1 {
		t.Errorf("origins of what is listed: %v, %v", got, err)
	}
	if _, _, err := s.Remove(ctx, name.String(), store.RemoveOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Prune(ctx, store.PruneOptions{}); err != nil {
		t.Fatal(err)
	}
	if got, err := s.Origins(ctx, there.Desc().Digest); err != nil || len(got) != 0 {
		t.Errorf("origins of what is not listed any more: %v, %v", got, err)
	}
	if _, err := s.Lookup(ctx, "here"); err != nil {
		t.Errorf("an image went with the list: %v", err)
	}
	if second.ID != here.Blobs[1].Digest {
		t.Errorf("the list has ID %s, want that of the image for this machine %s", second.ID, here.Blobs[1].Digest)
	}
	wantSound(t, s)
}

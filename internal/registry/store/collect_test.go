package store_test

import (
	"testing"

	"nacre/internal/registry/store"
)

// What nothing needs goes piece by piece, so that nobody waits long who wants to write: the store is
// sound after each, and what is needed stays.
func TestCollectInParts(t *testing.T) {
	root := t.TempDir()
	s := openAt(t, root, store.Options{})
	kept := made(t, s, nil, "kept")
	img := put(t, s, 0, []string{"kept"}, kept)
	for _, name := range []string{"a", "b", "c"} {
		made(t, s, nil, name)
	}
	if _, err := s.PutBlob(t.Context(), "application/json", []byte("{}")); err != nil {
		t.Fatal(err)
	}
	s.Close() // and with it what was held

	s = openAt(t, root, store.Options{})
	var gone store.Removed
	for more, times := true, 1; more; times++ {
		var some store.Removed
		var err error
		some, more, err = store.CollectOne(t.Context(), s)
		if err != nil {
			t.Fatal(err)
		}
		gone.Blobs, gone.Layers = append(gone.Blobs, some.Blobs...), append(gone.Layers, some.Layers...)
		if len(gone.Blobs)+len(gone.Layers) != times {
			t.Fatalf("after %d times: %v", times, gone)
		}
		wantSound(t, s)
	}
	if len(gone.Layers) != 3 || len(gone.Blobs) != 1 {
		t.Errorf("removed: %v", gone)
	}
	if _, err := s.Lookup(t.Context(), "kept"); err != nil {
		t.Error(err)
	}
	if _, err := s.Layer(t.Context(), kept.DiffID); err != nil || img.Target.Digest == "" {
		t.Error(err)
	}
}

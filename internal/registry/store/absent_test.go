package store_test

import (
	"os"
	"path/filepath"
	"testing"

	"nacre/internal/image"
	"nacre/internal/registry"
	"nacre/internal/registry/store"

	"github.com/opencontainers/go-digest"
)

// Every pull and push asks for what is not here. That makes no file: where many were made and
// removed, ext4 searches long for the next inode.
func TestHasAbsentTakesNoLock(t *testing.T) {
	root := t.TempDir()
	s := openAt(t, root, store.Options{})
	made(t, s, nil, "a") // what a store makes at first is there
	if err := os.RemoveAll(filepath.Join(root, "locks")); err != nil {
		t.Fatal(err)
	}
	ok, err := s.Has(t.Context(), "", registry.Descriptor{MediaType: image.TypeLayer, Digest: digest.FromString("nothing"), Size: 7})
	if ok || err != nil {
		t.Errorf("content that is not there: %v, %v", ok, err)
	}
}

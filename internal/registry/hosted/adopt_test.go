package hosted_test

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"nacre/internal/registry"
	"nacre/internal/registry/hosted"
	"nacre/internal/registry/registrytest"
	"nacre/internal/registry/store"
)

// TestAdopt: a file is taken over by its name; it stays where it was if it is not, and goes if it is needless.
func TestAdopt(t *testing.T) {
	f := open(t, hosted.Options{Quotas: []hosted.Quota{{Repos: "full", Bytes: 10}}})
	ctx := t.Context()
	b := registrytest.NewBlob("application/octet-stream", []byte("content that is adopted"))
	path := filepath.Join(f.r.Incoming(), "upload")
	write := func() os.FileInfo {
		t.Helper()
		if err := os.WriteFile(path, b.Data, 0o600); err != nil {
			t.Fatal(err)
		}
		st, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		return st
	}
	is := func() bool {
		_, err := os.Stat(path)
		return !errors.Is(err, os.ErrNotExist)
	}

	write()
	wantErr(t, "adopt beyond the quota", f.r.Adopt(ctx, "full", b.Descriptor, path), store.ErrQuota)
	wrong := b.Descriptor
	wrong.Size++
	wantErr(t, "adopt with another size", f.r.Adopt(ctx, "app", wrong, path), registry.ErrSize)
	wantErr(t, "adopt by another name", f.r.Adopt(ctx, "library/app", b.Descriptor, path), registry.ErrInvalid)
	if !is() {
		t.Fatal("a file that was refused is gone")
	}
	st := write()
	if err := f.r.Adopt(ctx, "app", b.Descriptor, path); err != nil {
		t.Fatal(err)
	}
	if is() {
		t.Error("the file is still there")
	}
	kept, err := os.Stat(filepath.Join(f.s.Root(), "blobs/sha256", b.Digest.Encoded()))
	if err != nil || !os.SameFile(kept, st) {
		t.Errorf("it was not moved: %v", err)
	}
	write()
	if err := f.r.Adopt(ctx, "other", b.Descriptor, path); err != nil {
		t.Fatal(err)
	}
	if is() {
		t.Error("a file that is needless is still there")
	}
	img := registrytest.Image{Blobs: []registrytest.Blob{b}}
	f.wantShown("app", img, 1)
	f.wantShown("other", img, 1)
	f.wantShown("full", img, 0)

	// What lies there without a record, or torn, is replaced.
	if err := f.r.Delete(ctx, "app", b.Digest); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(filepath.Join(f.s.Root(), "blobs/sha256", b.Digest.Encoded()), 3); err != nil {
		t.Fatal(err)
	}
	write()
	if err := f.r.Adopt(ctx, "app", b.Descriptor, path); err != nil {
		t.Fatal(err)
	}
	f.wantShown("app", img, 1)
	wantSound(t, f.s)

	// Uploads outlive the process, and nobody tidies them away.
	write()
	f.later(1000 * time.Hour)
	f.collect()
	if _, err := f.s.Prune(ctx, store.PruneOptions{}); err != nil {
		t.Fatal(err)
	}
	if !is() {
		t.Error("an upload that goes on was tidied away")
	}
}

// TestOpenAt reads from the middle.
func TestOpenAt(t *testing.T) {
	f := open(t, hosted.Options{})
	ctx := t.Context()
	b := registrytest.NewBlob("application/octet-stream", []byte("0123456789"))
	if err := registrytest.Push(ctx, f.r, "app", b); err != nil {
		t.Fatal(err)
	}
	for offset, want := range []string{0: "0123456789", 4: "456789", 9: "9", 10: ""} {
		if offset > 0 && offset < 10 && want == "" {
			continue
		}
		rc, err := f.r.OpenAt(ctx, "app", b.Descriptor, int64(offset))
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(rc)
		rc.Close()
		if err != nil || string(got) != want {
			t.Errorf("from %d: %q, %v", offset, got, err)
		}
	}
	_, err := f.r.OpenAt(ctx, "app", b.Descriptor, 11)
	wantErr(t, "from beyond the end", err, registry.ErrSize)
	_, err = f.r.OpenAt(ctx, "other", b.Descriptor, 1)
	wantErr(t, "of another repository", err, registry.ErrAbsent)
}

package layout_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"nacre/internal/registry"
	"nacre/internal/registry/layout"
	"nacre/internal/registry/registrytest"
)

// TestCollect: what nothing refers to any more goes when it is old, and nothing else, whatever has happened to it.
func TestCollect(t *testing.T) {
	l := create(t)
	tag := registry.Ref{Repo: "localhost/cache", Tag: "latest"}
	registrytest.Put(t, l, tag, registrytest.Hello("old"))
	old, err := l.Resolve(t.Context(), tag)
	if err != nil {
		t.Fatal(err)
	}
	registrytest.Put(t, l, tag, registrytest.Hello("new"))
	later := time.Now().Add(2 * time.Hour)
	if n, _, err := l.Collect(t.Context(), time.Now()); n != 0 || err != nil {
		t.Errorf("at once: %d, %v", n, err)
	}
	n, bytes, err := l.Collect(t.Context(), later)
	if n == 0 || bytes == 0 || err != nil {
		t.Errorf("later: %d blobs, %d bytes, %v", n, bytes, err)
	}
	if ok, err := l.Has(t.Context(), "", old); ok || err != nil {
		t.Errorf("the manifest that was replaced: %v, %v", ok, err)
	}
	if n, _, err := l.Collect(t.Context(), later); n != 0 || err != nil {
		t.Errorf("again: %d, %v", n, err)
	}
	if _, err := registry.Copy(t.Context(), create(t), registry.Ref{}, l, tag, registry.CopyOptions{}); err != nil {
		t.Errorf("what is named: %v", err)
	}
}

// TestCollectSparesWhatWasAskedFor: a copy that found a blob there has time to name what refers to it.
func TestCollectSparesWhatWasAskedFor(t *testing.T) {
	dir := t.TempDir()
	l, err := layout.Create(dir)
	if err != nil {
		t.Fatal(err)
	}
	blob := registrytest.NewBlob("application/octet-stream", []byte("data"))
	if err := registrytest.Push(t.Context(), l, "", blob); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "blobs", "sha256", blob.Digest.Encoded())
	long := time.Now().Add(-24 * time.Hour)
	if err := os.Chtimes(path, long, long); err != nil {
		t.Fatal(err)
	}
	if ok, err := l.Has(t.Context(), "", blob.Descriptor); !ok || err != nil {
		t.Fatal(ok, err)
	}
	if n, _, err := l.Collect(t.Context(), time.Now()); n != 0 || err != nil {
		t.Errorf("after it was asked for: %d, %v", n, err)
	}
	if err := os.Chtimes(path, long, long); err != nil {
		t.Fatal(err)
	}
	if n, _, err := l.Collect(t.Context(), time.Now()); n != 1 || err != nil {
		t.Errorf("when nobody asked: %d, %v", n, err)
	}
}

// TestCollectUnreadable: where it cannot be known what is needed nothing is removed.
func TestCollectUnreadable(t *testing.T) {
	dir := t.TempDir()
	l, err := layout.Create(dir)
	if err != nil {
		t.Fatal(err)
	}
	tag := registry.Ref{Repo: "localhost/cache", Tag: "latest"}
	registrytest.Put(t, l, tag, registrytest.Hello("x"))
	d, err := l.Resolve(t.Context(), tag)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "blobs", "sha256", d.Digest.Encoded()), []byte("{"), 0o644); err != nil {
		t.Fatal(err)
	}
	if n, _, err := l.Collect(t.Context(), time.Now().Add(48*time.Hour)); n != 0 || err == nil {
		t.Errorf("removed %d, %v", n, err)
	}
}

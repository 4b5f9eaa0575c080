package compressed_test

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"nacre/internal/event"
	"nacre/internal/image"
	"nacre/internal/registry"
	"nacre/internal/registry/compressed"
	"nacre/internal/registry/layout"
	"nacre/internal/registry/mem"
	"nacre/internal/registry/registrytest"
	"nacre/internal/registry/store"

	"golang.org/x/sys/unix"
)

// both is an image of one medium whose layers are in another.
type both struct {
	registry.Reader
	rest registry.Reader
}

func (b both) Open(ctx context.Context, repo string, d registry.Descriptor) (io.ReadCloser, error) {
	rc, err := b.Reader.Open(ctx, repo, d)
	if errors.Is(err, registry.ErrAbsent) {
		rc, err = b.rest.Open(ctx, repo, d)
	}
	return rc, err
}

// TestSend sends an image to media that take drafts and to one that does not.
func TestSend(t *testing.T) {
	s := openStore(t, t.TempDir())
	build(t, s, "app", 2_000_000, 300_000, 10)
	to := &drafts{Registry: mem.New()}
	count := &compressions{}
	as := registrytest.Ref("example.com/team/app")
	d, err := compressed.Send(t.Context(), to, as, s, registrytest.Ref("app"), compressed.Options{Sink: count.sink}, registry.CopyOptions{Sink: event.Discard})
	if err != nil {
		t.Fatal(err)
	}
	if to.begun != 3 || to.done != 3 || to.creates != 0 || count.n != 3 {
		t.Errorf("%d drafts, %d whole, %d uploads of layers, %d compressed; want each layer once", to.begun, to.done, to.creates, count.n)
	}
	if count.bytes < 2_300_010 || count.bytes != count.total {
		t.Errorf("told of %d bytes of %d", count.bytes, count.total)
	}
	wantWhole(t, to, d)
	if named, err := to.Resolve(t.Context(), as); err != nil || named.Digest != d.Digest {
		t.Errorf("it names %s, %v", named.Digest, err)
	}

	// Everything is remembered: to another registry it goes as it is.
	l, err := layout.Create(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	again, err := compressed.Send(t.Context(), l, registry.Ref{}, s, registrytest.Ref("app"), compressed.Options{Sink: count.sink}, registry.CopyOptions{})
	if err != nil || again.Digest != d.Digest || count.n != 3 {
		t.Errorf("again: %s, %d compressed, %v", again.Digest, count.n, err)
	}
	wantWhole(t, l, d)
	wantSound(t, s)
}

// TestSendKnown: of what dst has and prune dropped nothing is compressed.
func TestSendKnown(t *testing.T) {
	root := t.TempDir()
	s := openStore(t, root)
	build(t, s, "app", 2_000_000)
	to := &drafts{Registry: mem.New()}
	send := func(s *store.Store) (n int) {
		count := &compressions{}
		if _, err := compressed.Send(t.Context(), to, registrytest.Ref("x/app"), s, registrytest.Ref("app"), compressed.Options{Sink: count.sink}, registry.CopyOptions{}); err != nil {
			t.Fatal(err)
		}
		return count.n
	}
	first := send(s)
	s.Close()
	s = openStore(t, root)
	if r, err := s.Prune(t.Context(), store.PruneOptions{}); err != nil || len(r.Blobs) != 1 {
		t.Fatalf("pruned %v, %v", r.Blobs, err)
	}
	if second := send(s); first != 1 || second != 0 {
		t.Errorf("compressed %d and then %d layers", first, second)
	}
}

// TestSendCut: a draft that breaks off does not lose what was compressed; the layer is sent from the store.
func TestSendCut(t *testing.T) {
	s := openStore(t, t.TempDir())
	build(t, s, "app", 2_000_000, 10)
	to := &drafts{Registry: mem.New(), limit: 200_000}
	d, err := compressed.Send(t.Context(), to, registrytest.Ref("x/app"), s, registrytest.Ref("app"), compressed.Options{}, registry.CopyOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if to.begun != 2 || to.done != 1 || to.ended != 1 || to.creates != 1 {
		t.Errorf("%d drafts, %d whole, %d cancelled, %d uploads of layers", to.begun, to.done, to.ended, to.creates)
	}
	wantWhole(t, to, d)
}

// TestSendStopped is cancelled in the middle of a layer, and leaves nothing.
func TestSendStopped(t *testing.T) {
	root := t.TempDir()
	s := openStore(t, root)
	build(t, s, "app", 30_000_000)
	ctx, cancel := context.WithCancel(t.Context())
	to := &stopping{drafts: &drafts{Registry: mem.New()}, stop: cancel}
	_, err := compressed.Send(ctx, to, registrytest.Ref("x/app"), s, registrytest.Ref("app"), compressed.Options{}, registry.CopyOptions{})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("want context.Canceled, got %v", err)
	}
	if to.begun != 1 || to.done != 0 || to.ended != 1 {
		t.Errorf("%d drafts, %d whole, %d cancelled", to.begun, to.done, to.ended)
	}
	if names, _ := os.ReadDir(filepath.Join(root, "tmp")); len(names) > 0 {
		t.Errorf("left in tmp: %v", names)
	}
	wantSound(t, s)
}

// stopping ends it all when the first bytes arrive.
type stopping struct {
	*drafts
	stop func()
}

func (s *stopping) Draft(ctx context.Context, repo string) (registry.Draft, error) {
	d, err := s.drafts.Draft(ctx, repo)
	return &stoppingDraft{d, s.stop}, err
}

type stoppingDraft struct {
	registry.Draft
	stop func()
}

func (d *stoppingDraft) Write(p []byte) (int, error) {
	d.stop()
	return d.Draft.Write(p)
}

// TestSendFull: a store without room for the compressed form still sends it.
func TestSendFull(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=16m"); err != nil {
		t.Fatalf("mount tmpfs: %v (these tests run as root)", err)
	}
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	s := openStore(t, filepath.Join(dir, "store"))
	build(t, s, "app", 8_000_000)
	fill := fillBut(t, dir, 2<<20)
	to := &drafts{Registry: mem.New()}
	d, err := compressed.Send(t.Context(), to, registrytest.Ref("x/app"), s, registrytest.Ref("app"), compressed.Options{}, registry.CopyOptions{})
	if err != nil {
		t.Fatal(err)
	}
	wantWhole(t, to, d)
	if to.done != 1 || to.creates != 0 {
		t.Errorf("%d drafts whole, %d uploads", to.done, to.creates)
	}
	// Where there is nothing to draft on, it fails, and says so.
	if _, err := compressed.Send(t.Context(), mem.New(), registrytest.Ref("x/app"), s, registrytest.Ref("app"), compressed.Options{}, registry.CopyOptions{}); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("want ENOSPC, got %v", err)
	}
	os.Remove(fill)
	wantSound(t, s)
}

// fillBut leaves room for n bytes on the disk that dir is on, by a file whose path it returns.
func fillBut(t *testing.T, dir string, n int64) string {
	t.Helper()
	fill, err := os.Create(filepath.Join(dir, "fill"))
	if err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 4096)
	for err == nil {
		_, err = fill.Write(buf)
	}
	fill.Close()
	if err := os.Truncate(fill.Name(), size(t, fill.Name())-n); err != nil {
		t.Fatal(err)
	}
	return fill.Name()
}

func size(t *testing.T, path string) int64 {
	t.Helper()
	st, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return st.Size()
}

// TestSendDroppedFull: a compressed form that was dropped is sent though a store without room cannot have it again, also where there is
// nothing to draft on.
func TestSendDroppedFull(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=24m"); err != nil {
		t.Fatalf("mount tmpfs: %v (these tests run as root)", err)
	}
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	s := openStore(t, filepath.Join(dir, "store"))
	build(t, s, "app", 8_000_000)
	first, err := compressed.Send(t.Context(), mem.New(), registrytest.Ref("x/app"), s, registrytest.Ref("app"), compressed.Options{}, registry.CopyOptions{})
	if err != nil {
		t.Fatal(err)
	}
	form := layerOf(t, s, first)
	if err := os.Remove(filepath.Join(dir, "store", "blobs", form.Digest.Algorithm().String(), form.Digest.Encoded())); err != nil {
		t.Fatal(err)
	}
	fillBut(t, dir, 2<<20)
	for name, to := range map[string]registry.Registry{"drafts": &drafts{Registry: mem.New()}, "uploads": mem.New()} {
		d, err := compressed.Send(t.Context(), to, registrytest.Ref("x/app"), s, registrytest.Ref("app"), compressed.Options{}, registry.CopyOptions{})
		if err != nil || d.Digest != first.Digest {
			t.Errorf("%s: %s, %v; want %s", name, d.Digest, err, first.Digest)
			continue
		}
		wantWhole(t, to, d)
	}
}

// layerOf is the only layer of a manifest.
func layerOf(t *testing.T, s *store.Store, manifest registry.Descriptor) registry.Descriptor {
	t.Helper()
	data, err := registry.ReadDocument(t.Context(), s, "", manifest)
	if err != nil {
		t.Fatal(err)
	}
	m, err := image.ParseManifest(data)
	if err != nil || len(m.Layers) != 1 {
		t.Fatalf("%+v, %v", m, err)
	}
	return m.Layers[0]
}

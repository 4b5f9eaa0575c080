package registry_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"nacre/internal/event"
	"nacre/internal/image"
	"nacre/internal/registry"
	"nacre/internal/registry/layout"
	"nacre/internal/registry/mem"
	"nacre/internal/registry/registrytest"
	"nacre/internal/registry/store"

	"github.com/opencontainers/go-digest"
)

// cut is a source whose connections break after some bytes, once each.
type cut struct {
	*mem.Registry
	after int64 // 0: never
	mu    sync.Mutex
	begun []int64 // offsets at which layers were opened
}

var errCut = errors.New("connection reset")

func (c *cut) Open(ctx context.Context, repo string, d registry.Descriptor) (io.ReadCloser, error) {
	return c.OpenAt(ctx, repo, d, 0)
}

func (c *cut) OpenAt(ctx context.Context, repo string, d registry.Descriptor, offset int64) (io.ReadCloser, error) {
	rc, err := c.Registry.Open(ctx, repo, d)
	if err != nil || !image.IsLayer(d.MediaType) {
		return rc, err
	}
	c.mu.Lock()
	c.begun = append(c.begun, offset)
	c.mu.Unlock()
	if _, err := io.CopyN(io.Discard, rc, offset); err != nil || c.after == 0 {
		return rc, err
	}
	r := io.MultiReader(io.LimitReader(rc, c.after), errReader{})
	return struct {
		io.Reader
		io.Closer
	}{r, rc}, nil
}

type errReader struct{}

func (errReader) Read([]byte) (int, error) { return 0, errCut }

func openStore(t *testing.T) *store.Store {
	t.Helper()
	s, err := store.Open(t.Context(), t.TempDir(), store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func TestCopyResumes(t *testing.T) {
	const part = 100_000
	layer := registrytest.Tar("file", randomText(500_000))
	img := registrytest.NewImage(image.DefaultPlatform(), [][]byte{layer}, image.TypeLayerGzip)
	size := img.Blobs[0].Size
	src, dst := &cut{Registry: source(t, "x", img), after: part}, openStore(t)
	ref := registrytest.Ref("x")
	var shown int64
	o := registry.CopyOptions{Sink: func(e event.Event) {
		if p, ok := e.(event.Progress); ok && p.Item == img.Blobs[0].Digest.String() {
			if p.Total != size || p.Current > size {
				t.Errorf("progress %d of %d, want at most %d", p.Current, p.Total, size)
			}
			shown = p.Current
		}
	}}
	for n := int64(1); n*part < size; n++ {
		if _, err := registry.Copy(t.Context(), dst, ref, src, ref, o); !errors.Is(err, errCut) {
			t.Fatalf("attempt %d: %v", n, err)
		}
	}
	if _, err := registry.Copy(t.Context(), dst, ref, src, ref, o); !errors.Is(err, errCut) && err != nil {
		t.Fatal(err)
	}
	src.after = 0
	if _, err := registry.Copy(t.Context(), dst, ref, src, ref, o); err != nil {
		t.Fatal(err)
	}
	for i, off := range src.begun {
		if want := min(int64(i)*part, size); off != want {
			t.Errorf("attempt %d began at %d, want %d", i, off, want)
		}
	}
	if len(src.begun) < 5 {
		t.Errorf("%d attempts, shown %d", len(src.begun), shown)
	}
	registrytest.Check(t, dst, "", img)
}

// TestCopyResumesDamaged: a beginning that was wrong costs a second transfer, not an error.
func TestCopyResumesDamaged(t *testing.T) {
	layer := registrytest.Tar("file", randomText(500_000))
	img := registrytest.NewImage(image.DefaultPlatform(), [][]byte{layer}, image.TypeLayerGzip)
	src, dst := &cut{Registry: source(t, "x", img), after: 100_000}, openStore(t)
	ref := registrytest.Ref("x")
	if _, err := registry.Copy(t.Context(), dst, ref, src, ref, registry.CopyOptions{}); !errors.Is(err, errCut) {
		t.Fatal(err)
	}
	path := filepath.Join(dst.Root(), "partial", img.Blobs[0].Digest.Encoded())
	if err := os.WriteFile(path, []byte(strings.Repeat("wrong", 20_000)), 0o600); err != nil {
		t.Fatal(err)
	}
	src.after = 0
	if _, err := registry.Copy(t.Context(), dst, ref, src, ref, registry.CopyOptions{}); err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(src.begun); got != "[0 100000 0]" {
		t.Errorf("began at %s, want the last at 0 again", got)
	}
	registrytest.Check(t, dst, "", img)
}

// mounter mounts what one of its repositories has.
type mounter struct {
	*recorder
	refuse  error
	mounted []digest.Digest
}

func (m *mounter) Has(context.Context, string, registry.Descriptor) (bool, error) { return false, nil }

func (m *mounter) Mount(_ context.Context, repo, from string, d registry.Descriptor) error {
	if repo != "localhost/b" || from != "localhost/a" {
		return fmt.Errorf("mount of %s from %s", repo, from)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.mounted = append(m.mounted, d.Digest)
	return m.refuse
}

func TestCopyMounts(t *testing.T) {
	img := registrytest.Hello("mount")
	a, b := registrytest.Ref("localhost/a:1"), registrytest.Ref("localhost/b:1")
	for name, c := range map[string]struct {
		refuse error
		sent   int
	}{"mounted": {nil, 1}, "unsupported": {registry.ErrUnsupported, 4}, "absent": {registry.ErrAbsent, 4}} {
		r := &mounter{recorder: newRecorder(), refuse: c.refuse}
		registrytest.Put(t, r.Registry, a, img)
		if _, err := registry.Copy(t.Context(), r, b, r, a, registry.CopyOptions{}); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if len(r.mounted) != 3 || len(r.committed) != c.sent {
			t.Errorf("%s: mounted %d, sent %d; want 3 and %d", name, len(r.mounted), len(r.committed), c.sent)
		}
		// Another registry is not asked.
		other := &mounter{recorder: newRecorder()}
		if _, err := registry.Copy(t.Context(), other, b, r, a, registry.CopyOptions{}); err != nil || len(other.mounted) > 0 {
			t.Errorf("%s: mounted from another registry: %v", name, err)
		}
	}
	// Who knows where blobs are says so.
	known := &mounter{recorder: newRecorder()}
	o := registry.CopyOptions{MountFrom: func(d registry.Descriptor) []string {
		if d.Digest == img.Blobs[0].Digest {
			return []string{"localhost/b", "localhost/a"}
		}
		return nil
	}}
	if err := registrytest.Push(t.Context(), known.Registry, "", img.Blobs[0]); err != nil {
		t.Fatal(err)
	}
	if _, err := registry.Copy(t.Context(), known, b, source(t, "x", img), registrytest.Ref("x"), o); err != nil || len(known.mounted) != 1 || len(known.committed) != 3 {
		t.Errorf("mounted %s, sent %s: %v", known.mounted, known.committed, err)
	}
	r := &mounter{recorder: newRecorder(), refuse: io.ErrClosedPipe}
	registrytest.Put(t, r.Registry, a, img)
	if _, err := registry.Copy(t.Context(), r, b, r, a, registry.CopyOptions{}); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("another error: %v", err)
	}
}

func TestCopyKeepIndex(t *testing.T) {
	platforms := []image.Platform{{OS: "linux", Architecture: "amd64"}, {OS: "linux", Architecture: "arm64"}}
	images := []registrytest.Image{registrytest.Hello("amd64"), registrytest.Hello("arm64")}
	x := registrytest.NewIndex(platforms, images)
	ref, dst := registrytest.Ref("multi"), openStore(t)
	for i, want := range platforms {
		o := registry.CopyOptions{Platforms: []image.Platform{want}}
		d, err := registry.Copy(t.Context(), dst, ref, source(t, "multi", x), ref, o)
		if err != nil || d.Digest != x.Desc().Digest {
			t.Fatalf("%s, %v; want the index %s", d.Digest, err, x.Desc().Digest)
		}
		registrytest.Check(t, dst, "", images[i])
		if ok, _ := dst.Has(t.Context(), "", images[1].Desc()); ok != (i == 1) {
			t.Errorf("after %s: the other image is there: %t", want.Architecture, ok)
		}
	}
	o := registry.CopyOptions{Platforms: []image.Platform{{OS: "linux", Architecture: "s390x"}}}
	if _, err := registry.Copy(t.Context(), dst, ref, source(t, "multi", x), ref, o); !errors.Is(err, image.ErrNoPlatform) {
		t.Errorf("absent platform: %v", err)
	}
}

// referrer is an artifact about subject.
func referrer(t *testing.T, subject registry.Descriptor, content string) registrytest.Image {
	t.Helper()
	a := registrytest.NewArtifact([]byte(content))
	m, err := image.ParseManifest(a.Blobs[2].Data)
	if err != nil {
		t.Fatal(err)
	}
	m.Subject = &subject
	data, err := image.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	a.Blobs[2] = registrytest.NewBlob(m.MediaType, data)
	return a
}

func TestCopyReferrers(t *testing.T) {
	img := registrytest.Hello("subject")
	sbom := referrer(t, img.Desc(), "sbom")
	signature := referrer(t, sbom.Desc(), "signature of the sbom")
	src := source(t, "app:1", img)
	registrytest.Put(t, src, registrytest.Ref("app:sbom"), sbom)
	registrytest.Put(t, src, registrytest.Ref("app:sig"), signature)
	dir := t.TempDir()
	l, err := layout.Create(dir)
	if err != nil {
		t.Fatal(err)
	}
	as := registry.Ref{Tag: "copy"}
	if _, err := registry.Copy(t.Context(), l, as, src, registrytest.Ref("app:1"), registry.CopyOptions{Referrers: true}); err != nil {
		t.Fatal(err)
	}
	registrytest.Check(t, l, "", sbom)
	registrytest.Check(t, l, "", signature)
	// There they can be found again.
	dst := mem.New()
	if _, err := registry.Copy(t.Context(), dst, registrytest.Ref("back"), l, as, registry.CopyOptions{Referrers: true}); err != nil {
		t.Fatal(err)
	}
	registrytest.Check(t, dst, "", signature)
	dst = mem.New()
	if _, err := registry.Copy(t.Context(), dst, registrytest.Ref("without"), src, registrytest.Ref("app:1"), registry.CopyOptions{}); err != nil {
		t.Fatal(err)
	}
	if ok, _ := dst.Has(t.Context(), "", sbom.Desc()); ok {
		t.Error("copied without being asked")
	}
	only := struct{ registry.Reader }{src}
	if _, err := registry.Copy(t.Context(), dst, registrytest.Ref("x"), only, registrytest.Ref("app:1"), registry.CopyOptions{Referrers: true}); !errors.Is(err, registry.ErrUnsupported) {
		t.Errorf("a source that cannot list them: %v", err)
	}
}

// randomText is n bytes that do not compress, the same each time.
func randomText(n int) string {
	data := make([]byte, n)
	rand.NewChaCha8([32]byte{}).Read(data)
	return string(data)
}

// fragile is a registry whose uploads break.
type fragile struct {
	*recorder
	breaks int
}

func (f *fragile) Create(ctx context.Context, repo string, d registry.Descriptor) (registry.Upload, error) {
	u, err := f.Registry.Create(ctx, repo, d)
	if f.breaks > 0 && image.IsLayer(d.MediaType) {
		f.breaks--
		return broken{u}, err
	}
	return u, err
}

type broken struct{ registry.Upload }

func (broken) Commit() error { return fmt.Errorf("the line: %w", registry.ErrBroken) }

// TestCopyAgain: what broke off is sent from the beginning, a few times.
func TestCopyAgain(t *testing.T) {
	img := registrytest.NewImage(image.DefaultPlatform(), [][]byte{registrytest.Tar("a", "b")})
	src, ref := source(t, "x", img), registrytest.Ref("x")
	for breaks, want := range map[int]error{0: nil, 3: nil, 4: registry.ErrBroken} {
		dst := &fragile{newRecorder(), breaks}
		if _, err := registry.Copy(t.Context(), dst, ref, src, ref, registry.CopyOptions{}); !errors.Is(err, want) {
			t.Errorf("broken %d times: %v", breaks, err)
		}
	}
}

package through_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"nacre/internal/image"
	"nacre/internal/registry"
	"nacre/internal/registry/hosted"
	"nacre/internal/registry/registrytest"
	"nacre/internal/registry/remote"
	"nacre/internal/registry/server"
	"nacre/internal/registry/server/servertest"
	"nacre/internal/registry/store"
	"nacre/internal/registry/through"
)

// world is a registry far away, over HTTP, and one here that reads through to it.
type world struct {
	far   *servertest.Strict
	fault atomic.Pointer[func(http.ResponseWriter, *http.Request) bool] // answers in its place
	mu    sync.Mutex
	asked []string // "GET /v2/..."
	near  *hosted.Registry
	*through.Registry
	now    atomic.Int64
	warned atomic.Int64
}

func open(t testing.TB) *world {
	t.Helper()
	w := &world{far: servertest.NewStrict()}
	w.now.Store(time.Now().UnixNano())
	face, err := server.New(w.far, server.Options{Uploads: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { face.Close() })
	srv := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		w.mu.Lock()
		w.asked = append(w.asked, r.Method+" "+r.URL.Path)
		w.mu.Unlock()
		if f := w.fault.Load(); f != nil && (*f)(rw, r) {
			return
		}
		face.ServeHTTP(rw, r)
	}))
	t.Cleanup(srv.Close)
	client, err := remote.New(remote.Options{Credentials: remote.Anonymous{}, Timeouts: remote.Timeouts{Retry: time.Millisecond}})
	if err != nil {
		t.Fatal(err)
	}
	s, err := store.Open(t.Context(), t.TempDir(), store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	w.near = hosted.New(s, hosted.Options{})
	w.Registry, err = through.New(w.near, []through.Upstream{{
		Prefix: "docker.io", Local: "registry-1.docker.io", Source: client.Host(strings.TrimPrefix(srv.URL, "http://")), TTL: time.Minute,
	}}, through.Options{
		Now:  func() time.Time { return time.Unix(0, w.now.Load()) },
		Warn: func(string, error) { w.warned.Add(1) },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		w.Registry.Close()
		w.near.Close()
		s.Close()
	})
	return w
}

// fail has the far registry answer with a status.
func (w *world) fail(status int) {
	f := func(rw http.ResponseWriter, r *http.Request) bool { rw.WriteHeader(status); return true }
	w.fault.Store(&f)
}

// count is how often the far registry was asked for something.
func (w *world) count(text string) (n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, a := range w.asked {
		if strings.Contains(a, text) {
			n++
		}
	}
	return n
}

// pull reads an image as a client does, and checks it.
func (w *world) pull(t testing.TB, tag string, img registrytest.Image) {
	t.Helper()
	d, err := w.Resolve(t.Context(), registry.Ref{Repo: "docker.io/library/app", Tag: tag})
	if err != nil || d.Digest != img.Desc().Digest {
		t.Fatalf("resolve: %v %v, want %v", d.Digest, err, img.Desc().Digest)
	}
	registrytest.Check(t, w, "docker.io/library/app", img)
}

// settled waits until the image is here.
func (w *world) settled(t testing.TB, tag string, img registrytest.Image) {
	t.Helper()
	for range 2000 {
		d, err := w.near.Resolve(t.Context(), registry.Ref{Repo: "registry-1.docker.io/library/app", Tag: tag})
		if err == nil && d.Digest == img.Desc().Digest {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Fatalf("the image is not kept; %d warnings", w.warned.Load())
}

func (w *world) push(t testing.TB, tag, content string) registrytest.Image {
	t.Helper()
	img := registrytest.Hello(content)
	registrytest.Put(t, w.far, registry.Ref{Repo: "library/app", Tag: tag}, img)
	return img
}

func TestPull(t *testing.T) {
	w := open(t)
	img := w.push(t, "1", "one")
	w.pull(t, "1", img)
	w.settled(t, "1", img)
	before := w.count("")
	w.pull(t, "1", img) // within the ttl
	if n := w.count(""); n != before {
		t.Errorf("asked %d times more", n-before)
	}
	for _, b := range img.Blobs {
		if n := w.count("GET /v2/library/app/blobs/" + b.Digest.String()); n > 1 {
			t.Errorf("blob %s was fetched %d times", b.Digest, n)
		}
	}
	w.now.Add(int64(2 * time.Minute))
	w.pull(t, "1", img) // it is asked what the tag names, and no more
	if n := w.count(""); n != before+1 {
		t.Errorf("asked %d times more: %v", n-before, w.asked[before:])
	}
}

// TestTagMoves: what a tag names is looked up again after a while.
func TestTagMoves(t *testing.T) {
	w := open(t)
	old := w.push(t, "1", "one")
	w.pull(t, "1", old)
	w.settled(t, "1", old)
	moved := w.push(t, "1", "two")
	w.pull(t, "1", old)
	w.now.Add(int64(2 * time.Minute))
	w.pull(t, "1", moved)
	w.settled(t, "1", moved)
}

// TestFailures: what is here is served when the far registry refuses, fails or is busy, and what is
// not here is an error.
func TestFailures(t *testing.T) {
	for _, status := range []int{429, 500, 503} {
		w := open(t)
		img := w.push(t, "1", "one")
		w.push(t, "2", "two")
		w.pull(t, "1", img)
		w.settled(t, "1", img)
		w.fail(status)
		w.now.Add(int64(time.Hour))
		w.pull(t, "1", img)
		if w.warned.Load() == 0 {
			t.Errorf("%d: nobody was warned", status)
		}
		before := w.count("")
		w.pull(t, "1", img)
		if n := w.count(""); n != before {
			t.Errorf("%d: asked again at once", status)
		}
		if _, err := w.Resolve(t.Context(), registry.Ref{Repo: "docker.io/library/app", Tag: "2"}); err == nil || errors.Is(err, registry.ErrAbsent) {
			t.Errorf("%d: what is not here: %v", status, err)
		}
	}
	w := open(t)
	if _, err := w.Resolve(t.Context(), registry.Ref{Repo: "docker.io/library/none", Tag: "1"}); !errors.Is(err, registry.ErrAbsent) {
		t.Errorf("what is nowhere: %v", err)
	}
}

// TestOneFetch: many who ask for one blob at a time read one fetch of it, while it arrives.
func TestOneFetch(t *testing.T) {
	w := open(t)
	img := w.push(t, "1", strings.Repeat("long ", 200_000))
	layer := img.Blobs[0]
	for _, b := range img.Blobs {
		if b.Size > layer.Size {
			layer = b
		}
	}
	half, goOn := make(chan struct{}), make(chan struct{})
	f := func(rw http.ResponseWriter, r *http.Request) bool {
		if r.Method != "GET" || !strings.HasSuffix(r.URL.Path, layer.Digest.String()) {
			return false
		}
		rc, err := w.far.Open(r.Context(), "library/app", layer.Descriptor)
		if err != nil {
			t.Error(err)
			return true
		}
		defer rc.Close()
		rw.Header().Set("Content-Length", itoa(layer.Size))
		io.CopyN(rw, rc, layer.Size/2)
		rw.(http.Flusher).Flush()
		close(half)
		<-goOn
		io.Copy(rw, rc)
		return true
	}
	w.fault.Store(&f)
	var wg sync.WaitGroup
	first := make(chan struct{}, 20)
	for range 20 {
		wg.Go(func() {
			rc, err := w.Open(t.Context(), "docker.io/library/app", layer.Descriptor)
			if err != nil {
				t.Error(err)
				return
			}
			defer rc.Close()
			if _, err := io.ReadFull(rc, make([]byte, 10)); err != nil {
				t.Error(err)
			}
			first <- struct{}{} // bytes are here before the end is
			n, err := io.Copy(io.Discard, rc)
			if err != nil || n+10 != layer.Size {
				t.Errorf("%d bytes, %v", n+10, err)
			}
		})
	}
	<-half
	for range 20 {
		<-first
	}
	close(goOn)
	wg.Wait()
	if n := w.count("GET /v2/library/app/blobs/" + layer.Digest.String()); n != 1 {
		t.Errorf("fetched %d times", n)
	}
	rc, err := w.OpenAt(t.Context(), "docker.io/library/app", layer.Descriptor, layer.Size-5)
	if err != nil {
		t.Fatal(err)
	}
	defer rc.Close()
	if rest, err := io.ReadAll(rc); err != nil || len(rest) != 5 {
		t.Errorf("from the middle: %d bytes, %v", len(rest), err)
	}
}

func itoa(n int64) string { return strconv.FormatInt(n, 10) }

// TestLies: content that is not what it should be is neither kept nor ends well.
func TestLies(t *testing.T) {
	w := open(t)
	img := w.push(t, "1", "one")
	layer := img.Blobs[0]
	f := func(rw http.ResponseWriter, r *http.Request) bool {
		if r.Method != "GET" || !strings.Contains(r.URL.Path, "/blobs/") {
			return false
		}
		rw.Header().Set("Content-Length", itoa(layer.Size))
		rw.Write(make([]byte, layer.Size))
		return true
	}
	w.fault.Store(&f)
	rc, err := w.Open(t.Context(), "docker.io/library/app", layer.Descriptor)
	if err == nil {
		_, err = io.ReadAll(rc)
		rc.Close()
	}
	if err == nil {
		t.Error("a lie is read to its end")
	}
	if has, err := w.near.Has(t.Context(), "registry-1.docker.io/library/app", layer.Descriptor); err != nil || has {
		t.Errorf("it is kept: %v %v", has, err)
	}
	w.fault.Store(nil)
	w.pull(t, "1", img)
}

// TestUnkept: what cannot be kept is served all the same.
func TestUnkept(t *testing.T) {
	w := open(t)
	img := w.push(t, "1", "one")
	refuse := refusing{w.near}
	r, err := through.New(refuse, []through.Upstream{{Prefix: "far", Source: w.far, Repo: "library"}}, through.Options{Warn: func(string, error) { w.warned.Add(1) }})
	if err != nil {
		t.Fatal(err)
	}
	registrytest.Check(t, r, "far/app", img)
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	if w.warned.Load() == 0 {
		t.Error("nobody was warned")
	}
}

// refusing is a registry that keeps nothing.
type refusing struct{ through.Local }

func (refusing) Adopt(context.Context, string, registry.Descriptor, string) error {
	return registry.ErrReadOnly
}

// TestReaderLeaves: a client that goes away does not end the fetch for others.
func TestReaderLeaves(t *testing.T) {
	w := open(t)
	img := w.push(t, "1", "one")
	layer := img.Blobs[0]
	ctx, cancel := context.WithCancel(t.Context())
	rc, err := w.Open(ctx, "docker.io/library/app", layer.Descriptor)
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	rc.Close()
	w.pull(t, "1", img)
	w.settled(t, "1", img)
	if n := w.count("GET /v2/library/app/blobs/" + layer.Digest.String()); n != 1 {
		t.Errorf("fetched %d times", n)
	}
}

// TestIndex: of an image for several platforms, those that were asked for are kept.
func TestIndex(t *testing.T) {
	w := open(t)
	amd, arm := image.Platform{OS: "linux", Architecture: "amd64"}, image.Platform{OS: "linux", Architecture: "arm64"}
	one := registrytest.NewImage(amd, [][]byte{registrytest.Tar("a", "amd")})
	two := registrytest.NewImage(arm, [][]byte{registrytest.Tar("a", "arm")})
	index := registrytest.NewIndex([]image.Platform{amd, arm}, []registrytest.Image{one, two})
	registrytest.Put(t, w.far, registry.Ref{Repo: "library/app", Tag: "multi"}, index)
	d, err := w.Resolve(t.Context(), registry.Ref{Repo: "docker.io/library/app", Tag: "multi"})
	if err != nil {
		t.Fatal(err)
	}
	rc, err := w.Open(t.Context(), "docker.io/library/app", d)
	if err != nil {
		t.Fatal(err)
	}
	rc.Close()
	w.settled(t, "multi", index)
	child, err := w.Resolve(t.Context(), registry.Ref{Repo: "docker.io/library/app", Digest: one.Desc().Digest})
	if err != nil || child.Digest != one.Desc().Digest {
		t.Fatal(child, err)
	}
	registrytest.Check(t, w, "docker.io/library/app", one)
	for range 1000 {
		if _, err = w.near.Resolve(t.Context(), registry.Ref{Repo: "registry-1.docker.io/library/app", Digest: one.Desc().Digest}); err == nil {
			break
		}
		time.Sleep(5 * time.Millisecond)
	}
	w.fail(500)
	w.now.Add(int64(time.Hour))
	registrytest.Check(t, w, "docker.io/library/app", one)
	if _, err := w.Resolve(t.Context(), registry.Ref{Repo: "docker.io/library/app", Digest: two.Desc().Digest}); err == nil {
		t.Error("a platform nobody asked for is here")
	}
}

package remote_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"nacre/internal/registry"
	"nacre/internal/registry/registrytest"
	"nacre/internal/registry/remote"
)

// noise is content that is nowhere like itself, so that bytes in the wrong place are seen.
func noise(size int) registrytest.Blob {
	data := make([]byte, size)
	x := uint64(size) + 1
	for i := range data {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		data[i] = byte(x)
	}
	return registrytest.NewBlob("application/octet-stream", data)
}

// hold puts blobs into the registry behind a fixture.
func (f fixture) hold(t testing.TB, repo string, blobs ...registrytest.Blob) {
	t.Helper()
	for _, b := range blobs {
		if err := registrytest.Push(t.Context(), f.reg, repo, b); err != nil {
			t.Fatal(err)
		}
	}
}

// has tells whether the registry behind a fixture has a blob, byte for byte.
func (f fixture) has(t testing.TB, repo string, b registrytest.Blob) bool {
	t.Helper()
	got, err := registrytest.Get(t.Context(), f.reg, repo, b.Descriptor)
	return err == nil && bytes.Equal(got, b.Data)
}

// cutWriter ends the connection after some bytes of the body.
type cutWriter struct {
	http.ResponseWriter
	left int
}

func (w *cutWriter) Write(p []byte) (int, error) {
	if len(p) > w.left {
		w.ResponseWriter.Write(p[:w.left])
		w.ResponseWriter.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	}
	w.left -= len(p)
	return w.ResponseWriter.Write(p)
}

// TestDownloadCut: a connection that is cut again and again delays a download and does it no harm.
func TestDownloadCut(t *testing.T) {
	b := noise(300_000)
	for name, ranges := range map[string]bool{"ranges": true, "no ranges": false} {
		t.Run(name, func(t *testing.T) {
			var asked atomic.Int64
			f := serve(t, func(h http.Handler) http.Handler {
				return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					left := 10_000
					if r.Method == http.MethodGet {
						n := asked.Add(1)
						if !ranges {
							r.Header.Del("Range")
							left = int(n) * 70_000
						}
					}
					h.ServeHTTP(&cutWriter{w, left}, r)
				})
			})
			f.hold(t, "app", b)
			c := client(t, remote.Options{})
			c.Slept()
			got, err := registrytest.Get(t.Context(), c, f.addr+"/app", b.Descriptor)
			if err != nil || !bytes.Equal(got, b.Data) {
				t.Errorf("%d bytes, %v", len(got), err)
			}
			if n := asked.Load(); ranges && n != 30 || !ranges && n != 5 {
				t.Errorf("asked %d times", n)
			}
		})
	}
}

// TestDownloadNothing: a download that brings nothing more ends with an error, and soon.
func TestDownloadNothing(t *testing.T) {
	b := noise(10_000)
	f := serve(t, func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			left := 1000
			if r.Header.Get("Range") != "" {
				left = 0
			}
			h.ServeHTTP(&cutWriter{w, left}, r)
		})
	})
	f.hold(t, "app", b)
	c := client(t, remote.Options{})
	slept := c.Slept()
	got, err := registrytest.Get(t.Context(), c, f.addr+"/app", b.Descriptor)
	if err == nil || len(got) != 1000 || !bytes.Equal(got, b.Data[:1000]) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	if n := len(slept()); n == 0 || n > remote.Attempts {
		t.Errorf("paused %d times", n)
	}
}

// TestDownloadWrong: what a registry sends in place of the content is an error of the reader.
func TestDownloadWrong(t *testing.T) {
	b := noise(10_000)
	other := bytes.Clone(b.Data)
	other[5000]++
	for name, c := range map[string]struct {
		send   []byte
		length int
		size   int64 // of the descriptor
		want   error
	}{
		"other bytes":               {other, len(other), b.Size, registry.ErrDigest},
		"other bytes, no size":      {other, len(other), 0, registry.ErrDigest},
		"longer":                    {append(bytes.Clone(b.Data), 'x'), len(b.Data) + 1, b.Size, registry.ErrSize},
		"shorter":                   {b.Data[:9000], 9000, b.Size, registry.ErrSize},
		"shorter, no size":          {b.Data[:9000], 9000, 0, registry.ErrDigest},
		"chunked and shorter":       {b.Data[:9000], -1, b.Size, io.ErrUnexpectedEOF},
		"chunked and longer":        {append(bytes.Clone(b.Data), 'x'), -1, b.Size, registry.ErrSize},
		"a length that is not kept": {b.Data[:9000], len(b.Data), b.Size, io.ErrUnexpectedEOF},
	} {
		t.Run(name, func(t *testing.T) {
			f := serve(t, func(http.Handler) http.Handler {
				return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if r.Header.Get("Range") != "" {
						w.WriteHeader(http.StatusRequestedRangeNotSatisfiable)
						return
					}
					if c.length >= 0 {
						w.Header().Set("Content-Length", strconv.Itoa(c.length))
					}
					w.Write(c.send)
					if c.length < 0 {
						w.(http.Flusher).Flush()
					}
				})
			})
			d := b.Descriptor
			d.Size = c.size
			cl := client(t, remote.Options{})
			cl.Slept()
			if _, err := registrytest.Get(t.Context(), cl, f.addr+"/app", d); !errors.Is(err, c.want) {
				t.Errorf("error %v, want %v", err, c.want)
			}
		})
	}
}

// TestStall: a registry that says nothing more is one whose connection is cut.
func TestStall(t *testing.T) {
	b := noise(100_000)
	end := make(chan struct{})
	var stalls atomic.Int64
	stalls.Store(2)
	f := serve(t, func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if stalls.Add(-1) < 0 {
				h.ServeHTTP(w, r)
				return
			}
			if r.Header.Get("Range") == "" { // in the middle first, then before anything
				w.Header().Set("Content-Length", strconv.Itoa(len(b.Data)))
				w.Write(b.Data[:30_000])
				w.(http.Flusher).Flush()
			}
			select {
			case <-end:
			case <-r.Context().Done():
			}
		})
	})
	t.Cleanup(func() { close(end) })
	f.hold(t, "app", b)
	c := client(t, remote.Options{Timeouts: remote.Timeouts{Idle: 200 * time.Millisecond}})
	c.Slept()
	got, err := registrytest.Get(t.Context(), c, f.addr+"/app", b.Descriptor)
	if err != nil || !bytes.Equal(got, b.Data) {
		t.Errorf("after two stalls: %d bytes, %v", len(got), err)
	}
	stalls.Store(1000)
	_, err = c.Resolve(t.Context(), registry.Ref{Repo: f.addr + "/app", Tag: "1"})
	if err == nil || !strings.Contains(err.Error(), "nothing moved for 200ms") {
		t.Errorf("stalled for ever: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Resolve(ctx, registry.Ref{Repo: f.addr + "/app", Tag: "1"}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// cutReader ends the connection after some bytes of what is sent.
type cutReader struct {
	io.ReadCloser
	left int64
	w    http.ResponseWriter
}

func (r *cutReader) Read(p []byte) (int, error) {
	if r.left <= 0 {
		return 0, io.ErrUnexpectedEOF
	}
	n, err := r.ReadCloser.Read(p[:min(int64(len(p)), r.left)])
	r.left -= int64(n)
	return n, err
}

// cutting cuts connections on which more than n bytes are sent to the registry.
func cutting(n int64, cuts *atomic.Int64) func(http.Handler) http.Handler {
	return func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			body := &cutReader{r.Body, n, w}
			if r.Method == http.MethodPatch || r.Method == http.MethodPut {
				r.Body = body
			}
			out := &discarded{ResponseWriter: w, cut: func() bool { return body.left <= 0 }}
			h.ServeHTTP(out, r)
			if body.left <= 0 {
				cuts.Add(1)
				panic(http.ErrAbortHandler)
			}
		})
	}
}

// discarded is an answer that is not sent once the connection is cut.
type discarded struct {
	http.ResponseWriter
	cut func() bool
}

func (d *discarded) WriteHeader(status int) {
	if !d.cut() {
		d.ResponseWriter.WriteHeader(status)
	}
}

func (d *discarded) Write(p []byte) (int, error) {
	if d.cut() {
		return len(p), nil
	}
	return d.ResponseWriter.Write(p)
}

// TestUploadCut: an upload goes on where the connection was cut, large or small, by itself.
func TestUploadCut(t *testing.T) {
	for name, c := range map[string]struct {
		size          int
		every         int64
		chunk         int64
		draft, secure bool
	}{
		"large":          {20 << 20, 5 << 20, 0, false, false},
		"large, chunks":  {10 << 20, 3<<20 + 1, 4 << 20, false, false},
		"large, draft":   {20 << 20, 5 << 20, 0, true, false},
		"large, one cut": {12 << 20, 12<<20 - 5, 0, false, false},
		"large, HTTP/2":  {20 << 20, 5 << 20, 0, false, true},
	} {
		t.Run(name, func(t *testing.T) {
			b := noise(c.size)
			var cuts atomic.Int64
			begin := serve
			if c.secure {
				begin = serveTLS
			}
			f := begin(t, cutting(c.every, &cuts))
			cl := client(t, remote.Options{Hosts: remote.Hosts{f.addr: {Chunk: c.chunk, Insecure: c.secure}}})
			cl.Slept()
			var err error
			if c.draft {
				err = pushDraft(t.Context(), cl, f.addr+"/app", b)
			} else {
				err = registrytest.Push(t.Context(), cl, f.addr+"/app", b)
			}
			if err != nil || !f.has(t, "app", b) {
				t.Errorf("after %d cuts: %v", cuts.Load(), err)
			}
			if cuts.Load() == 0 {
				t.Error("nothing was cut")
			}
		})
	}
}

func pushDraft(ctx context.Context, r registry.Drafter, repo string, b registrytest.Blob) error {
	d, err := r.Draft(ctx, repo)
	if err != nil {
		return err
	}
	defer d.Cancel()
	if _, err := io.Copy(d, bytes.NewReader(b.Data)); err != nil {
		return err
	}
	return d.Commit(b.Descriptor)
}

// TestUploadOnce: what is small enough to be kept is sent again whole, in a new upload.
func TestUploadOnce(t *testing.T) {
	b := noise(100_000)
	var puts atomic.Int64
	f := serve(t, func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodPut && puts.Add(1) < 4 {
				io.CopyN(io.Discard, r.Body, 50_000)
				panic(http.ErrAbortHandler)
			}
			h.ServeHTTP(w, r)
		})
	})
	c := client(t, remote.Options{})
	c.Slept()
	if err := registrytest.Push(t.Context(), c, f.addr+"/app", b); err != nil || !f.has(t, "app", b) {
		t.Errorf("pushed: %v", err)
	}
}

// TestUploadAnswerLost: the registry took it, and the answer that says so was lost.
func TestUploadAnswerLost(t *testing.T) {
	for _, size := range []int{1000, remote.WindowSize + 5} {
		b := noise(size)
		var puts atomic.Int64
		f := serve(t, func(h http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Method == http.MethodPut && puts.Add(1) == 1 {
					h.ServeHTTP(&discarded{w, func() bool { return true }}, r)
					panic(http.ErrAbortHandler)
				}
				h.ServeHTTP(w, r)
			})
		})
		c := client(t, remote.Options{})
		c.Slept()
		if err := registrytest.Push(t.Context(), c, f.addr+"/app", b); err != nil || puts.Load() != 1 {
			t.Errorf("%d bytes: %v after %d requests", size, err, puts.Load())
		}
	}
}

// TestUploadResumed: an upload that could not go on is continued by the next of the same content.
func TestUploadResumed(t *testing.T) {
	t.Run("asked", func(t *testing.T) { uploadResumed(t, true) })
	t.Run("not asked", func(t *testing.T) { uploadResumed(t, false) }) // by a caller who knows of no offsets
}

func uploadResumed(t *testing.T, asked bool) {
	b := noise(30 << 20)
	var broken atomic.Bool
	broken.Store(true)
	var seen sync.Map
	f := serve(t, func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			seen.Store(r.Method, true)
			if r.Method == http.MethodPatch && broken.Load() {
				r.Body = &cutReader{r.Body, 20 << 20, w}
				h.ServeHTTP(&discarded{w, func() bool { return true }}, r)
				panic(http.ErrAbortHandler)
			}
			if r.Method == http.MethodGet && broken.Load() { // of its status: it never comes back
				panic(http.ErrAbortHandler)
			}
			h.ServeHTTP(w, r)
		})
	})
	c := client(t, remote.Options{})
	c.Slept()
	repo := f.addr + "/app"
	if err := registrytest.Push(t.Context(), c, repo, b); err == nil {
		t.Fatal("pushed over a broken line")
	}
	broken.Store(false)
	u, err := c.Create(t.Context(), repo, b.Descriptor)
	if err != nil {
		t.Fatal(err)
	}
	defer u.Cancel()
	at := int64(0)
	if asked {
		if at = u.(registry.Resumer).Offset(); at <= 0 || at > 20<<20 {
			t.Fatalf("goes on at %d", at)
		}
	}
	if _, err := u.Write(b.Data[at:]); err != nil {
		t.Fatal(err)
	}
	if err := u.Commit(); err != nil || !f.has(t, "app", b) {
		t.Errorf("resumed at %d: %v", at, err)
	}
}

// TestCancel: a cancelled upload is gone from the registry too.
func TestCancel(t *testing.T) {
	var mu sync.Mutex
	var deleted []string
	f := serve(t, func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodDelete {
				mu.Lock()
				deleted = append(deleted, r.URL.Path)
				mu.Unlock()
			}
			h.ServeHTTP(w, r)
		})
	})
	c := client(t, remote.Options{})
	for _, size := range []int{1000, 12 << 20} {
		b := noise(size)
		u, err := c.Create(t.Context(), f.addr+"/app", b.Descriptor)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := u.Write(b.Data[:size/2]); err != nil {
			t.Fatal(err)
		}
		if err := u.Cancel(); err != nil {
			t.Error(err)
		}
		if _, err := u.Write(b.Data[size/2:]); err == nil {
			t.Error("written after cancel")
		}
	}
	mu.Lock()
	defer mu.Unlock()
	if len(deleted) != 2 || !strings.HasPrefix(deleted[0], "/v2/app/blobs/uploads/") {
		t.Errorf("deleted: %q", deleted)
	}
	for _, path := range deleted {
		resp, err := http.Get(f.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusNotFound {
			t.Errorf("%s: %s", path, resp.Status)
		}
	}
}

// TestDraft: content whose digest comes at the end.
func TestDraft(t *testing.T) {
	f := serve(t, nil)
	c := client(t, remote.Options{})
	for _, size := range []int{0, 1, 1 << 20, 1<<20 + 1, 9 << 20} {
		b := noise(size)
		if err := pushDraft(t.Context(), c, f.addr+"/app", b); err != nil || !f.has(t, "app", b) {
			t.Errorf("%d bytes: %v", size, err)
		}
		wrong := b
		wrong.Digest = digest.FromString(fmt.Sprint("other", size))
		if err := pushDraft(t.Context(), c, f.addr+"/app", wrong); !errors.Is(err, registry.ErrDigest) {
			t.Errorf("%d bytes of another digest: %v", size, err)
		}
		wrong = b
		wrong.Size += 5
		if err := pushDraft(t.Context(), c, f.addr+"/app", wrong); !errors.Is(err, registry.ErrSize) {
			t.Errorf("%d bytes of another size: %v", size, err)
		}
	}
}

// TestUploadTooLarge: where a proxy limits requests, uploads come in pieces, the first one too.
func TestUploadTooLarge(t *testing.T) {
	var refused atomic.Int64
	f := serve(t, func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.ContentLength > 5<<20 {
				refused.Add(1)
				w.Header().Set("Connection", "close")
				w.WriteHeader(http.StatusRequestEntityTooLarge)
				return
			}
			h.ServeHTTP(w, r)
		})
	})
	c := client(t, remote.Options{})
	c.Slept()
	for _, size := range []int{20 << 20, 21 << 20} {
		b := noise(size)
		if err := registrytest.Push(t.Context(), c, f.addr+"/app", b); err != nil || !f.has(t, "app", b) {
			t.Errorf("%d bytes: %v", size, err)
		}
	}
	if refused.Load() != 1 {
		t.Errorf("%d requests were too large", refused.Load())
	}
}

package s3

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"nacre/internal/registry"
	"nacre/internal/registry/mem"
	"nacre/internal/registry/registrytest"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"
)

// front stands before an S3 server: it looks at what is asked, and may answer itself.
type front struct {
	http.Handler
	t    *testing.T
	mu   sync.Mutex
	log  []string
	fail func(r *http.Request) int // a status to answer with; 0: none
}

var authorization = regexp.MustCompile(`^AWS4-HMAC-SHA256 Credential=key/\d{8}/eu-central-1/s3/aws4_request, SignedHeaders=[a-z0-9;-]*x-amz-content-sha256;x-amz-date;x-amz-security-token, Signature=[0-9a-f]{64}$`)

func (f *front) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	f.log = append(f.log, r.Method+" "+r.URL.Path)
	f.mu.Unlock()
	if auth := r.Header.Get("Authorization"); !authorization.MatchString(auth) {
		f.t.Errorf("%s %s is signed %q", r.Method, r.URL.Path, auth)
	}
	if f.fail != nil {
		if status := f.fail(r); status != 0 {
			io.Copy(io.Discard, r.Body)
			w.WriteHeader(status)
			io.WriteString(w, `<?xml version="1.0"?><Error><Code>SlowDown</Code><Message>please</Message></Error>`)
			return
		}
	}
	body, err := io.ReadAll(r.Body)
	sum := sha256.Sum256(body)
	if err != nil || hex.EncodeToString(sum[:]) != r.Header.Get("X-Amz-Content-Sha256") {
		http.Error(w, "what arrived is not what was signed", http.StatusBadRequest)
		return
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	f.Handler.ServeHTTP(w, r)
}

func open(t *testing.T, prefix string) (*Bucket, *front) {
	t.Helper()
	backend := s3mem.New()
	if err := backend.CreateBucket("cache"); err != nil {
		t.Fatal(err)
	}
	f := &front{Handler: gofakes3.New(backend).Server(), t: t}
	h := httptest.NewServer(f)
	t.Cleanup(h.Close)
	b, err := New(Options{Bucket: "cache", Region: "eu-central-1", Prefix: prefix, Endpoint: h.URL, PathStyle: true, AccessKey: "key", SecretKey: "secret", SessionToken: "token"})
	if err != nil {
		t.Fatal(err)
	}
	b.wait = func(int) time.Duration { return 0 }
	return b, f
}

var latest = registry.Ref{Repo: "localhost/cache", Tag: "v1"}

// TestRoundTrip: an image goes in and comes out, under its prefix, and what is there is not sent again.
func TestRoundTrip(t *testing.T) {
	b, f := open(t, "team/")
	src := mem.New()
	registrytest.Put(t, src, latest, registrytest.Hello("x"))
	want, err := registry.Copy(t.Context(), b, latest, src, latest, registry.CopyOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, ref := range []registry.Ref{latest, {Repo: "another", Digest: want.Digest}} {
		if got, err := b.Resolve(t.Context(), ref); err != nil || got.Digest != want.Digest || got.MediaType != want.MediaType || got.Size != want.Size {
			t.Errorf("%s: %+v, %v; want %+v", ref, got, err, want)
		}
	}
	if _, err := registry.Copy(t.Context(), mem.New(), latest, b, latest, registry.CopyOptions{}); err != nil {
		t.Errorf("out again: %v", err)
	}
	for _, line := range f.log {
		if _, path, _ := strings.Cut(line, " "); !strings.HasPrefix(path, "/cache/team/blobs/sha256/") && path != "/cache/team/manifests/v1" {
			t.Errorf("asked %s", line)
		}
	}
	f.log = nil
	if _, err := registry.Copy(t.Context(), b, latest, src, latest, registry.CopyOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, line := range f.log {
		if strings.HasPrefix(line, "PUT") && !strings.HasSuffix(line, "/manifests/v1") {
			t.Errorf("sent again: %s", line)
		}
	}
}

// TestRefused: nothing wrong gets a name, and what is not there is absent.
func TestRefused(t *testing.T) {
	b, _ := open(t, "")
	blob := registrytest.NewBlob("application/octet-stream", []byte("data"))
	if _, err := b.Resolve(t.Context(), latest); !errors.Is(err, registry.ErrAbsent) {
		t.Errorf("resolve: %v", err)
	}
	if _, err := b.Open(t.Context(), "", blob.Descriptor); !errors.Is(err, registry.ErrAbsent) {
		t.Errorf("open: %v", err)
	}
	large := registrytest.NewBlob("application/octet-stream", bytes.Repeat([]byte("data"), maxSmall))
	for _, blob := range []registrytest.Blob{blob, large} {
		up, err := b.Create(t.Context(), "", blob.Descriptor)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := up.Write(append(bytes.Clone(blob.Data[1:]), 'x')); err != nil {
			t.Fatal(err)
		}
		if err := up.Commit(); !errors.Is(err, registry.ErrDigest) {
			t.Errorf("commit of other bytes: %v", err)
		}
		if up, err = b.Create(t.Context(), "", blob.Descriptor); err != nil {
			t.Fatal(err)
		}
		up.Write([]byte("da"))
		if err := up.Cancel(); err != nil {
			t.Error(err)
		}
		if ok, err := b.Has(t.Context(), "", blob.Descriptor); ok || err != nil {
			t.Errorf("after both: %v, %v", ok, err)
		}
	}
	hello := registrytest.Hello("x")
	if err := registrytest.Push(t.Context(), b, "", hello.Blobs[len(hello.Blobs)-1]); err != nil {
		t.Fatal(err)
	}
	if err := b.Tag(t.Context(), latest, hello.Desc()); !errors.Is(err, registry.ErrAbsent) {
		t.Errorf("tag of what is not whole: %v", err)
	}
	if _, err := b.Create(t.Context(), "", registry.Descriptor{Digest: blob.Digest}); !errors.Is(err, registry.ErrUnsupported) {
		t.Errorf("a size that is not known: %v", err)
	}
}

// TestPassingErrors: a server that is busy for a while costs attempts, and one that refuses says why.
func TestPassingErrors(t *testing.T) {
	b, f := open(t, "")
	src := mem.New()
	registrytest.Put(t, src, latest, registrytest.Hello("x"))
	large := registrytest.NewBlob("application/octet-stream", bytes.Repeat([]byte("large"), maxSmall))
	if err := registrytest.Push(t.Context(), src, "", large); err != nil {
		t.Fatal(err)
	}
	failed := map[string]bool{}
	f.fail = func(r *http.Request) int {
		f.mu.Lock()
		defer f.mu.Unlock()
		if what := r.Method + r.URL.Path; !failed[what] {
			failed[what] = true
			return http.StatusServiceUnavailable
		}
		return 0
	}
	if _, err := registry.Copy(t.Context(), b, latest, src, latest, registry.CopyOptions{}); err != nil {
		t.Errorf("each request fails once: %v", err)
	}
	if err := registry.CopyBlob(t.Context(), b, "", src, "", large.Descriptor, registry.CopyOptions{}); err != nil {
		t.Errorf("what is sent as it comes: %v", err)
	}
	out := mem.New()
	if _, err := registry.Copy(t.Context(), out, latest, b, latest, registry.CopyOptions{}); err != nil {
		t.Errorf("out again: %v", err)
	}
	if err := registry.CopyBlob(t.Context(), out, "", b, "", large.Descriptor, registry.CopyOptions{}); err != nil {
		t.Errorf("what is sent as it comes, out again: %v", err)
	}
	f.fail = func(*http.Request) int { return http.StatusForbidden }
	if _, err := b.Resolve(t.Context(), latest); !errors.Is(err, registry.ErrDenied) || !strings.Contains(err.Error(), "s3://cache/manifests/v1: ") || !strings.Contains(err.Error(), "SlowDown: please") {
		t.Errorf("refused: %v", err)
	}
}

func TestOptions(t *testing.T) {
	for _, c := range []struct {
		o    Options
		want string // of the bucket's URL, or of the error
	}{
		{Options{Bucket: "b"}, "https://b.s3.us-east-1.amazonaws.com/"},
		{Options{Bucket: "b", Region: "eu-west-1", PathStyle: true}, "https://s3.eu-west-1.amazonaws.com/b/"},
		{Options{Bucket: "b", Endpoint: "http://localhost:9000/minio"}, "http://b.localhost:9000/minio/"},
		{Options{Bucket: ""}, "bucket"},
		{Options{Bucket: "../x"}, "bucket"},
		{Options{Bucket: "b", Endpoint: "localhost:9000"}, "want https://HOST"},
		{Options{Bucket: "b", AccessKey: "a"}, "one is missing"},
	} {
		b, err := New(c.o)
		switch {
		case err != nil && !strings.Contains(err.Error(), c.want):
			t.Errorf("%+v: %v", c.o, err)
		case err == nil && b.base.String() != c.want:
			t.Errorf("%+v: %s, want %s", c.o, b.base, c.want)
		}
	}
	b, err := New(Options{Bucket: "b", Endpoint: "http://127.0.0.1:1", PathStyle: true})
	if err != nil {
		t.Fatal(err)
	}
	b.wait = func(int) time.Duration { return 0 }
	if _, err := b.Resolve(t.Context(), latest); err == nil || errors.Is(err, registry.ErrAbsent) {
		t.Errorf("nobody there: %v", err)
	} else if _, ok := errors.AsType[*url.Error](err); !ok {
		t.Errorf("nobody there: %v", err)
	}
}

package server_test

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"nacre/internal/registry"
	"nacre/internal/registry/registrytest"
	"nacre/internal/registry/server"
	"nacre/internal/registry/server/servertest"
)

var blob = registrytest.NewBlob("application/octet-stream", []byte("some content"))

// send sends a request and returns the answer, its body read.
func send(t testing.TB, method, url, body string, header ...string) *http.Response {
	t.Helper()
	req, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range header {
		name, value, _ := strings.Cut(h, ": ")
		req.Header.Set(name, value)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	return res
}

func want(t testing.TB, res *http.Response, status int) {
	t.Helper()
	if res.StatusCode != status {
		t.Fatalf("%s %s: %s, want %d", res.Request.Method, res.Request.URL, res.Status, status)
	}
}

// TestAuthorize asks before anything is looked up, and sends what it is told.
func TestAuthorize(t *testing.T) {
	var mu sync.Mutex
	var asked []string
	unknown := server.Errorf(server.CodeUnauthorized, "authentication required")
	unknown.Header = http.Header{"Www-Authenticate": {`Basic realm="nacre"`}}
	answers := map[string]error{
		"unknown": unknown,
		"denied":  server.Errorf(server.CodeDenied, "not for you"),
		"busy":    server.TooManyRequests(3*time.Second, "slow down"),
		"broken":  errors.New("the password file is gone: /etc/secret"),
	}
	r := servertest.NewStrict()
	registrytest.Put(t, r, registry.Ref{Repo: "app", Tag: "1"}, registrytest.Hello("x"))
	h := serve(t, r, server.Options{Authorize: func(q *server.Request, r *http.Request) error {
		mu.Lock()
		defer mu.Unlock()
		asked = append(asked, fmt.Sprintf("%s %s %s", q.Kind.Verb(), q.Kind, q.Repo))
		return answers[r.Header.Get("As")]
	}})
	digest := blob.Digest.String()
	for _, c := range []struct{ method, path, asked string }{
		{"GET", "/v2/", "ping ping "},
		{"GET", "/v2/_catalog", "catalog catalog "},
		{"GET", "/v2/app/tags/list", "pull tags app"},
		{"GET", "/v2/app/referrers/" + digest, "pull referrers app"},
		{"GET", "/v2/app/manifests/1", "pull manifest.get app"},
		{"HEAD", "/v2/app/manifests/1", "pull manifest.head app"},
		{"PUT", "/v2/app/manifests/1", "push manifest.put app"},
		{"DELETE", "/v2/app/manifests/1", "delete manifest.delete app"},
		{"GET", "/v2/app/blobs/" + digest, "pull blob.get app"},
		{"HEAD", "/v2/app/blobs/" + digest, "pull blob.head app"},
		{"DELETE", "/v2/app/blobs/" + digest, "delete blob.delete app"},
		{"POST", "/v2/app/blobs/uploads/", "push upload.start app"},
		{"POST", "/v2/app/blobs/uploads/?digest=" + digest, "push blob.post app"},
		{"POST", "/v2/app/blobs/uploads/?from=b&mount=" + digest, "push blob.mount app"},
		{"PATCH", "/v2/app/blobs/uploads/01234567-89ab-cdef-0123-456789abcdef", "push upload.append app"},
		{"PUT", "/v2/app/blobs/uploads/01234567-89ab-cdef-0123-456789abcdef?digest=" + digest, "push upload.finish app"},
		{"GET", "/v2/app/blobs/uploads/01234567-89ab-cdef-0123-456789abcdef", "push upload.stat app"},
		{"DELETE", "/v2/app/blobs/uploads/01234567-89ab-cdef-0123-456789abcdef", "push upload.cancel app"},
	} {
		for as, status := range map[string]int{"unknown": 401, "denied": 403, "busy": 429, "broken": 500} {
			asked = nil
			res := send(t, c.method, h.URL+c.path, "", "As: "+as)
			want(t, res, status)
			if !slices.Equal(asked, []string{c.asked}) {
				t.Errorf("%s %s: asked %q", c.method, c.path, asked)
			}
			if as == "unknown" && res.Header.Get("Www-Authenticate") != `Basic realm="nacre"` {
				t.Errorf("no challenge: %v", res.Header)
			}
			if as == "busy" && res.Header.Get("Retry-After") != "3" {
				t.Errorf("no time to come back: %v", res.Header)
			}
		}
	}
	if res, body := get(t, h.URL+"/v2/app/tags/list"); res.StatusCode != 200 {
		t.Errorf("%s %s", res.Status, body)
	}
}

// TestErrorsKeepSecrets shows clients nothing of errors that are ours.
func TestErrorsKeepSecrets(t *testing.T) {
	secret := errors.New("open /var/lib/secret: permission denied")
	var seen error
	h := serve(t, servertest.NewStrict(), server.Options{
		Authorize: func(*server.Request, *http.Request) error { return secret },
		Observe:   func(_ *http.Request, d server.Done) { seen = d.Err },
	})
	res, body := get(t, h.URL+"/v2/app/tags/list")
	want(t, res, 500)
	if strings.Contains(body, "secret") || !errors.Is(seen, secret) {
		t.Errorf("the client got %q, the log %v", body, seen)
	}
}

// TestMountAuthorized mounts only what the sender may read, and does not tell whether it is there.
func TestMountAuthorized(t *testing.T) {
	r := servertest.NewStrict()
	for _, repo := range []string{"public", "secret"} {
		if err := registrytest.Push(t.Context(), r, repo, blob); err != nil {
			t.Fatal(err)
		}
	}
	h := serve(t, r, server.Options{Authorize: func(q *server.Request, _ *http.Request) error {
		if q.Repo == "secret" {
			if q.Kind.Verb() != server.VerbPull || q.Digest != blob.Digest {
				t.Errorf("asked for %+v", q)
			}
			return server.Errorf(server.CodeDenied, "not for you")
		}
		return nil
	}})
	mount := func(d, from string) *http.Response {
		return send(t, "POST", h.URL+"/v2/app/blobs/uploads/?mount="+d+"&from="+from, "")
	}
	there, absent := mount(string(blob.Digest), "secret"), mount(string(blob.Digest), "nothing")
	want(t, there, 202)
	want(t, absent, 202)
	if len(there.Header) != len(absent.Header) {
		t.Errorf("the answers differ: %v, %v", there.Header, absent.Header)
	}
	want(t, send(t, "HEAD", h.URL+"/v2/app/blobs/"+string(blob.Digest), ""), 404)
	want(t, mount(string(blob.Digest), "public"), 201)
	want(t, send(t, "HEAD", h.URL+"/v2/app/blobs/"+string(blob.Digest), ""), 200)
}

// TestVisible shows each only the repositories that are for them, in full pages.
func TestVisible(t *testing.T) {
	r := servertest.NewStrict()
	for _, repo := range []string{"a", "secret/a", "secret/b", "t", "z"} {
		registrytest.Put(t, r, registry.Ref{Repo: repo, Tag: "1"}, registrytest.Hello(repo))
	}
	h := serve(t, r, server.Options{Visible: func(repo string, _ *http.Request) bool { return !strings.HasPrefix(repo, "secret/") }})
	res, body := get(t, h.URL+"/v2/_catalog?n=2")
	if body != `{"repositories":["a","t"]}`+"\n" || res.Header.Get("Link") != `</v2/_catalog?last=t&n=2>; rel="next"` {
		t.Errorf("%q %v", body, res.Header)
	}
}

// TestObserve is told what happened, with what webhooks and metrics need.
func TestObserve(t *testing.T) {
	var mu sync.Mutex
	var all []server.Done
	h := serve(t, servertest.NewStrict(), server.Options{Observe: func(_ *http.Request, d server.Done) {
		mu.Lock()
		defer mu.Unlock()
		all = append(all, d)
	}})
	img := registrytest.Hello("observed")
	for _, b := range img.Blobs[:3] {
		want(t, send(t, "POST", h.URL+"/v2/app/blobs/uploads/?digest="+string(b.Digest), string(b.Data)), 201)
	}
	m := img.Blobs[3]
	want(t, send(t, "PUT", h.URL+"/v2/app/manifests/1", string(m.Data), "Content-Type: "+m.MediaType), 201)
	want(t, send(t, "GET", h.URL+"/v2/app/manifests/1", "", "X-Request-Id: mine"), 200)
	want(t, send(t, "GET", h.URL+"/v2/app/manifests/2", ""), 404)
	want(t, send(t, "GET", h.URL+"/v2/app/blobs/"+string(img.Blobs[0].Digest), "", "Range: bytes=0-99"), 206)
	want(t, send(t, "DELETE", h.URL+"/v2/app/manifests/1", ""), 202)
	want(t, send(t, "GET", h.URL+"/nonsense", ""), 404)
	h.Close() // waits for the last of them
	if len(all) != 9 {
		t.Fatalf("%d requests were told", len(all))
	}
	put, pulled, refused, part, deleted, nonsense := all[3], all[4], all[5], all[6], all[7], all[8]
	if put.Request.Kind != server.PutManifest || put.Request.Tag != "1" || put.Status != 201 || put.Received != m.Size ||
		put.Desc.Digest != m.Digest || put.Desc.MediaType != m.MediaType || put.Desc.Size != m.Size || put.Err != nil {
		t.Errorf("put: %+v", put)
	}
	if pulled.ID != "mine" || pulled.Sent != m.Size || pulled.Desc.Digest != m.Digest || pulled.Duration <= 0 || pulled.Start.IsZero() {
		t.Errorf("get: %+v", pulled)
	}
	var e *server.Error
	if refused.Status != 404 || !errors.As(refused.Err, &e) || e.Code != server.CodeManifestUnknown {
		t.Errorf("refused: %+v", refused)
	}
	if part.Status != 206 || part.Sent != 100 || part.Desc.Size != img.Blobs[0].Size {
		t.Errorf("part: %+v", part)
	}
	if deleted.Status != 202 || deleted.Desc.Digest != m.Digest || deleted.Request.Tag != "1" {
		t.Errorf("deleted: %+v", deleted)
	}
	if nonsense.Request.Kind != server.Ping || nonsense.Status != 404 || nonsense.Err == nil {
		t.Errorf("nonsense: %+v", nonsense)
	}
}

// TestURLTooLong refuses what no name needs.
func TestURLTooLong(t *testing.T) {
	h := serve(t, servertest.NewStrict(), server.Options{MaxURL: 1000})
	want(t, send(t, "GET", h.URL+"/v2/app/tags/list?last="+strings.Repeat("x", 1000), ""), 414)
}

// TestName: a repository that is asked for by another name is answered as by its own, and rules see
// its own alone.
func TestName(t *testing.T) {
	var mu sync.Mutex
	var asked []string
	r := servertest.NewStrict()
	registrytest.Put(t, r, registry.Ref{Repo: "app", Tag: "1"}, registrytest.Hello("x"))
	h := serve(t, r, server.Options{
		Name: func(repo string) string { return strings.TrimPrefix(repo, "library/") },
		Authorize: func(q *server.Request, _ *http.Request) error {
			mu.Lock()
			defer mu.Unlock()
			asked = append(asked, q.Repo+" "+q.From)
			return nil
		},
	})
	want(t, send(t, "GET", h.URL+"/v2/library/app/manifests/1", ""), 200)
	want(t, send(t, "POST", h.URL+"/v2/library/b/blobs/uploads/?from=library/app&mount="+blob.Digest.String(), ""), 202)
	if want := []string{"app ", "b app", "app "}; !slices.Equal(asked, want) {
		t.Errorf("asked for %q, want %q", asked, want)
	}
}

package server_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"nacre/internal/registry"
	"nacre/internal/registry/mem"
	"nacre/internal/registry/registrytest"
	"nacre/internal/registry/server"
)

// serve starts a server over r, for the time of the test.
func serve(t testing.TB, r registry.Registry, o server.Options) *httptest.Server {
	t.Helper()
	if o.Uploads == "" {
		o.Uploads = t.TempDir()
	}
	s, err := server.New(r, o)
	if err != nil {
		t.Fatal(err)
	}
	h := httptest.NewServer(s)
	t.Cleanup(func() {
		h.Close()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return h
}

func get(t testing.TB, url string) (*http.Response, string) {
	t.Helper()
	res, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res, string(body)
}

// TestPull pulls what is in a registry, without having been pushed by HTTP.
func TestPull(t *testing.T) {
	r := mem.New()
	img := registrytest.Hello("pull")
	registrytest.Put(t, r, registry.Ref{Repo: "library/hello", Tag: "1"}, img)
	h := serve(t, r, server.Options{})
	res, body := get(t, h.URL+"/v2/library/hello/manifests/1")
	if res.StatusCode != 200 || body != string(img.Blobs[3].Data) || res.Header.Get("Docker-Content-Digest") != string(img.Desc().Digest) {
		t.Errorf("manifest: %v %q", res, body)
	}
	for _, b := range img.Blobs[:3] {
		if res, body := get(t, h.URL+"/v2/library/hello/blobs/"+string(b.Digest)); res.StatusCode != 200 || body != string(b.Data) {
			t.Errorf("blob: %v", res)
		}
	}
	if res, body := get(t, h.URL+"/v2/library/hello/tags/list"); strings.TrimSpace(body) != `{"name":"library/hello","tags":["1"]}` {
		t.Errorf("tags: %v %q", res, body)
	}
}

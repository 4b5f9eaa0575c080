package server_test

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"nacre/internal/registry/layout"
	"nacre/internal/registry/registrytest"
	"nacre/internal/registry/server"
	"nacre/internal/registry/server/servertest"
)

// TestHTTP2 moves large content over one encrypted connection, many times at once.
func TestHTTP2(t *testing.T) {
	l, err := layout.Create(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	s, err := server.New(servertest.Within(l, "registry.example"), server.Options{Uploads: t.TempDir(), Stall: 10 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	h := httptest.NewUnstartedServer(s)
	h.EnableHTTP2 = true
	h.StartTLS()
	defer h.Close()
	var transfers sync.WaitGroup
	for i := range 8 {
		transfers.Go(func() {
			p := &pusher{t: t, client: h.Client(), url: h.URL + "/v2/app", way: i}
			b := registrytest.NewBlob("", bytes.Repeat([]byte{byte(i), 1, 2, 3}, 1<<19))
			p.blob(b)
			res, err := h.Client().Get(p.url + "/blobs/" + string(b.Digest))
			if err != nil {
				t.Error(err)
				return
			}
			defer res.Body.Close()
			if got, err := io.ReadAll(res.Body); res.ProtoMajor != 2 || err != nil || !bytes.Equal(got, b.Data) {
				t.Errorf("%s: %d bytes, %v", res.Proto, len(got), err)
			}
			p.do("GET", p.url+"/blobs/"+string(b.Digest), nil, http.StatusPartialContent, "Range", "bytes=5-1000000")
		})
	}
	transfers.Wait()
}

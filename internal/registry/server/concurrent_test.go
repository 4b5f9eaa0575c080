package server_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"

	"nacre/internal/registry"
	"nacre/internal/registry/registrytest"
	"nacre/internal/registry/server"
	"nacre/internal/registry/server/servertest"
)

// TestConcurrentPushes pushes 200 images at once, half of them the same, by all the ways there are, while
// others pull and list.
func TestConcurrentPushes(t *testing.T) {
	dir, r := t.TempDir(), servertest.NewStrict()
	h := serve(t, r, server.Options{Uploads: dir})
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 200}}
	defer client.CloseIdleConnections()
	same := registrytest.NewBlob("", bytes.Repeat([]byte("same in all "), 50000))
	var pushes sync.WaitGroup
	for i := range 200 {
		pushes.Go(func() {
			own := registrytest.NewBlob("", bytes.Repeat([]byte(fmt.Sprint("own ", i)), 1000*(i%40)))
			p := &pusher{t: t, client: client, url: h.URL + "/v2/app", way: i}
			if i%2 == 0 {
				own = same
			}
			p.blob(same)
			p.blob(own)
			p.image(registrytest.Hello(fmt.Sprint(i%20)), fmt.Sprint("tag-", i))
		})
	}
	pushes.Wait()
	for i := range 200 {
		img := registrytest.Hello(fmt.Sprint(i % 20))
		if d, err := r.Resolve(t.Context(), registry.Ref{Repo: "app", Tag: fmt.Sprint("tag-", i)}); err != nil || d.Digest != img.Desc().Digest {
			t.Fatalf("tag %d: %v, %v", i, d, err)
		}
		registrytest.Check(t, r, "app", img)
	}
	registrytest.Check(t, r, "app", registrytest.Image{Blobs: []registrytest.Blob{same}})
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// pusher pushes in one of several ways.
type pusher struct {
	t      *testing.T
	client *http.Client
	url    string
	way    int
}

func (p *pusher) do(method, url string, body io.Reader, status int, header ...string) string {
	req, err := http.NewRequest(method, url, body)
	if err != nil {
		p.t.Error(err)
		return ""
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	res, err := p.client.Do(req)
	if err != nil {
		p.t.Error(err)
		return ""
	}
	io.Copy(io.Discard, res.Body)
	res.Body.Close()
	if res.StatusCode != status {
		p.t.Errorf("%s %s: %s", method, url, res.Status)
	}
	return p.url[:strings.Index(p.url, "/v2/")] + res.Header.Get("Location")
}

func (p *pusher) blob(b registrytest.Blob) {
	uploads, digest, data := p.url+"/blobs/uploads/", "?digest="+string(b.Digest), b.Data
	switch p.way % 4 {
	case 0:
		p.do("POST", uploads+digest, bytes.NewReader(data), 201)
	case 1:
		p.do("PUT", p.do("POST", uploads, nil, 202)+digest, bytes.NewReader(data), 201)
	case 2:
		loc := p.do("POST", uploads, nil, 202)
		p.do("PATCH", loc, io.MultiReader(bytes.NewReader(data)), 202)
		p.do("PUT", loc+digest, nil, 201)
	case 3:
		loc, half := p.do("POST", uploads, nil, 202), len(data)/2
		if half > 0 {
			p.do("PATCH", loc, bytes.NewReader(data[:half]), 202, "Content-Range", fmt.Sprintf("0-%d", half-1))
			p.do("PATCH", loc, bytes.NewReader(data[:half]), 416, "Content-Range", fmt.Sprintf("0-%d", half-1))
			p.do("GET", loc, nil, 204)
		}
		p.do("PUT", loc+digest, bytes.NewReader(data[half:]), 201)
	}
}

func (p *pusher) image(img registrytest.Image, tag string) {
	last := len(img.Blobs) - 1
	for _, b := range img.Blobs[:last] {
		p.blob(b)
	}
	m := img.Blobs[last]
	p.do("PUT", p.url+"/manifests/"+tag, bytes.NewReader(m.Data), 201, "Content-Type", m.MediaType)
	p.do("GET", p.url+"/manifests/"+tag, nil, 200)
	p.do("GET", p.url+"/blobs/"+string(img.Blobs[0].Digest), nil, 200)
	p.do("GET", p.url+"/tags/list?n=5", nil, 200)
}

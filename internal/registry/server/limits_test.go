package server_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/opencontainers/go-digest"

	"nacre/internal/registry"
	"nacre/internal/registry/registrytest"
	"nacre/internal/registry/server"
	"nacre/internal/registry/server/servertest"
)

// TestIdle gives up uploads to which nothing was added for long, and only those.
func TestIdle(t *testing.T) {
	dir := t.TempDir()
	first := serve(t, servertest.NewStrict(), server.Options{Uploads: dir, UploadIdle: time.Hour})
	old, young := start(t, first.URL), start(t, first.URL)
	foreign := filepath.Join(dir, "something else")
	if err := os.WriteFile(foreign, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	long := time.Now().Add(-2 * time.Hour)
	paths, err := filepath.Glob(filepath.Join(dir, "upload-"+old[strings.LastIndex(old, "/")+1:]+"-*"))
	if err != nil || len(paths) != 1 {
		t.Fatal(paths, err)
	}
	for _, path := range []string{paths[0], foreign} {
		if err := os.Chtimes(path, long, long); err != nil {
			t.Fatal(err)
		}
	}
	second := serve(t, servertest.NewStrict(), server.Options{Uploads: dir, UploadIdle: time.Hour})
	for _, url := range []string{first.URL, second.URL} {
		want(t, send(t, "GET", url+young, ""), 204)
		want(t, send(t, "PATCH", url+old, "x"), 404)
	}
	if _, err := os.Stat(foreign); err != nil {
		t.Error(err)
	}
}

// TestTooMany refuses uploads above the limits, and takes them again below.
func TestTooMany(t *testing.T) {
	h := serve(t, servertest.NewStrict(), server.Options{MaxUploads: 2})
	a, _ := start(t, h.URL), start(t, h.URL)
	res := send(t, "POST", h.URL+"/v2/app/blobs/uploads/", "")
	want(t, res, 429)
	if res.Header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	want(t, send(t, "POST", h.URL+"/v2/app/blobs/uploads/?digest="+string(blob.Digest), string(blob.Data)), 429)
	want(t, send(t, "DELETE", h.URL+a, ""), 204)
	want(t, send(t, "POST", h.URL+"/v2/app/blobs/uploads/?digest="+string(blob.Digest), string(blob.Data)), 201)
	start(t, h.URL)
}

// TestTooManyWriters refuses content while as much as is allowed is coming in.
func TestTooManyWriters(t *testing.T) {
	h := serve(t, servertest.NewStrict(), server.Options{MaxWriters: 1})
	first, second := start(t, h.URL), start(t, h.URL)
	body, in := io.Pipe()
	done := make(chan error)
	go func() {
		req, _ := http.NewRequest("PATCH", h.URL+first, body)
		res, err := http.DefaultClient.Do(req)
		if err == nil {
			res.Body.Close()
		}
		done <- err
	}()
	io.WriteString(in, strings.Repeat("x", 1<<20))
	awaitWriter(t, h.URL+first)
	want(t, send(t, "PATCH", h.URL+second, "x"), 429)
	in.Close()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	want(t, send(t, "PATCH", h.URL+second, "x"), 202)
}

// TestMaxBlob bounds blobs, however their content comes.
func TestMaxBlob(t *testing.T) {
	h := serve(t, servertest.NewStrict(), server.Options{MaxBlob: 12})
	want(t, send(t, "POST", h.URL+"/v2/app/blobs/uploads/?digest="+string(blob.Digest), string(blob.Data)), 201)
	want(t, send(t, "POST", h.URL+"/v2/app/blobs/uploads/?digest="+string(blob.Digest), "some content!"), 413)
	loc := start(t, h.URL)
	want(t, send(t, "PATCH", h.URL+loc, "some con"), 202)
	want(t, send(t, "PATCH", h.URL+loc, "tent!", "Content-Range: 8-12"), 413)
	req, _ := http.NewRequest("PATCH", h.URL+loc, io.MultiReader(strings.NewReader("tent!")))
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	want(t, res, 413)
}

// adopter is a registry that takes files, or fails to.
type adopter struct {
	*servertest.Strict
	dir  string
	fail error
}

func (a *adopter) Incoming() string { return a.dir }

func (a *adopter) Adopt(ctx context.Context, repo string, d registry.Descriptor, path string) error {
	if a.fail != nil {
		return a.fail
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := registrytest.Push(ctx, a.Strict, repo, registrytest.Blob{Descriptor: d, Data: data}); err != nil {
		return err
	}
	return os.Remove(path)
}

// TestAdopt hands files over, and keeps an upload that could not be.
func TestAdopt(t *testing.T) {
	a := &adopter{servertest.NewStrict(), t.TempDir(), syscall.ENOSPC}
	s, err := server.New(a, server.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	h := serve(t, a, server.Options{Uploads: a.dir})
	loc := start(t, h.URL)
	want(t, send(t, "PUT", h.URL+loc+"?digest="+string(blob.Digest), string(blob.Data)), 507)
	wantRange(t, h.URL+loc, "0-11")
	a.fail = nil
	want(t, send(t, "PUT", h.URL+loc+"?digest="+string(blob.Digest), ""), 201)
	registrytest.Check(t, a, "app", registrytest.Image{Blobs: []registrytest.Blob{blob}})
	if left, _ := os.ReadDir(a.dir); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// TestFullDisk refuses what does not fit, and goes on when there is space again.
func TestFullDisk(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=1m"); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(dir, unix.MNT_DETACH)
	h := serve(t, servertest.NewStrict(), server.Options{Uploads: dir})
	filler := filepath.Join(dir, "filler")
	if err := os.WriteFile(filler, make([]byte, 700<<10), 0o644); err != nil {
		t.Fatal(err)
	}
	loc, large := start(t, h.URL), strings.Repeat("0123456789", 50<<10)
	res := send(t, "PATCH", h.URL+loc, large)
	want(t, res, 507)
	var last int
	if _, err := fmt.Sscanf(res.Header.Get("Range"), "0-%d", &last); err != nil || last == 0 {
		t.Fatal(res.Header, err)
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	res = send(t, "PATCH", h.URL+loc, large[last+1:], fmt.Sprintf("Content-Range: %d-%d", last+1, len(large)-1))
	want(t, res, 202)
	want(t, send(t, "PUT", h.URL+loc+"?digest="+digest.FromString(large).String(), ""), 201)
}

package server_test

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"nacre/internal/image"
	"nacre/internal/registry"
	"nacre/internal/registry/hosted"
	"nacre/internal/registry/layout"
	"nacre/internal/registry/registrytest"
	"nacre/internal/registry/server"
	"nacre/internal/registry/store"
)

// Clients that are not ours: Debian's packages skopeo, podman and curl, which the
// test set-up installs. The server shows a real store.

// run runs a tool and returns what it printed.
func run(t *testing.T, tool string, args ...string) string {
	t.Helper()
	path, err := exec.LookPath(tool)
	if err != nil {
		if os.Getenv("CI") != "" || os.Getenv("NACRE_INTEROP") != "" {
			t.Fatalf("%s is not installed; scripts/setup installs it", tool)
		}
		t.Skipf("%s is not installed (scripts/setup installs it)", tool)
	}
	switch tool {
	case "podman":
		dir := os.Getenv("NACRE_TEST_PODMAN") // of its own: nothing of the user's is touched
		args = append([]string{"--root", dir + "/root", "--runroot", dir + "/run", "--storage-driver", "vfs"}, args...)
	case "skopeo":
		args = append([]string{"--insecure-policy"}, args...)
	}
	cmd := exec.Command(path, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s %s: %v\n%s", tool, strings.Join(args, " "), err, stderr.String())
	}
	return stdout.String()
}

// serveStore starts a server over a new store and returns its host.
func serveStore(t *testing.T) (host string) {
	t.Helper()
	s, err := store.Open(t.Context(), t.TempDir(), store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	r := hosted.New(s, hosted.Options{})
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	srv, err := server.New(r, server.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { srv.Close() })
	return strings.TrimPrefix(serve(t, r, server.Options{Uploads: r.Incoming()}).URL, "http://")
}

// writeLayout writes an image where other tools can read it, under the tag 1.
func writeLayout(t *testing.T, img registrytest.Image) string {
	t.Helper()
	dir := t.TempDir()
	l, err := layout.Create(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range img.Blobs {
		if err := registrytest.Push(t.Context(), l, "", b); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Tag(t.Context(), registry.Ref{Tag: "1"}, img.Desc()); err != nil {
		t.Fatal(err)
	}
	return "oci:" + dir + ":1"
}

func wantManifest(t *testing.T, host, path string, img registrytest.Image) {
	t.Helper()
	m := img.Blobs[len(img.Blobs)-1]
	res, body := get(t, "http://"+host+"/v2/"+path)
	if body != string(m.Data) || res.Header.Get("Content-Type") != m.MediaType || res.Header.Get("Docker-Content-Digest") != string(m.Digest) {
		t.Errorf("%s: %s %v %.200s", path, res.Status, res.Header, body)
	}
}

// TestSkopeo pushes by skopeo what keeps its digest: OCI images, docker's schema 2, indexes.
func TestSkopeo(t *testing.T) {
	host := serveStore(t)
	linux := image.Platform{OS: "linux", Architecture: "amd64"}
	arm := image.Platform{OS: "linux", Architecture: "arm64"}
	img := registrytest.Hello("skopeo", image.TypeLayerGzip)
	other := registrytest.NewImage(arm, [][]byte{registrytest.Tar("hello", "arm")}, image.TypeLayerGzip)
	index := registrytest.NewIndex([]image.Platform{linux, arm}, []registrytest.Image{img, other})
	docker := "docker://" + host

	run(t, "skopeo", "copy", "--preserve-digests", "--dest-tls-verify=false", writeLayout(t, img), docker+"/base/app:1")
	wantManifest(t, host, "base/app/manifests/1", img)
	run(t, "skopeo", "copy", "--all", "--preserve-digests", "--dest-tls-verify=false", writeLayout(t, index), docker+"/base/app:multi")
	wantManifest(t, host, "base/app/manifests/multi", index)
	wantManifest(t, host, "base/app/manifests/"+string(other.Desc().Digest), other)

	// docker's schema 2, byte for byte, from one repository to another: by mounting.
	run(t, "skopeo", "copy", "--format", "v2s2", "--src-tls-verify=false", "--dest-tls-verify=false", docker+"/base/app:1", docker+"/docker:1")
	res, first := get(t, "http://"+host+"/v2/docker/manifests/1")
	if res.Header.Get("Content-Type") != image.TypeDockerManifest {
		t.Errorf("schema 2: %v", res.Header)
	}
	run(t, "skopeo", "copy", "--preserve-digests", "--src-tls-verify=false", "--dest-tls-verify=false", docker+"/docker:1", docker+"/docker/again:1")
	if _, again := get(t, "http://"+host+"/v2/docker/again/manifests/1"); again != first {
		t.Errorf("schema 2 became %s", again)
	}

	var info struct{ Digest string }
	if err := json.Unmarshal([]byte(run(t, "skopeo", "inspect", "--tls-verify=false", docker+"/base/app:1")), &info); err != nil || info.Digest != string(img.Desc().Digest) {
		t.Errorf("inspect: %+v, %v", info, err)
	}
	var list struct{ Tags []string }
	if err := json.Unmarshal([]byte(run(t, "skopeo", "list-tags", "--tls-verify=false", docker+"/base/app")), &list); err != nil || strings.Join(list.Tags, " ") != "1 multi" {
		t.Errorf("list-tags: %+v, %v", list, err)
	}
	dir := t.TempDir()
	run(t, "skopeo", "sync", "--all", "--src-tls-verify=false", "--src", "docker", "--dest", "dir", host+"/base/app", dir)
	if synced, _ := filepath.Glob(filepath.Join(dir, "app:*", "manifest.json")); len(synced) != 2 {
		t.Errorf("sync: %v", synced)
	}
	run(t, "skopeo", "delete", "--tls-verify=false", docker+"/base/app:multi")
	if res, _ := get(t, "http://"+host+"/v2/base/app/manifests/multi"); res.StatusCode != 404 {
		t.Errorf("deleted: %s", res.Status)
	}
	wantManifest(t, host, "base/app/manifests/1", img)
}

// TestPodman pulls by tag and digest, pushes, and pulls what it pushed.
func TestPodman(t *testing.T) {
	t.Setenv("NACRE_TEST_PODMAN", t.TempDir())
	host := serveStore(t)
	img := registrytest.Hello("podman", image.TypeLayerGzip)
	run(t, "skopeo", "copy", "--preserve-digests", "--dest-tls-verify=false", writeLayout(t, img), "docker://"+host+"/app:1")
	config := img.Blobs[2].Digest.Encoded()
	for _, name := range []string{host + "/app:1", host + "/app@" + string(img.Desc().Digest)} {
		if id := strings.TrimSpace(run(t, "podman", "pull", "-q", "--tls-verify=false", name)); id != config {
			t.Errorf("podman pulled %s as %s, not %s", name, id, config)
		}
	}
	for _, format := range []string{"oci", "v2s2"} {
		name := host + "/pushed/" + format + ":1"
		run(t, "podman", "push", "-q", "--tls-verify=false", "--format", format, host+"/app:1", name)
		run(t, "podman", "pull", "-q", "--tls-verify=false", name)
	}
}

// TestCurl uploads in a stream, and goes on with a download that was broken off.
func TestCurl(t *testing.T) {
	host := serveStore(t)
	data := bytes.Repeat([]byte("0123456789"), 100000)
	b := registrytest.NewBlob("", data)
	dir := t.TempDir()
	whole, part := filepath.Join(dir, "whole"), filepath.Join(dir, "part")
	for path, content := range map[string][]byte{whole: data, part: data[:300000]} {
		if err := os.WriteFile(path, content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	curl := func(args ...string) string { return run(t, "curl", append([]string{"-sS", "--fail"}, args...)...) }
	head := curl("-X", "POST", "-D", "-", "-o", "/dev/null", "http://"+host+"/v2/app/blobs/uploads/")
	_, loc, _ := strings.Cut(head, "Location: ")
	loc, _, _ = strings.Cut(loc, "\r\n")
	curl("-X", "PATCH", "-H", "Transfer-Encoding: chunked", "-H", "Expect: 100-continue", "-T", whole, "http://"+host+loc)
	curl("-X", "PUT", "http://"+host+loc+"?digest="+string(b.Digest))
	curl("-C", "-", "-o", part, "http://"+host+"/v2/app/blobs/"+string(b.Digest))
	if got, err := os.ReadFile(part); err != nil || !bytes.Equal(got, data) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}

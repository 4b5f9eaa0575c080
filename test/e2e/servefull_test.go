package e2e

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestServeFull: with no space left a push is refused, pulls go on, the server can even be started, and what
// failed succeeds when there is room.
func TestServeFull(t *testing.T) {
	t.Parallel()
	folder := newTmpfs(t, "24m")
	serveFull(t, folder, func() {
		if err := unix.Mount("", filepath.Dir(folder.root), "", unix.MS_REMOUNT, "size=128m"); err != nil {
			t.Fatal(err)
		}
	})
}

// serveFull fills the file system of a server's folder; more makes room.
func serveFull(t *testing.T, folder *store, more func()) {
	s := newStore(t)
	srv := s.serve(t, "--dir", folder.root)
	dir := t.TempDir()
	s.ok(t, "copy", "-q", layoutOf(t, dir, "small"), srv.addr+"/small:1")
	big := writeFiles(t, map[string]string{"f": random(1, 40<<20), "Dockerfile": "FROM scratch\nCOPY f /\n"})
	s.build(t, srv.addr+"/big:1", big)
	if said := s.fails(t, 1, []string{`no space left`}, "push", "-q", srv.addr+"/big:1"); strings.Contains(said, folder.root) {
		t.Errorf("it tells a path of the server: %s", said)
	}
	refused := func(what string, status int, body string) {
		t.Helper()
		if status != http.StatusInsufficientStorage || !strings.Contains(body, `{"errors":[{"code":`) || strings.Contains(body, folder.root) {
			t.Errorf("%s: %d %s", what, status, body)
		}
	}
	large := random(2, 30<<20)
	status, body := srv.post(t, "small", strings.NewReader(large), large)
	refused("a blob", status, body)

	s.ok(t, "copy", "-q", layoutOf(t, dir, "fits"), srv.addr+"/fits:1") // what was refused takes no space

	// Not one byte is left: nor for a manifest, a tag, or the log of the database.
	fill(t, filepath.Dir(folder.root))
	manifest := get(t, srv.addr, "/v2/small/manifests/1")
	for _, c := range []struct{ method, path, body string }{
		{"PUT", "/v2/small/manifests/2", manifest},
		{"POST", "/v2/small/blobs/uploads/?digest=" + fmt.Sprintf("sha256:%x", sha256.Sum256([]byte("x"))), "x"},
	} {
		req, _ := http.NewRequest(c.method, "http://"+srv.addr+c.path, strings.NewReader(c.body))
		req.Header.Set("Content-Type", "application/vnd.oci.image.manifest.v1+json")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		text, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		refused(c.method, resp.StatusCode, string(text))
	}
	srv.cmd.Process.Kill()
	<-srv.waited
	before := srv.addr
	srv = s.serve(t, "--dir", folder.root)
	w := newWitness(t, srv.addr)
	w.wantAll(t, true)
	if !w.seen["/v2/small/manifests/1"] || len(w.seen) != 2 {
		t.Errorf("visible: %v", w.seen)
	}
	if err := os.Remove(filepath.Join(filepath.Dir(folder.root), "filler")); err != nil {
		t.Fatal(err)
	}
	folder.check(t)
	more()
	s.ok(t, "tag", before+"/big:1", srv.addr+"/big:1")
	s.ok(t, "push", "-q", srv.addr+"/big:1")
	w.wantAll(t, true)
	if !w.seen["/v2/big/manifests/1"] {
		t.Errorf("visible: %v", w.seen)
	}
	folder.check(t)
}

// get is the body of an answer that has to be good.
func get(t *testing.T, addr, path string) string {
	t.Helper()
	resp, err := http.Get("http://" + addr + path)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s, %v", path, resp.Status, err)
	}
	return string(body)
}

// fill takes all the space of a file system.
func fill(t *testing.T, dir string) {
	t.Helper()
	f, err := os.Create(filepath.Join(dir, "filler"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for size := 1 << 20; size > 0; size /= 2 {
		for err = nil; err == nil; {
			_, err = f.Write(bytes.Repeat([]byte("x"), size))
		}
	}
}

package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/crypto/bcrypt"
)

// registryServer is a running nacre serve.
type registryServer struct {
	*server
	addr string
}

// serve runs nacre serve at a free port and waits until it listens.
func (s *store) serve(t testing.TB, args ...string) *registryServer {
	t.Helper()
	srv := s.start(t, append([]string{"serve", "--addr", "127.0.0.1:0"}, args...)...)
	for end := time.Now().Add(patience); time.Now().Before(end); {
		for line := range strings.Lines(srv.out.String()) {
			var l struct{ Msg, Addr string }
			if json.Unmarshal([]byte(line), &l) == nil && l.Msg == "serving" {
				return &registryServer{srv, l.Addr}
			}
		}
		select {
		case <-srv.waited:
			t.Fatalf("nacre serve ended: %s", srv.out)
		case <-time.After(20 * time.Millisecond):
		}
	}
	t.Fatalf("nacre serve does not listen: %s", srv.out)
	return nil
}

// get is curl's view: the status and the body.
func (r *registryServer) get(t testing.TB, path string) string {
	t.Helper()
	return tool(t, "curl", "-sS", "-w", "%{http_code}", "http://"+r.addr+path)
}

// TestServeBuilt pulls what was just built, without a push, by the tools people have.
func TestServeBuilt(t *testing.T) {
	s := newBusybox(t)
	id := sample(t, s, "app:1")
	srv := s.serve(t)
	if got := srv.get(t, "/v2/app/tags/list"); !strings.Contains(got, `"1"`) || !strings.HasSuffix(got, "200") {
		t.Errorf("tags: %s", got)
	}
	p := podman(t)
	tool(t, with(p, "pull", "-q", "--tls-verify=false", srv.addr+"/app:1")...)
	if got := strings.TrimSpace(tool(t, with(p, "image", "inspect", "-f", "{{.Id}}", srv.addr+"/app:1")...)); "sha256:"+got != id {
		t.Errorf("podman has %s, built was %s", got, id)
	}
	if got := tool(t, "skopeo", "inspect", "--tls-verify=false", "docker://"+srv.addr+"/app:1"); !strings.Contains(got, "org.example.sample") {
		t.Errorf("skopeo inspect: %s", got)
	}
	// And back under another name: it is an image of the store at once.
	tool(t, with(p, "push", "-q", "--tls-verify=false", srv.addr+"/app:1", srv.addr+"/team/copy:2")...)
	if got := s.inspect(t, "team/copy:2", "{{.Id}}"); got != id {
		t.Errorf("the pushed image is %s, built was %s", got, id)
	}
	tool(t, "skopeo", "delete", "--tls-verify=false", "docker://"+srv.addr+"/team/copy:2")
	if got := srv.get(t, "/v2/team/copy/manifests/2"); !strings.HasSuffix(got, "404") {
		t.Errorf("after the deletion: %s", got)
	}
	if code := srv.stop(syscall.SIGTERM); code != 0 {
		t.Errorf("exit code %d: %s", code, srv.out)
	}
	s.check(t)
}

// TestServeFolder pushes into a folder of its own, deletes, collects while the server runs, and
// finds all after a kill.
func TestServeFolder(t *testing.T) {
	s := newBusybox(t)
	sample(t, s, "app:1")
	built := s.serve(t)
	dir := filepath.Join(t.TempDir(), "registry")
	srv := s.serve(t, "--dir", dir)
	for _, name := range []string{"a:1", "a:2", "team/b:1"} {
		tool(t, "skopeo", "copy", "-q", "--src-tls-verify=false", "--dest-tls-verify=false", "docker://"+built.addr+"/app:1", "docker://"+srv.addr+"/"+name)
	}
	srv.cmd.Process.Kill()
	<-srv.waited
	srv = s.serve(t, "--dir", dir)
	if got := tool(t, "skopeo", "list-tags", "--tls-verify=false", "docker://"+srv.addr+"/a"); !strings.Contains(got, `"1"`) || !strings.Contains(got, `"2"`) {
		t.Errorf("after the kill: %s", got)
	}
	config := filepath.Join(t.TempDir(), "serve.yaml")
	write(t, config, "dir: "+dir+"\nretention:\n  - {repositories: '**', keep-last: 1}\n")
	dry := s.ok(t, "serve", "gc", "--config", config, "--dry-run")
	for _, want := range []string{"remove a:1 (no part of the rule keeps it)", "keep a:2 (number 1 of the last 1)", "keep team/b:1"} {
		if !strings.Contains(dry, want) {
			t.Errorf("the dry run does not say %q:\n%s", want, dry)
		}
	}
	if got := srv.get(t, "/v2/a/manifests/1"); !strings.HasSuffix(got, "200") {
		t.Errorf("the dry run removed it: %s", got)
	}
	s.ok(t, "serve", "gc", "--config", config)
	if got := srv.get(t, "/v2/a/tags/list"); !strings.Contains(got, `["2"]`) {
		t.Errorf("after retention: %s", got)
	}
	tool(t, "skopeo", "copy", "-q", "--src-tls-verify=false", "docker://"+srv.addr+"/a:2", "oci:"+t.TempDir()+":x")
}

func write(t testing.TB, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestServeLogin logs podman in, with passwords and by tokens, where anybody may pull some.
func TestServeLogin(t *testing.T) {
	s := newBusybox(t)
	sample(t, s, "app:1")
	dir := t.TempDir()
	hash, err := bcrypt.GenerateFromPassword([]byte("S3cret-Password"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "users"), "alice:"+string(hash)+"\n")
	for name, rules := range map[string]string{
		"basic":  "",
		"tokens": "  rules:\n    - {repositories: 'public/**', anonymous: true, allow: read}\n    - {repositories: '**', users: alice, allow: all}\n",
	} {
		t.Run(name, func(t *testing.T) {
			config := filepath.Join(dir, name+".yaml")
			write(t, config, "dir: "+name+"\nauth:\n  htpasswd: users\n"+rules)
			source, srv := s.serve(t), s.serve(t, "--config", config)
			p := podman(t)
			auth := filepath.Join(t.TempDir(), "auth.json")
			tool(t, with(p, "pull", "-q", "--tls-verify=false", source.addr+"/app:1")...)
			push := with(p, "push", "-q", "--authfile", auth, "--tls-verify=false", source.addr+"/app:1", srv.addr+"/public/app:1")
			refused(t, push...)
			refused(t, with(p, "login", "--authfile", auth, "--tls-verify=false", "-u", "alice", "-p", "Wr0ng-Password", srv.addr)...)
			tool(t, with(p, "login", "--authfile", auth, "--tls-verify=false", "-u", "alice", "-p", "S3cret-Password", srv.addr)...)
			tool(t, push...)
			pull := with(p, "pull", "-q", "--tls-verify=false", srv.addr+"/public/app:1")
			if name == "basic" {
				refused(t, pull...)
				pull = with(pull, "--authfile", auth)
			}
			tool(t, pull...)
			for _, secret := range []string{"S3cret-Password", "Wr0ng-Password", "eyJ"} {
				if strings.Contains(srv.out.String(), secret) {
					t.Errorf("the log has %q", secret)
				}
			}
		})
	}
}

// refused runs a tool that has to fail.
func refused(t testing.TB, argv ...string) {
	t.Helper()
	out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput()
	if err == nil {
		t.Errorf("%s: is allowed: %s", strings.Join(argv, " "), out)
	}
}

// TestServeStops: a push that runs when SIGTERM comes is finished, and a second signal ends the
// server at once.
func TestServeStops(t *testing.T) {
	s := newStore(t)
	srv := s.serve(t)
	begin := func(srv *registryServer) (*io.PipeWriter, chan error) {
		r, w := io.Pipe()
		content := bytes.Repeat([]byte("x"), 1<<20)
		req, err := http.NewRequest("POST", "http://"+srv.addr+"/v2/a/blobs/uploads/?digest="+digest.FromBytes(content).String(), r)
		if err != nil {
			t.Fatal(err)
		}
		req.ContentLength = int64(len(content))
		done := make(chan error, 1)
		go func() {
			resp, err := http.DefaultClient.Do(req)
			if err == nil && resp.StatusCode != 201 {
				err = fmt.Errorf("%s", resp.Status)
			}
			done <- err
		}()
		w.Write(content[:len(content)/2])
		for !strings.Contains(srv.get(t, "/metrics"), "nacre_requests_running 2") { // this request, and the push
			time.Sleep(10 * time.Millisecond)
		}
		return w, done
	}
	w, done := begin(srv)
	srv.cmd.Process.Signal(syscall.SIGTERM)
	waitFor(t, srv, "running requests may end")
	w.Write(bytes.Repeat([]byte("x"), 1<<19))
	w.Close()
	if err := <-done; err != nil {
		t.Errorf("the running push: %v", err)
	}
	<-srv.waited
	if code := srv.cmd.ProcessState.ExitCode(); code != 0 {
		t.Errorf("exit code %d: %s", code, srv.out)
	}
	srv = s.serve(t)
	w, done = begin(srv)
	srv.cmd.Process.Signal(syscall.SIGTERM)
	waitFor(t, srv, "running requests may end")
	for ended := false; !ended; {
		srv.cmd.Process.Signal(syscall.SIGTERM) // one that comes within a second of the first is taken for the same
		select {
		case <-srv.waited:
			ended = true
		case <-time.After(300 * time.Millisecond):
		}
	}
	w.CloseWithError(io.ErrClosedPipe) // the client does not look at answers before it has sent all
	if err := <-done; err == nil {
		t.Error("the push cut off is reported as done")
	}
}

func waitFor(t testing.TB, srv *registryServer, text string) {
	t.Helper()
	if !within(patience, func() bool { return strings.Contains(srv.out.String(), text) }) {
		t.Fatalf("the log does not say %q: %s", text, srv.out)
	}
}

// TestServeWebhookKilled: an event of a push that was reported as done is delivered after the server
// was killed. What a server keeps beside images does not disturb the store.
func TestServeWebhookKilled(t *testing.T) {
	s := newBusybox(t)
	sample(t, s, "app:1")
	source := s.serve(t)
	events := make(chan string, 100)
	var alive atomic.Bool
	hook := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil || !alive.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		events <- string(body)
	}))
	defer hook.Close()
	dir := filepath.Join(t.TempDir(), "data")
	config := filepath.Join(t.TempDir(), "serve.yaml")
	write(t, config, "dir: "+dir+"\nwebhooks:\n  - {name: x, url: '"+hook.URL+"', backoff: 100ms, attempts: 1000}\nauth:\n  rules: [{repositories: '**', anonymous: true, allow: all}]\n")
	srv := s.serve(t, "--config", config)
	tool(t, "skopeo", "copy", "-q", "--src-tls-verify=false", "--dest-tls-verify=false", "docker://"+source.addr+"/app:1", "docker://"+srv.addr+"/app:1")
	srv.cmd.Process.Kill()
	<-srv.waited
	alive.Store(true)
	srv = s.serve(t, "--config", config)
	for {
		select {
		case e := <-events:
			if !strings.Contains(e, `"tag":"1"`) {
				continue // a blob's
			}
		case <-time.After(patience):
			t.Fatalf("the event does not come: %s", srv.out)
		}
		break
	}
	if code := srv.stop(syscall.SIGTERM); code != 0 {
		t.Errorf("exit code %d: %s", code, srv.out)
	}
	(&store{root: dir}).check(t)
}

// TestServeRules: what the file says of tags, sizes and writing holds for those who push.
func TestServeRules(t *testing.T) {
	s := newBusybox(t)
	sample(t, s, "app:1")
	source := s.serve(t)
	dir := t.TempDir()
	config := filepath.Join(dir, "serve.yaml")
	write(t, config, "dir: data\nimmutable: ['release/**:v*']\nquotas: [{repositories: 'small/**', size: 10KiB}]\n")
	srv := s.serve(t, "--config", config)
	push := func(from, to string) []string {
		return []string{"skopeo", "copy", "-q", "--src-tls-verify=false", "--dest-tls-verify=false", "docker://" + source.addr + "/" + from, "docker://" + to}
	}
	tool(t, push("app:1", srv.addr+"/release/app:v1")...)
	refused(t, push("busybox", srv.addr+"/release/app:v1")...)
	refused(t, "skopeo", "delete", "--tls-verify=false", "docker://"+srv.addr+"/release/app:v1")
	tool(t, push("busybox", srv.addr+"/release/app:latest")...)
	refused(t, push("app:1", srv.addr+"/small/app:1")...)
	if code := srv.stop(syscall.SIGTERM); code != 0 {
		t.Errorf("exit code %d: %s", code, srv.out)
	}
	srv = s.serve(t, "--config", config, "--read-only")
	refused(t, push("app:1", srv.addr+"/other:1")...)
	tool(t, "skopeo", "inspect", "--tls-verify=false", "docker://"+srv.addr+"/release/app:v1")
}

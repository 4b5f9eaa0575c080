package serve

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"

	"nacre/internal/image"
	"nacre/internal/registry"
	"nacre/internal/registry/registrytest"
	"nacre/internal/registry/server/servertest"
	"nacre/internal/serve/config"
)

// logBuffer is a log that tests read while it is written.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// lines are those of the log with this message.
func (l *logBuffer) lines(t testing.TB, msg string) (all []map[string]any) {
	t.Helper()
	for line := range strings.Lines(l.String()) {
		var m map[string]any
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			t.Fatalf("line %q: %v", line, err)
		}
		if m["msg"] == msg {
			all = append(all, m)
		}
	}
	return all
}

// running is a Server with a real listener.
type running struct {
	*Server
	url  string
	log  *logBuffer
	stop context.CancelFunc
	done chan error
}

// run starts a server over r. The YAML is the configuration; DIR in it is a folder of the test.
func run(t testing.TB, r registry.Registry, yaml string, o Options) *running {
	t.Helper()
	if o.State == "" {
		o.State = t.TempDir()
	}
	c, err := config.Parse("f", []byte("addr: 127.0.0.1:0\n"+strings.ReplaceAll(yaml, "DIR", o.State)))
	if err != nil {
		t.Fatal(err)
	}
	log := &logBuffer{}
	if o.Log == nil {
		o.Log = slog.New(slog.NewJSONHandler(log, nil))
	}
	s, err := New(t.Context(), c, r, o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	run := &running{Server: s, log: log, stop: stop, done: make(chan error, 1)}
	go func() { run.done <- s.Run(ctx) }()
	scheme := "http://"
	if s.tls != nil {
		scheme = "https://"
	}
	run.url = scheme + s.Addr()
	t.Cleanup(func() {
		stop()
		select {
		case err := <-run.done:
			if err != nil {
				t.Errorf("the server ended with %v", err)
			}
		case <-time.After(30 * time.Second):
			t.Error("the server does not end")
		}
	})
	return run
}

// ended waits for the end of a server that was told to stop.
func (r *running) ended(t testing.TB) error {
	t.Helper()
	r.stop()
	select {
	case err := <-r.done:
		r.done <- nil
		return err
	case <-time.After(30 * time.Second):
		t.Fatal("the server does not end")
		return nil
	}
}

func request(t testing.TB, method, url, user string, body io.Reader) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequest(method, url, body)
	if err != nil {
		t.Fatal(err)
	}
	if user != "" {
		req.SetBasicAuth(user, user+"-secret")
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(text)
}

func (r *running) get(t testing.TB, path, user string) (int, string) {
	t.Helper()
	resp, text := request(t, "GET", r.url+path, user, nil)
	return resp.StatusCode, text
}

// htpasswd writes users whose passwords are their names and "-secret".
func htpasswd(t testing.TB, dir string, users ...string) {
	t.Helper()
	var b strings.Builder
	for _, u := range users {
		h, err := bcrypt.GenerateFromPassword([]byte(u+"-secret"), bcrypt.MinCost)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "%s:%s\n", u, h)
	}
	if err := os.WriteFile(filepath.Join(dir, "htpasswd"), []byte(b.String()), 0o600); err != nil {
		t.Fatal(err)
	}
}

// filled is a registry with an image in each of some repositories.
func filled(t testing.TB, repos ...string) *servertest.Strict {
	t.Helper()
	r := servertest.NewStrict()
	for _, repo := range repos {
		registrytest.Put(t, r, registry.Ref{Repo: repo, Tag: "1"}, registrytest.Hello(repo))
	}
	return r
}

const rulesYAML = `
auth:
  htpasswd: DIR/htpasswd
  rules:
    - {repositories: "public/**", anonymous: true, allow: read}
    - {repositories: "team/**", users: alice, allow: all}
    - {repositories: "**", users: root, allow: all}
`

func TestAccess(t *testing.T) {
	dir := t.TempDir()
	htpasswd(t, dir, "alice", "bob", "root")
	s := run(t, filled(t, "public/a", "team/a", "other"), rulesYAML, Options{State: dir})
	for _, c := range []struct {
		user, method, path string
		want               int
	}{
		{"", "GET", "/v2/", 401},
		{"alice", "GET", "/v2/", 200},
		{"", "GET", "/v2/public/a/manifests/1", 200},
		{"", "GET", "/v2/public/a/tags/list", 200},
		{"", "GET", "/v2/public/none/manifests/1", 404},
		{"", "GET", "/v2/team/a/manifests/1", 401},
		{"", "GET", "/v2/team/none/manifests/1", 401},
		{"bob", "GET", "/v2/team/a/manifests/1", 403},
		{"bob", "GET", "/v2/team/none/manifests/1", 403},
		{"alice", "GET", "/v2/team/a/manifests/1", 200},
		{"bob", "POST", "/v2/team/a/blobs/uploads/", 403},
		{"alice", "POST", "/v2/team/a/blobs/uploads/", 202},
		{"alice", "POST", "/v2/public/a/blobs/uploads/", 403},
		{"bob", "DELETE", "/v2/team/a/manifests/1", 403},
		{"nobody", "GET", "/v2/public/a/manifests/1", 401},
		{"", "GET", "/metrics", 401},
		{"bob", "GET", "/metrics", 200},
		{"", "GET", "/livez", 200},
		{"", "GET", "/readyz", 200},
		{"", "GET", "/", 200},
		{"", "GET", "/nothing", 404},
		{"", "GET", "//v2/team/a/manifests/1", 404},
		{"root", "GET", "/livez/../v2/team/a/manifests/1", 404},
		{"", "GET", "/livez/", 404},
	} {
		resp, body := request(t, c.method, s.url+c.path, c.user, nil)
		if resp.StatusCode != c.want {
			t.Errorf("%q %s %s: %d, want %d: %s", c.user, c.method, c.path, resp.StatusCode, c.want, body)
		}
		if resp.StatusCode >= 400 && strings.HasPrefix(c.path, "/v2") && !strings.Contains(body, `"errors"`) {
			t.Errorf("%s: no error body: %s", c.path, body)
		}
	}
	for user, want := range map[string]string{
		"": `["public/a"]`, "bob": `["public/a"]`, "alice": `["public/a","team/a"]`, "root": `["other","public/a","team/a"]`,
	} {
		if status, body := s.get(t, "/v2/_catalog", user); status != 200 || !strings.Contains(body, want) {
			t.Errorf("catalog of %q: %d %s, want %s", user, status, body, want)
		}
	}
}

// TestMount: what the caller may not pull cannot be mounted from there, and the answer is that of a
// blob that is not there.
func TestMount(t *testing.T) {
	dir := t.TempDir()
	htpasswd(t, dir, "alice", "bob", "root")
	r := filled(t, "public/a", "other")
	s := run(t, r, rulesYAML, Options{State: dir})
	var answers []string
	for _, from := range []string{"public/a", "other"} {
		d, err := r.Resolve(t.Context(), registry.Ref{Repo: from, Tag: "1"})
		if err != nil {
			t.Fatal(err)
		}
		_, body := s.get(t, "/v2/"+from+"/manifests/"+d.Digest.String(), "root")
		var m struct{ Config registry.Descriptor }
		if err := json.Unmarshal([]byte(body), &m); err != nil {
			t.Fatal(err)
		}
		resp, _ := request(t, "POST", s.url+"/v2/team/new/blobs/uploads/?mount="+m.Config.Digest.String()+"&from="+from, "alice", nil)
		answers = append(answers, fmt.Sprint(resp.StatusCode))
	}
	if answers[0] != "201" || answers[1] != "202" {
		t.Errorf("got %v", answers)
	}
}

func TestLogsAndMetrics(t *testing.T) {
	dir := t.TempDir()
	htpasswd(t, dir, "alice", "root")
	s := run(t, filled(t, "team/a"), rulesYAML, Options{State: dir, Version: "9.9"})
	req, _ := http.NewRequest("GET", s.url+"/v2/team/a/manifests/1", nil)
	req.SetBasicAuth("alice", "alice-secret")
	req.Header.Set("X-Request-Id", "my-request")
	resp, err := http.DefaultClient.Do(req)
	if err != nil || resp.Header.Get("X-Request-Id") != "my-request" {
		t.Fatalf("%v %v", err, resp.Header)
	}
	resp.Body.Close()
	req.SetBasicAuth("alice", "Wr0ng-Secret")
	if resp, err := http.DefaultClient.Do(req); err != nil || resp.StatusCode != 401 {
		t.Fatalf("%v %d", err, resp.StatusCode)
	}
	request(t, "GET", s.url+"/token?account=T0ken-Secret&scope=repository:team/a:pull", "alice", nil)
	var lines []map[string]any
	for len(lines) < 2 { // a line is written when the answer is sent
		lines = s.log.lines(t, "request")
	}
	l := lines[0]
	for key, want := range map[string]any{"id": "my-request", "user": "alice", "status": 200.0, "method": "GET", "path": "/v2/team/a/manifests/1", "kind": "manifest.get", "client": "127.0.0.1"} {
		if l[key] != want {
			t.Errorf("%s is %v, want %v", key, l[key], want)
		}
	}
	if lines[1]["reason"] != "wrong password of user alice" {
		t.Errorf("the second line: %v", lines[1])
	}
	for _, secret := range []string{"alice-secret", "Wr0ng-Secret", "T0ken-Secret", "Basic", "Bearer"} {
		if strings.Contains(s.log.String(), secret) {
			t.Errorf("the log has %s:\n%s", secret, s.log)
		}
	}
	_, text := s.get(t, "/metrics", "root")
	for _, want := range []string{
		`nacre_requests_total{kind="manifest.get",status="200"} 1`, `nacre_requests_total{kind="manifest.get",status="401"} 1`,
		`nacre_build_info{version="9.9"} 1`, `nacre_requests_total{kind="token",status="200"} 1`, `nacre_request_seconds_count{kind="manifest.get"} 2`, "nacre_requests_running 1", `nacre_sent_bytes_total{kind="manifest.get"}`,
	} {
		if !strings.Contains(text, want+"\n") && !strings.Contains(text, want+" ") {
			t.Errorf("metrics have no %s:\n%s", want, text)
		}
	}
}

func TestMetricsElsewhere(t *testing.T) {
	s := run(t, filled(t), "metrics: {addr: 127.0.0.1:0}", Options{})
	if status, _ := s.get(t, "/metrics", ""); status != 404 {
		t.Errorf("at the main address: %d", status)
	}
	for _, path := range []string{"/metrics", "/livez", "/readyz"} {
		if resp, _ := request(t, "GET", "http://"+s.AdminAddr()+path, "", nil); resp.StatusCode != 200 {
			t.Errorf("%s: %d", path, resp.StatusCode)
		}
	}
	if resp, _ := request(t, "GET", "http://"+s.AdminAddr()+"/v2/", "", nil); resp.StatusCode != 404 {
		t.Errorf("the registry is at the address of metrics: %d", resp.StatusCode)
	}
}

func TestReady(t *testing.T) {
	s := run(t, filled(t), "", Options{Ready: func(context.Context) error { return io.ErrUnexpectedEOF }})
	if status, _ := s.get(t, "/readyz", ""); status != 503 {
		t.Errorf("without storage: %d", status)
	}
	if status, _ := s.get(t, "/livez", ""); status != 200 {
		t.Errorf("alive: %d", status)
	}
	if n := len(s.log.lines(t, "storage does not answer")); n != 1 {
		t.Errorf("logged %d times", n)
	}
}

func TestReadOnly(t *testing.T) {
	s := run(t, filled(t, "a"), "read-only: true", Options{})
	for method, want := range map[string]int{"GET": 200, "PUT": 405, "DELETE": 405} {
		if resp, body := request(t, method, s.url+"/v2/a/manifests/1", "", strings.NewReader("{}")); resp.StatusCode != want {
			t.Errorf("%s: %d %s", method, resp.StatusCode, body)
		}
	}
}

func TestSparse(t *testing.T) {
	index := registrytest.NewIndex([]image.Platform{{OS: "linux", Architecture: "amd64"}}, []registrytest.Image{registrytest.Hello("absent")})
	for yaml, want := range map[string]int{"": 404, "sparse: true": 201} {
		s := run(t, filled(t, "a"), yaml, Options{})
		data := string(index.Blobs[len(index.Blobs)-1].Data)
		if resp, body := request(t, "PUT", s.url+"/v2/a/manifests/2", "", strings.NewReader(data)); resp.StatusCode != want {
			t.Errorf("%q: %d %s", yaml, resp.StatusCode, body)
		}
	}
}

func TestRate(t *testing.T) {
	dir := t.TempDir()
	htpasswd(t, dir, "alice", "bob", "root")
	now := time.Now()
	s := run(t, filled(t, "team/a"), rulesYAML+"\nlimits: {requests: 1, burst: 2}", Options{State: dir, Now: func() time.Time { return now }})
	for i, want := range []int{200, 200, 429, 429} {
		resp, body := request(t, "GET", s.url+"/v2/team/a/manifests/1", "alice", nil)
		if resp.StatusCode != want || want == 429 && (resp.Header.Get("Retry-After") == "" || !strings.Contains(body, "TOOMANYREQUESTS")) {
			t.Errorf("request %d: %d %v %s", i, resp.StatusCode, resp.Header, body)
		}
	}
	if status, _ := s.get(t, "/v2/team/a/manifests/1", "root"); status != 200 {
		t.Errorf("another user: %d", status)
	}
	for i, want := range []int{401, 401, 429} {
		if status, _ := s.get(t, "/v2/team/a/manifests/1", ""); status != want {
			t.Errorf("nobody's request %d: %d", i, status)
		}
	}
}

package e2e

import (
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestServeCutLine pushes and pulls 60 MB by TLS, with a password, where every connection is reset after 5 MB.
func TestServeCutLine(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	writeTLS(t, dir)
	writeUsers(t, dir, "alice")
	s := newStore(t)
	folder := &store{root: filepath.Join(dir, "registry")}
	srv := s.serve(t, "--dir", folder.root, "--tls-cert", dir+"/cert.pem", "--tls-key", dir+"/key.pem", "--htpasswd", dir+"/users")
	w := newWire(t, srv.addr, 5<<20, 0)
	s.trust(t, dir, w.addr)
	const size = 60 << 20
	name := w.addr + "/team/big:1"
	files := map[string]string{"Dockerfile": "FROM scratch\nCOPY a /\nCOPY b /\n", "a": random(1, size/3), "b": random(2, size-size/3)}
	s.build(t, name, writeFiles(t, files))
	s.ok(t, "push", "-q", name)
	if n := w.cuts.Load(); n < 10 {
		t.Errorf("it was cut %d times while pushing", n)
	}
	before := w.cuts.Load()
	other := newStore(t)
	other.env = s.env
	other.ok(t, "pull", "-q", name)
	if n := w.cuts.Load() - before; n < 10 {
		t.Errorf("it was cut %d times while pulling", n)
	}
	if a, b := s.inspect(t, name, "{{.Id}}"), other.inspect(t, name, "{{.Id}}"); a != b {
		t.Errorf("it is %s, want %s", b, a)
	}
	t.Logf("%d bytes up, %d down, for %d", w.up.Load(), w.down.Load(), size)
	if up, down := w.up.Load(), w.down.Load(); up > size*3/2 || down > size*3/2 {
		t.Errorf("%d bytes were sent and %d received", up, down)
	}
	other.check(t)
	folder.check(t)
}

// TestServeClientKilled kills pushes and pulls at random moments. What had arrived is not sent again, and in the
// end all is right.
func TestServeClientKilled(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	folder := &store{root: filepath.Join(t.TempDir(), "registry")}
	srv := s.serve(t, "--dir", folder.root)
	w := newWire(t, srv.addr, 0, 512<<10)
	const layers, size = 24, 256 << 10
	files, text := map[string]string{}, "FROM scratch\n"
	for i := range layers {
		files[fmt.Sprint("f", i)] = random(int64(i), size)
		text += fmt.Sprintf("COPY f%d /\n", i)
	}
	files["Dockerfile"] = text
	name := w.addr + "/big:1"
	s.build(t, name, writeFiles(t, files))
	seed := time.Now().UnixNano()
	t.Logf("seed %d", seed)
	moment := rand.New(rand.NewSource(seed))
	visible, kills := newWitness(t, srv.addr), 0
	for !s.killed(t, time.Duration(600+moment.Intn(600))*time.Millisecond, "push", "-q", name) {
		if kills++; kills > 60 {
			t.Fatal("it does not get on")
		}
		// It may be killed when all is done but for the answer. Until then there is nothing.
		if got := srv.get(t, "/v2/big/manifests/1"); !strings.HasSuffix(got, "404") {
			if err := visible.image("big", "1", ""); err != nil {
				t.Fatal(err)
			}
		}
	}
	t.Logf("%d bytes sent in %d rounds, for %d", w.up.Load(), kills+1, layers*size)
	if kills < 2 {
		t.Errorf("killed %d times only", kills)
	}
	// Of each round what did not become whole comes again: that many at one time at most.
	if got, limit := w.up.Load(), int64(layers*size+kills*6*size+1<<20); got > limit {
		t.Errorf("%d bytes were sent in %d rounds, want at most %d", got, kills+1, limit)
	}
	// The same on the way back: a pull goes on in the middle of a layer.
	other := newStore(t)
	w.down.Store(0)
	pulls := 0
	for !other.killed(t, time.Duration(300+moment.Intn(600))*time.Millisecond, "pull", "-q", name) {
		if pulls++; pulls > 60 {
			t.Fatal("the pull does not get on")
		}
		other.check(t)
	}
	t.Logf("%d bytes received in %d rounds", w.down.Load(), pulls+1)
	if got, limit := w.down.Load(), int64(layers*size+pulls*(1<<20)+1<<20); got > limit || pulls < 2 {
		t.Errorf("%d bytes were received in %d rounds, want at most %d", got, pulls+1, limit)
	}
	if a, b := s.inspect(t, name, "{{.Id}}"), other.inspect(t, name, "{{.Id}}"); a != b {
		t.Errorf("it is %s, want %s", b, a)
	}
	other.check(t)
	folder.check(t)
}

// idle waits until nothing but the question itself runs.
func (r *registryServer) idle(t *testing.T) {
	t.Helper()
	if !within(patience, func() bool { return strings.Contains(r.get(t, "/metrics"), "nacre_requests_running 1\n") }) {
		t.Fatalf("requests do not end: %s", r.out)
	}
}

// post uploads content in one request and returns the status and the body of the answer.
func (r *registryServer) post(t *testing.T, repo string, body io.Reader, content string) (int, string) {
	t.Helper()
	url := fmt.Sprintf("http://%s/v2/%s/blobs/uploads/?digest=sha256:%x", r.addr, repo, sha256.Sum256([]byte(content)))
	req, err := http.NewRequest("POST", url, body)
	if err != nil {
		t.Fatal(err)
	}
	req.ContentLength = int64(len(content))
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

// trickle is content that comes in pieces, with pauses.
type trickle struct {
	io.Reader
	piece int
	pause time.Duration
}

func (r trickle) Read(p []byte) (int, error) {
	time.Sleep(r.pause)
	return r.Reader.Read(p[:min(len(p), r.piece)])
}

// TestServeStalled: clients that stop, or do nearly so, hold neither a place nor a connection for long;
// those that are only slow are served.
func TestServeStalled(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	dir := t.TempDir()
	write(t, dir+"/serve.yaml", "dir: registry\nlimits: {stall: 1s, header-time: 1s, idle: 1s, uploads: 2}\n")
	srv := s.serve(t, "--config", dir+"/serve.yaml")
	content := random(1, 24<<20)
	if status, body := srv.post(t, "app", strings.NewReader(content), content); status != 201 {
		t.Fatalf("%d %s", status, body)
	}
	dial := func(format string, args ...any) net.Conn {
		c, err := net.Dial("tcp", srv.addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		fmt.Fprintf(c, format, args...)
		return c
	}
	upload := fmt.Sprintf("POST /v2/app/blobs/uploads/?digest=sha256:%x HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\nsome con", sha256.Sum256(nil))
	silent, dripping := dial("%s", upload), dial("%s", upload)
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			time.Sleep(50 * time.Millisecond)
			if _, err := io.WriteString(dripping, "x"); err != nil {
				return
			}
		}
	}()
	for !strings.Contains(srv.get(t, "/metrics"), "nacre_requests_running 3\n") {
		time.Sleep(5 * time.Millisecond)
	}
	// Both places are taken.
	if status, body := srv.post(t, "app", strings.NewReader("x"), "x"); status != 429 || !strings.Contains(body, `"TOOMANYREQUESTS"`) {
		t.Errorf("one too many: %d %s", status, body)
	}
	deaf := dial("GET /v2/app/blobs/sha256:%x HTTP/1.1\r\nHost: x\r\n\r\n", sha256.Sum256([]byte(content)))
	dumb := dial("GET /v2/ HTTP/1.1\r\nHost: x\r\nX-Half: ")
	mute := dial("")
	srv.idle(t)
	<-stopped
	for name, c := range map[string]net.Conn{"silent": silent, "dumb": dumb, "mute": mute, "deaf": deaf} {
		c.SetReadDeadline(time.Now().Add(patience))
		n, err := io.Copy(io.Discard, c)
		if os.IsTimeout(err) || n >= int64(len(content)) {
			t.Errorf("%s: the connection goes on: %d bytes, %v", name, n, err)
		}
	}
	// Slow is not stalled: this takes more than twice the limit.
	slow := content[:1<<20]
	if status, body := srv.post(t, "app", trickle{strings.NewReader(slow), 32 << 10, 75 * time.Millisecond}, slow); status != 201 {
		t.Errorf("the slow one: %d %s", status, body)
	}
	if code := srv.stop(unix.SIGTERM); code != 0 {
		t.Errorf("exit code %d: %s", code, srv.out)
	}
}

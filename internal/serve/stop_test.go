package serve

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"nacre/internal/serve/webhook"
)

// start begins an upload and returns where it is.
func (r *running) start(t testing.TB, repo string) string {
	t.Helper()
	resp, body := request(t, "POST", r.url+"/v2/"+repo+"/blobs/uploads/", "", nil)
	if resp.StatusCode != 202 {
		t.Fatalf("%d %s", resp.StatusCode, body)
	}
	return strings.TrimPrefix(resp.Header.Get("Location"), r.url)
}

func send(t testing.TB, method, url string, content []byte, from int) *http.Response {
	t.Helper()
	req, err := http.NewRequest(method, url, bytes.NewReader(content))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/octet-stream")
	if method == "PATCH" {
		req.Header.Set("Content-Range", fmt.Sprintf("%d-%d", from, from+len(content)-1))
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	return resp
}

// TestStop: a request that runs may end, new ones are refused meanwhile, and an upload goes on
// after the next start.
func TestStop(t *testing.T) {
	dir, r := t.TempDir(), filled(t)
	content := bytes.Repeat([]byte("0123456789abcdef"), 1<<12)
	half := len(content) / 2
	s := run(t, r, "", Options{State: dir})
	at := s.start(t, "a")
	if resp := send(t, "PATCH", s.url+at, content[:half], 0); resp.StatusCode != 202 {
		t.Fatal(resp.Status)
	}
	// Another upload is in the middle of its only request.
	pr, pw := io.Pipe()
	answered := make(chan *http.Response, 1)
	req, _ := http.NewRequest("POST", s.url+"/v2/b/blobs/uploads/?digest="+digest.FromBytes(content).String(), pr)
	req.ContentLength = int64(len(content))
	go func() {
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Error(err)
		}
		answered <- resp
	}()
	pw.Write(content[:half])
	for s.measured.running.Load() == 0 {
		time.Sleep(time.Millisecond)
	}
	s.stop()
	for !s.draining.Load() {
		time.Sleep(time.Millisecond)
	}
	for { // the listener is closed soon after
		conn, err := net.Dial("tcp", s.Addr())
		if err != nil {
			break
		}
		conn.Close()
	}
	pw.Write(content[half:])
	pw.Close()
	if resp := <-answered; resp == nil || resp.StatusCode != 201 {
		t.Errorf("the running request: %+v", resp)
	}
	if err := s.ended(t); err != nil {
		t.Error(err)
	}
	s = run(t, r, "", Options{State: dir})
	resp, _ := request(t, "GET", s.url+at, "", nil)
	if got := resp.Header.Get("Range"); resp.StatusCode != 204 || got != fmt.Sprintf("0-%d", half-1) {
		t.Errorf("after the restart: %s, Range %s", resp.Status, got)
	}
	if resp := send(t, "PATCH", s.url+at, content[half:], half); resp.StatusCode != 202 {
		t.Error(resp.Status)
	}
	if resp := send(t, "PUT", s.url+at+"?digest="+digest.FromBytes(content).String(), nil, 0); resp.StatusCode != 201 {
		t.Error(resp.Status)
	}
}

// TestStopCutsOff: what does not end in time is cut off, and that is said.
func TestStopCutsOff(t *testing.T) {
	s := run(t, filled(t), "limits: {drain: 100ms}", Options{})
	conn, err := net.Dial("tcp", s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "POST /v2/a/blobs/uploads/?digest=%s HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nabc", digest.FromString("x"))
	for s.measured.running.Load() == 0 {
		time.Sleep(time.Millisecond)
	}
	if err := s.ended(t); err == nil || !strings.Contains(err.Error(), "cut off") {
		t.Errorf("got %v", err)
	}
}

// TestSlowHeader: a client that does not say what it wants loses its connection.
func TestSlowHeader(t *testing.T) {
	s := run(t, filled(t), "limits: {header-time: 1s}", Options{})
	conn, err := net.Dial("tcp", s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprint(conn, "GET /v2/ HTTP/1.1\r\nHost:")
	conn.SetReadDeadline(time.Now().Add(20 * time.Second))
	if _, err := io.ReadAll(conn); err != nil {
		t.Errorf("the connection is still there: %v", err)
	}
}

// TestStalledUpload: a client that stops in the middle of a body gets an end.
func TestStalledUpload(t *testing.T) {
	s := run(t, filled(t), "limits: {stall: 1s}", Options{})
	conn, err := net.Dial("tcp", s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "POST /v2/a/blobs/uploads/?digest=%s HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nabc", digest.FromString("x"))
	conn.SetReadDeadline(time.Now().Add(20 * time.Second))
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err == nil && resp.StatusCode < 400 {
		t.Errorf("answered %s", resp.Status)
	}
	if e, ok := err.(net.Error); ok && e.Timeout() {
		t.Error("the connection is still there")
	}
}

func TestLimits(t *testing.T) {
	s := run(t, filled(t), "limits: {header: 4KiB, body: 1KiB, manifest: 64KiB}", Options{})
	req, _ := http.NewRequest("GET", s.url+"/v2/", nil)
	req.Header.Set("X-Long", strings.Repeat("x", 16<<10))
	if resp, err := http.DefaultClient.Do(req); err != nil || resp.StatusCode != 431 {
		t.Errorf("long header: %v %+v", err, resp)
	}
	content := make([]byte, 2<<10)
	if resp := send(t, "POST", s.url+"/v2/a/blobs/uploads/?digest="+digest.FromBytes(content).String(), content, 0); resp.StatusCode != 413 {
		t.Errorf("large blob: %s", resp.Status)
	}
	if resp := send(t, "PUT", s.url+"/v2/a/manifests/1", make([]byte, 65<<10), 0); resp.StatusCode != 413 {
		t.Errorf("large manifest: %s", resp.Status)
	}
}

// TestUploads: more uploads at one time than are allowed are told to come back.
func TestUploads(t *testing.T) {
	s := run(t, filled(t), "limits: {uploads: 1}", Options{})
	conn, err := net.Dial("tcp", s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	content := []byte("0123456789")
	d := digest.FromBytes(content)
	fmt.Fprintf(conn, "POST /v2/a/blobs/uploads/?digest=%s HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n01234", d)
	var resp *http.Response
	for range 1000 { // until the first has its place
		if resp = send(t, "POST", s.url+"/v2/a/blobs/uploads/?digest="+d.String(), content, 0); resp.StatusCode == 429 {
			break
		}
		time.Sleep(time.Millisecond)
	}
	if resp.StatusCode != 429 || resp.Header.Get("Retry-After") == "" {
		t.Errorf("the second: %s %v", resp.Status, resp.Header)
	}
	fmt.Fprint(conn, "56789")
	first, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil || first.StatusCode != 201 {
		t.Errorf("the first: %v %v", first, err)
	}
}

func TestConnections(t *testing.T) {
	s := run(t, filled(t), "limits: {connections: 1}", Options{})
	first, err := net.Dial("tcp", s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(first, "GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
	if _, err := http.ReadResponse(bufio.NewReader(first), nil); err != nil {
		t.Fatal(err)
	}
	answered := make(chan int, 1)
	go func() {
		resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Get(s.url + "/livez")
		if err != nil {
			t.Error(err)
			answered <- 0
			return
		}
		resp.Body.Close()
		answered <- resp.StatusCode
	}()
	select {
	case <-answered:
		t.Error("the second connection is served while the first is there")
	case <-time.After(200 * time.Millisecond):
	}
	first.Close()
	if status := <-answered; status != 200 {
		t.Errorf("the second: %d", status)
	}
}

// TestConnectionsSendFiles keeps what lets the kernel send files, and ends Accept with Close.
func TestConnectionsSendFiles(t *testing.T) {
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := limitConnections(inner, 1)
	client, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := c.(io.ReaderFrom); !ok {
		t.Errorf("%T has no ReadFrom", c)
	}
	ended := make(chan error)
	go func() {
		_, err := l.Accept() // there is no place
		ended <- err
	}()
	l.Close()
	if err := <-ended; !errors.Is(err, net.ErrClosed) {
		t.Errorf("accept after close: %v", err)
	}
	c.Close()
	c.Close() // frees one place only
	if n := len(l.(*limitedListener).places); n != 0 {
		t.Errorf("%d places are taken", n)
	}
}

func TestWebhooks(t *testing.T) {
	events := make(chan webhook.Event, 100)
	hook := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		var e struct{ Events []webhook.Event }
		if err := json.NewDecoder(r.Body).Decode(&e); err != nil {
			t.Error(err)
		}
		for _, ev := range e.Events {
			events <- ev
		}
	}))
	defer hook.Close()
	dir := t.TempDir()
	htpasswd(t, dir, "alice", "root")
	s := run(t, filled(t, "team/a", "public/x"), rulesYAML+"\nwebhooks: [{name: x, url: '"+hook.URL+"', repositories: 'team/**', actions: [push, pull, delete, mount]}]", Options{State: dir})
	content := []byte("a blob")
	do := func(method, path string, body []byte, mediaType string, want int) {
		t.Helper()
		req, _ := http.NewRequest(method, s.url+path, bytes.NewReader(body))
		req.SetBasicAuth("alice", "alice-secret")
		req.Header.Set("Content-Type", mediaType)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Fatalf("%s %s: %s", method, path, resp.Status)
		}
	}
	blob := digest.FromBytes(content)
	manifest := []byte(fmt.Sprintf(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.oci.empty.v1+json","digest":%q,"size":%d},"layers":[],"artifactType":"a/b"}`, blob, len(content)))
	do("GET", "/v2/public/x/manifests/1", nil, "", 200) // filtered
	do("POST", "/v2/team/a/blobs/uploads/?digest="+blob.String(), content, "", 201)
	do("POST", "/v2/team/b/blobs/uploads/?from=team/a&mount="+blob.String(), nil, "", 201)
	do("PUT", "/v2/team/a/manifests/new", manifest, "application/vnd.oci.image.manifest.v1+json", 201)
	do("GET", "/v2/team/a/manifests/new", nil, "", 200)
	do("GET", "/v2/team/a/manifests/none", nil, "", 404)
	do("DELETE", "/v2/team/a/manifests/new", nil, "", 202)
	for _, want := range []webhook.Event{
		{Action: "push", Target: webhook.Target{Repository: "team/a", Digest: blob.String()}},
		{Action: "mount", Target: webhook.Target{Repository: "team/b", FromRepository: "team/a", Digest: blob.String()}},
		{Action: "push", Target: webhook.Target{Repository: "team/a", Tag: "new", Digest: digest.FromBytes(manifest).String(), MediaType: "application/vnd.oci.image.manifest.v1+json"}},
		{Action: "pull", Target: webhook.Target{Repository: "team/a", Tag: "new", Digest: digest.FromBytes(manifest).String(), MediaType: "application/vnd.oci.image.manifest.v1+json"}},
		{Action: "delete", Target: webhook.Target{Repository: "team/a", Tag: "new"}},
	} {
		var got webhook.Event
		select {
		case got = <-events:
		case <-time.After(20 * time.Second):
			t.Fatalf("no event %+v", want)
		}
		g := webhook.Event{Action: got.Action, Target: webhook.Target{Repository: got.Target.Repository, FromRepository: got.Target.FromRepository, Digest: got.Target.Digest, Tag: got.Target.Tag}}
		w := want
		w.Target.MediaType = ""
		if want.Action == "delete" {
			g.Target.Digest = ""
		}
		if g != w || want.Target.MediaType != "" && got.Target.MediaType != want.Target.MediaType {
			t.Errorf("got %+v\nwant %+v", got, want)
		}
		if got.Actor.Name != "alice" || got.Request.Method == "" || got.Request.Addr != "127.0.0.1" || got.Source.InstanceID == "" || got.ID == "" || got.Timestamp.IsZero() {
			t.Errorf("incomplete: %+v", got)
		}
		if want.Action == "push" && (!strings.HasPrefix(got.Target.URL, s.url+"/v2/team/a/") || got.Target.Size == 0) {
			t.Errorf("target %+v", got.Target)
		}
	}
}

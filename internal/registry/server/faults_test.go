package server_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"nacre/internal/registry/registrytest"
	"nacre/internal/registry/server"
	"nacre/internal/registry/server/servertest"
)

// dial opens a connection to speak HTTP over by hand.
func dial(t testing.TB, url string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// start begins an upload and returns its path.
func start(t testing.TB, url string) string {
	t.Helper()
	res := send(t, "POST", url+"/v2/app/blobs/uploads/", "")
	want(t, res, 202)
	return res.Header.Get("Location")
}

// wantRange asks how far an upload is.
func wantRange(t testing.TB, url, want string) {
	t.Helper()
	res := send(t, "GET", url, "")
	if res.StatusCode != 204 || res.Header.Get("Range") != want {
		t.Fatalf("%s %v, want the range %s", res.Status, res.Header, want)
	}
}

// observed waits for a request of a kind to end.
type observed chan server.Done

func (o observed) hook(_ *http.Request, d server.Done) {
	if d.Request.Kind != server.StatUpload && d.Request.Kind != server.StartUpload {
		o <- d
	}
}

// TestBrokenOff cuts connections in the middle of content: it is never taken for whole, and
// what came is there for the client to go on from.
func TestBrokenOff(t *testing.T) {
	for name, c := range map[string]struct{ header, body string }{
		"length":      {"Content-Length: 12", "some con"},
		"range":       {"Content-Range: 0-11\r\nContent-Length: 12", "some con"},
		"chunked":     {"Transfer-Encoding: chunked", "8\r\nsome con\r\n"},
		"in a chunk":  {"Transfer-Encoding: chunked", "c\r\nsome con"},
		"huge length": {"Content-Length: 9223372036854775807", "some con"},
	} {
		for _, method := range []string{"PATCH", "PUT"} {
			t.Run(method+" "+name, func(t *testing.T) {
				ended := make(observed, 9)
				h := serve(t, servertest.NewStrict(), server.Options{Observe: ended.hook})
				loc := start(t, h.URL)
				conn := dial(t, h.URL)
				fmt.Fprintf(conn, "%s %s?digest=%s HTTP/1.1\r\nHost: x\r\n%s\r\n\r\n%s", method, loc, blob.Digest, c.header, c.body)
				conn.Close()
				if d := <-ended; d.Status < 400 || d.Received != 8 {
					t.Fatalf("%+v", d)
				}
				wantRange(t, h.URL+loc, "0-7")
				want(t, send(t, "HEAD", h.URL+"/v2/app/blobs/"+string(blob.Digest), ""), 404)
				<-ended
				want(t, send(t, "PUT", h.URL+loc+"?digest="+string(blob.Digest), "tent", "Content-Range: 8-11"), 201)
				want(t, send(t, "HEAD", h.URL+"/v2/app/blobs/"+string(blob.Digest), ""), 200)
			})
		}
	}
}

// TestBrokenOffPost leaves nothing behind of an upload that had no name yet.
func TestBrokenOffPost(t *testing.T) {
	ended, dir := make(observed, 9), t.TempDir()
	h := serve(t, servertest.NewStrict(), server.Options{Observe: ended.hook, Uploads: dir})
	conn := dial(t, h.URL)
	fmt.Fprintf(conn, "POST /v2/app/blobs/uploads/?digest=%s HTTP/1.1\r\nHost: x\r\nContent-Length: 12\r\n\r\nsome con", blob.Digest)
	conn.Close()
	if d := <-ended; d.Status < 400 {
		t.Fatalf("%+v", d)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

// TestBrokenOffManifest stores no half manifest, even if the half is one.
func TestBrokenOffManifest(t *testing.T) {
	ended := make(observed, 9)
	r := servertest.NewStrict()
	r.Sparse = true
	h := serve(t, r, server.Options{Observe: ended.hook, Sparse: true})
	m := registrytest.Hello("x").Blobs[3]
	conn := dial(t, h.URL)
	fmt.Fprintf(conn, "PUT /v2/app/manifests/1 HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", m.Size+1, m.Data)
	conn.Close()
	if d := <-ended; d.Status != 400 {
		t.Fatalf("%+v", d)
	}
	want(t, send(t, "HEAD", h.URL+"/v2/app/manifests/1", ""), 404)
}

// TestStall cuts off clients that stop sending, and those that send only to seem alive.
func TestStall(t *testing.T) {
	for name, drip := range map[string]bool{"silent": false, "dripping": true} {
		t.Run(name, func(t *testing.T) {
			ended := make(observed, 9)
			h := serve(t, servertest.NewStrict(), server.Options{Observe: ended.hook, Stall: 200 * time.Millisecond})
			loc := start(t, h.URL)
			conn := dial(t, h.URL)
			fmt.Fprintf(conn, "PATCH %s HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\nsome con", loc)
			gone := make(chan struct{})
			go func() {
				defer close(gone)
				for drip {
					select {
					case <-t.Context().Done():
						return
					case <-time.After(10 * time.Millisecond):
					}
					if _, err := io.WriteString(conn, "x"); err != nil {
						return
					}
				}
			}()
			if d := <-ended; d.Status != 400 || d.Received < 8 || d.Received > stallLimit {
				t.Fatalf("%+v", d)
			}
			if _, err := io.Copy(io.Discard, conn); drip == false && err != nil {
				t.Errorf("the connection was not closed in order: %v", err)
			}
			<-gone
		})
	}
}

// stallLimit is more than what a dripping client can send before it is cut off.
const stallLimit = 4 << 10

// TestStallReading cuts off clients that take nothing of what they asked for.
func TestStallReading(t *testing.T) {
	ended := make(observed, 9)
	r := servertest.NewStrict()
	large := registrytest.NewBlob("application/octet-stream", make([]byte, 64<<20))
	if err := registrytest.Push(t.Context(), r, "app", large); err != nil {
		t.Fatal(err)
	}
	h := serve(t, r, server.Options{Observe: ended.hook, Stall: 200 * time.Millisecond})
	conn := dial(t, h.URL)
	fmt.Fprintf(conn, "GET /v2/app/blobs/%s HTTP/1.1\r\nHost: x\r\n\r\n", large.Digest)
	if d := <-ended; d.Sent >= large.Size || d.Err == nil {
		t.Errorf("%+v", d)
	}
}

// TestAfterStall uses a connection again after longer than Stall.
func TestAfterStall(t *testing.T) {
	r := servertest.NewStrict()
	if err := registrytest.Push(t.Context(), r, "app", registrytest.NewBlob("", make([]byte, 100000))); err != nil {
		t.Fatal(err)
	}
	h := serve(t, r, server.Options{Stall: 100 * time.Millisecond})
	conn := dial(t, h.URL)
	in := bufio.NewReader(conn)
	d := digest.FromBytes(make([]byte, 100000))
	for range 2 {
		fmt.Fprintf(conn, "GET /v2/app/blobs/%s HTTP/1.1\r\nHost: x\r\n\r\n", d)
		res, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Fatal(err)
		}
		if n, err := io.Copy(io.Discard, res.Body); n != 100000 || err != nil {
			t.Fatal(n, err)
		}
		fmt.Fprintf(conn, "POST /v2/app/blobs/uploads/?digest=%s HTTP/1.1\r\nHost: x\r\nContent-Length: 12\r\n\r\nsome content", blob.Digest)
		if res, err = http.ReadResponse(in, nil); err != nil || res.StatusCode != 201 {
			t.Fatal(res, err)
		}
		time.Sleep(200 * time.Millisecond) // what is tested is that this does no harm
	}
}

// TestRestart goes on with an upload after the server was replaced.
func TestRestart(t *testing.T) {
	dir, r := t.TempDir(), servertest.NewStrict()
	first := serve(t, r, server.Options{Uploads: dir})
	loc := start(t, first.URL)
	want(t, send(t, "PATCH", first.URL+loc, "some"), 202)
	first.Close()
	second := serve(t, r, server.Options{Uploads: dir})
	wantRange(t, second.URL+loc, "0-3")
	want(t, send(t, "PATCH", second.URL+loc, " con", "Content-Range: 4-7"), 202)
	third := serve(t, r, server.Options{Uploads: dir}) // beside the second
	want(t, send(t, "PATCH", third.URL+loc, "te", "Content-Range: 8-9"), 202)
	want(t, send(t, "PUT", second.URL+loc+"?digest="+string(blob.Digest), "nt"), 201)
	want(t, send(t, "GET", third.URL+loc, ""), 404)
	registrytest.Check(t, r, "app", registrytest.Image{Blobs: []registrytest.Blob{blob}})
}

// awaitWriter waits until a request is writing to an upload.
func awaitWriter(t *testing.T, url string) {
	for send(t, "GET", url, "").Header.Get("Range") == "0-0" {
		time.Sleep(time.Millisecond)
	}
}

// TestOneWriter lets only one request write to an upload at a time.
func TestOneWriter(t *testing.T) {
	ended, dir, r := make(observed, 9), t.TempDir(), servertest.NewStrict()
	h := serve(t, r, server.Options{Observe: ended.hook, Uploads: dir})
	beside := serve(t, r, server.Options{Uploads: dir})
	loc := start(t, h.URL)
	body, in := io.Pipe()
	done := make(chan int)
	go func() {
		req, _ := http.NewRequest("PATCH", h.URL+loc, body)
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			done <- 0
			return
		}
		res.Body.Close()
		done <- res.StatusCode
	}()
	large := strings.Repeat("x", 1<<20)
	io.WriteString(in, large)
	awaitWriter(t, h.URL+loc)
	want(t, send(t, "PATCH", h.URL+loc, "y"), 409)
	want(t, send(t, "PUT", h.URL+loc+"?digest="+string(blob.Digest), ""), 409)
	want(t, send(t, "PATCH", beside.URL+loc, "y"), 409)
	want(t, send(t, "GET", h.URL+loc, ""), 204)
	in.Close()
	if status := <-done; status != 202 {
		t.Fatal(status)
	}
	want(t, send(t, "PUT", h.URL+loc+"?digest="+digest.FromString(large).String(), ""), 201)
}

// TestCancelWhileWriting tells the writer that there is nothing left to write to.
func TestCancelWhileWriting(t *testing.T) {
	dir := t.TempDir()
	h := serve(t, servertest.NewStrict(), server.Options{Uploads: dir})
	loc := start(t, h.URL)
	body, in := io.Pipe()
	done := make(chan int)
	go func() {
		req, _ := http.NewRequest("PATCH", h.URL+loc, body)
		if res, err := http.DefaultClient.Do(req); err == nil {
			res.Body.Close()
			done <- res.StatusCode
		}
		close(done)
	}()
	io.WriteString(in, strings.Repeat("x", 1<<20))
	awaitWriter(t, h.URL+loc)
	want(t, send(t, "DELETE", h.URL+loc, ""), 204)
	in.Close()
	if status := <-done; status != 404 {
		t.Error(status)
	}
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

package e2e

import (
	"fmt"
	"io"
	"math"
	"math/rand"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	serving "nacre/internal/registry/server"
	"nacre/internal/registry/server/servertest"
)

// line is the way to a registry, which counts and is as bad as a test wants.
type line struct {
	addr  string
	bytes atomic.Int64 // of blobs, that were sent to clients
	cuts  atomic.Int64
	left  atomic.Int64 // how often it is cut still
	mu    sync.Mutex
	gets  map[string][]int64 // where the requests of a blob began to read, by digest
}

// badLine starts a proxy before the registry at addr. Connections end after cut bytes of one direction
// (0: never), and blobs flow at rate bytes a second (0: as they can).
func badLine(t *testing.T, addr string, cut, rate int64) *line {
	t.Helper()
	l := &line{gets: map[string][]int64{}}
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: addr})
	proxy.ErrorHandler = func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) }
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/blobs/sha256:") {
			l.mu.Lock()
			d := filepath.Base(r.URL.Path)
			l.gets[d] = append(l.gets[d], rangeStart(r.Header.Get("Range")))
			l.mu.Unlock()
			w = &slowWriter{w, l, rate}
		}
		proxy.ServeHTTP(w, r)
	})}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.addr = listener.Addr().String()
	go s.Serve(cutListener{listener, l, cut})
	t.Cleanup(func() { s.Close() })
	return l
}

// rangeStart reads "bytes=5-"; no range begins at 0.
func rangeStart(header string) int64 {
	s, _, _ := strings.Cut(strings.TrimPrefix(header, "bytes="), "-")
	n, _ := strconv.ParseInt(s, 10, 64)
	return n
}

type slowWriter struct {
	http.ResponseWriter
	l    *line
	rate int64
}

func (w *slowWriter) Write(p []byte) (int, error) {
	n, err := w.ResponseWriter.Write(p)
	w.l.bytes.Add(int64(n))
	if w.rate > 0 {
		http.NewResponseController(w.ResponseWriter).Flush()
		time.Sleep(time.Duration(int64(n) * int64(time.Second) / w.rate))
	}
	return n, err
}

type cutListener struct {
	net.Listener
	l   *line
	cut int64
}

func (c cutListener) Accept() (net.Conn, error) {
	conn, err := c.Listener.Accept()
	if err != nil || c.cut == 0 {
		return conn, err
	}
	return &cutConn{Conn: conn, l: c.l, in: c.cut, out: c.cut}, nil
}

// cutConn breaks after so many bytes in or out.
type cutConn struct {
	net.Conn
	l       *line
	in, out int64
}

func (c *cutConn) Read(p []byte) (int, error) {
	if c.in <= 0 {
		if err := c.end(); err != nil {
			return 0, err
		}
	}
	n, err := c.Conn.Read(p[:min(int64(len(p)), c.in)])
	c.in -= int64(n)
	return n, err
}

func (c *cutConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p[:min(int64(len(p)), c.out)])
	if c.out -= int64(n); c.out <= 0 && err == nil {
		if err := c.end(); err != nil {
			return n, err
		}
		m, err := c.Conn.Write(p[n:])
		return n + m, err
	}
	return n, err
}

func (c *cutConn) end() error {
	if c.l.left.Add(-1) < 0 {
		c.in, c.out = math.MaxInt64, math.MaxInt64
		return nil
	}
	c.l.cuts.Add(1)
	c.Conn.(*net.TCPConn).SetLinger(0) // a reset, as from a line that is gone
	c.Conn.Close()
	return io.ErrClosedPipe
}

// pushed builds an image of several large layers and pushes it to the registry at addr.
func pushed(t *testing.T, addr string, layers, size int) {
	t.Helper()
	files := map[string]string{}
	text := "FROM scratch\n"
	for i := range layers {
		files[fmt.Sprint("f", i)] = random(int64(i), size)
		text += fmt.Sprintf("COPY f%d /\n", i)
	}
	files["Dockerfile"] = text
	s := newStore(t)
	s.build(t, addr+"/big:1", writeFiles(t, files))
	s.ok(t, "push", "-q", addr+"/big:1")
}

// TestPullKilled kills pulls at random moments. Each goes on after what the one before had, and in the
// end all is right.
func TestPullKilled(t *testing.T) {
	t.Parallel()
	reg := dockerRegistry(t)
	const layers, size = 4, 4 << 20
	pushed(t, reg, layers, size)
	l := badLine(t, reg, 0, 4<<20)
	s := newStore(t)
	kills := 0
	for finished := false; !finished; {
		finished = s.killed(t, time.Duration(100+rand.Intn(400))*time.Millisecond, "pull", "-q", l.addr+"/big:1")
		if !finished {
			kills++
		}
		if kills > 100 {
			t.Fatal("it does not get on")
		}
		s.check(t)
	}
	if kills < 3 {
		t.Errorf("killed %d times only", kills)
	}
	// What is on its way when a process is killed, or in the kernel's buffers, comes again.
	if got, limit := l.bytes.Load(), int64(layers*size+(kills+1)*layers*(1<<20)); got > limit {
		t.Errorf("%d bytes were sent in %d rounds, want at most %d", got, kills+1, limit)
	}
	t.Logf("%d bytes sent in %d rounds, for %d", l.bytes.Load(), kills+1, layers*size)
	if left, err := os.ReadDir(s.root + "/partial"); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
	s.ok(t, "save", "-o", filepath.Join(t.TempDir(), "big.tar"), l.addr+"/big:1")
}

// TestPullInterrupted: Ctrl-C ends a pull at once, and the next goes on.
func TestPullInterrupted(t *testing.T) {
	t.Parallel()
	reg := dockerRegistry(t)
	const size = 8 << 20
	pushed(t, reg, 1, size)
	l := badLine(t, reg, 0, 8<<20)
	s := newStore(t)
	cmd := s.cmd("pull", l.addr+"/big:1")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	until(t, "half of it", func() bool { return l.bytes.Load() >= size/2 })
	cmd.Process.Signal(os.Interrupt)
	cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != 130 {
		t.Errorf("exit code %d, want 130", code)
	}
	s.check(t)
	s.ok(t, "pull", l.addr+"/big:1")
	if got := l.bytes.Load(); got > size+size/4 {
		t.Errorf("%d bytes were sent for %d", got, size)
	}
	s.check(t)
}

// TestPullTwice: processes that pull one image at a time fetch each blob once.
func TestPullTwice(t *testing.T) {
	t.Parallel()
	reg := dockerRegistry(t)
	pushed(t, reg, 3, 1<<20)
	l := badLine(t, reg, 0, 4<<20)
	s := newStore(t)
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			if r := s.run(t, "pull", l.addr+"/big:1"); r.code != 0 {
				t.Error(r)
			}
		})
	}
	wg.Wait()
	if len(l.gets) != 4 {
		t.Errorf("%d blobs were fetched, want 3 layers and a config", len(l.gets))
	}
	for d, starts := range l.gets {
		if len(starts) > 1 {
			t.Errorf("%s was fetched %d times", d, len(starts))
		}
	}
	s.check(t)
}

// TestCutLine: connections that break every 5 MB slow pulls and pushes, and do not fail them. Our own server
// knows what it has of a request that broke. Docker's does not: there an upload begins again, so
// that the line must last for once.
func TestCutLine(t *testing.T) {
	t.Parallel()
	ours, err := serving.New(servertest.NewStrict(), serving.Options{Uploads: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	h := httptest.NewServer(ours)
	t.Cleanup(func() { h.Close(); ours.Close() })
	t.Run("ours", func(t *testing.T) { cutLine(t, h.Listener.Addr().String(), 1000) })
	t.Run("docker", func(t *testing.T) { cutLine(t, dockerRegistry(t), 2) })
}

func cutLine(t *testing.T, addr string, cuts int64) {
	l := badLine(t, addr, 5<<20, 0)
	l.left.Store(cuts)
	s := newStore(t)
	dir := writeFiles(t, map[string]string{"f": random(1, 24<<20), "Dockerfile": "FROM scratch\nCOPY f /\n"})
	s.build(t, l.addr+"/big:1", dir)
	s.ok(t, "push", "-q", l.addr+"/big:1")
	if n := l.cuts.Load(); n < min(cuts, 3) {
		t.Errorf("the line was cut %d times while pushing", n)
	}
	before := l.cuts.Load()
	l.left.Store(1000)
	other := newStore(t)
	other.ok(t, "pull", "-q", l.addr+"/big:1")
	if n := l.cuts.Load() - before; n < 3 {
		t.Errorf("the line was cut %d times while pulling", n)
	}
	l.mu.Lock()
	for d, starts := range l.gets { // how much was sent says little: a reset takes what lies unread
		if !slices.IsSorted(starts) {
			t.Errorf("%s was read again from where it had been: %d", d, starts)
		}
	}
	l.mu.Unlock()
	other.check(t)
	if a, b := s.inspect(t, l.addr+"/big:1", "{{.Id}}"), other.inspect(t, l.addr+"/big:1", "{{.Id}}"); a != b {
		t.Errorf("it is %s, want %s", b, a)
	}
}

// TestPullFull: a pull that does not fit says so and leaves no part of itself, and what fits can be pulled.
func TestPullFull(t *testing.T) {
	t.Parallel()
	reg := dockerRegistry(t)
	pushed(t, reg, 2, 16<<20)
	roomy := newStore(t)
	dir := writeFiles(t, map[string]string{"f": "small", "Dockerfile": "FROM scratch\nCOPY f /\n"})
	roomy.build(t, reg+"/small:1", dir)
	roomy.ok(t, "push", "-q", reg+"/small:1")
	s := newTmpfs(t, "32m")
	s.fails(t, 1, []string{`(?i)no space left`}, "pull", reg+"/big:1")
	s.check(t)
	s.ok(t, "pull", reg+"/small:1")
	s.fails(t, 1, []string{`(?i)no space left`}, "pull", reg+"/big:1")
	s.ok(t, "system", "prune", "-af")
	s.ok(t, "pull", reg+"/small:1")
	s.check(t)
}

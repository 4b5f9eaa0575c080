package server_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"nacre/internal/event"
	"nacre/internal/registry"
	"nacre/internal/registry/hosted"
	"nacre/internal/registry/registrytest"
	"nacre/internal/registry/server"
	"nacre/internal/registry/store"
)

// TestMain lets the test program be the server that TestKilled kills.
func TestMain(m *testing.M) {
	if root := os.Getenv("NACRE_TEST_SERVE"); root != "" {
		fmt.Fprintln(os.Stderr, serveFile(root, os.NewFile(3, "listener")))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func serveFile(root string, f *os.File) error {
	l, err := net.FileListener(f)
	if err != nil {
		return err
	}
	s, err := store.Open(context.Background(), root, store.Options{})
	if err != nil {
		return err
	}
	srv, err := server.New(hosted.New(s, hosted.Options{}), server.Options{})
	if err != nil {
		return err
	}
	return http.Serve(l, srv)
}

// TestKilled kills the server at 20 moments and more while clients push. What was acknowledged
// is there afterwards, whole; what was not, is not there or whole.
func TestKilled(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f, err := l.(*net.TCPListener).File() // keeps the port between two servers
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	defer f.Close()
	root, url := t.TempDir(), "http://"+l.Addr().String()
	stop := make(chan struct{})
	var pushing sync.WaitGroup
	pushers := make([]*stubborn, 4)
	var pushed, resumed atomic.Int32
	for i := range pushers {
		pushers[i] = &stubborn{pushed: &pushed, resumed: &resumed, url: url + "/v2/app", rand: rand.New(rand.NewPCG(uint64(i), 1))}
		pushing.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
					pushers[i].push(fmt.Sprintf("%d-%d", i, n))
				}
			}
		})
	}
	random := rand.New(rand.NewPCG(1, 2))
	// A slow machine gets further kills until some have hit what they are for.
	for kills := 0; kills < 20 || kills < 400 && (pushed.Load() == 0 || resumed.Load() == 0); kills++ {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), "NACRE_TEST_SERVE="+root)
		cmd.ExtraFiles, cmd.Stderr = []*os.File{f}, os.Stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(50+random.IntN(150)) * time.Millisecond) // the moment is what is random
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		cmd.Wait()
	}
	close(stop)
	f.Close() // clients are refused now, and end
	pushing.Wait()
	wantAcknowledged(t, root, pushers)
}

func wantAcknowledged(t *testing.T, root string, pushers []*stubborn) {
	s, err := store.Open(t.Context(), root, store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	r := hosted.New(s, hosted.Options{})
	defer r.Close()
	tags, resumed := 0, pushers[0].resumed.Load()
	for _, p := range pushers {
		for _, problem := range p.problems {
			t.Error(problem)
		}
		for _, b := range p.blobs {
			registrytest.Check(t, r, "app", registrytest.Image{Blobs: []registrytest.Blob{b}})
		}
		for tag, img := range p.tags {
			tags++
			d, err := r.Resolve(t.Context(), registry.Ref{Repo: "app", Tag: tag})
			if err != nil || d.Digest != img.Desc().Digest {
				t.Errorf("%s: %v, %v", tag, d, err)
			}
			registrytest.Check(t, r, "app", img)
		}
	}
	for tag, err := range r.Tags(t.Context(), "app", "") { // acknowledged or not
		if err != nil {
			t.Fatal(err)
		}
		registrytest.Check(t, r, "app", stubbornImage(tag))
	}
	if tags == 0 || resumed == 0 {
		t.Errorf("%d images were pushed, %d uploads resumed: the test tested nothing", tags, resumed)
	}
	if report, err := s.Check(t.Context(), false, event.Discard); err != nil || len(report.Problems) > 0 {
		t.Errorf("the store: %+v, %v", report.Problems, err)
	}
}

// stubborn is a client that pushes on through restarts of its server, and remembers
// what was acknowledged.
type stubborn struct {
	url             string
	rand            *rand.Rand
	blobs           []registrytest.Blob
	tags            map[string]registrytest.Image
	problems        []string
	pushed, resumed *atomic.Int32 // images, uploads; of all clients
}

func stubbornImage(tag string) registrytest.Image { return registrytest.Hello(tag) }

// try sends a request until it is answered, for a while.
func (s *stubborn) try(method, url string, body []byte, header ...string) (int, http.Header) {
	for range 100 {
		req, err := http.NewRequest(method, url, bytes.NewReader(body))
		if err != nil {
			return 0, nil
		}
		for i := 0; i < len(header); i += 2 {
			req.Header.Set(header[i], header[i+1])
		}
		res, err := (&http.Client{Timeout: 5 * time.Second}).Do(req)
		if err == nil {
			io.Copy(io.Discard, res.Body)
			res.Body.Close()
			return res.StatusCode, res.Header
		}
		if strings.Contains(err.Error(), "refused") {
			return 0, nil // it is over
		}
	}
	return 0, nil
}

func (s *stubborn) push(tag string) {
	img := stubbornImage(tag)
	last := len(img.Blobs) - 1
	large := registrytest.NewBlob("", bytes.Repeat([]byte(tag), 500000+s.rand.IntN(500000)))
	for _, b := range append([]registrytest.Blob{large}, img.Blobs[:last]...) {
		if !s.upload(b) {
			return
		}
		s.blobs = append(s.blobs, b)
	}
	m := img.Blobs[last]
	if status, _ := s.try("PUT", s.url+"/manifests/"+tag, m.Data, "Content-Type", m.MediaType); status == 201 {
		if s.tags == nil {
			s.tags = map[string]registrytest.Image{}
		}
		s.tags[tag] = img
		s.pushed.Add(1)
	}
}

// upload sends a blob in chunks, and goes on where the server says it is.
func (s *stubborn) upload(b registrytest.Blob) bool {
	status, header := s.try("POST", s.url+"/blobs/uploads/", nil)
	if status != 202 {
		return false
	}
	loc := s.url[:strings.Index(s.url, "/v2/")] + header.Get("Location")
	acknowledged := 0
	for acknowledged < len(b.Data) {
		end := min(acknowledged+1+len(b.Data)/3, len(b.Data))
		status, header := s.try("PATCH", loc, b.Data[acknowledged:end], "Content-Range", fmt.Sprintf("%d-%d", acknowledged, end-1))
		switch status {
		case 202:
			acknowledged = end
		case 409: // the request that was cut off is still being read
		case 416:
			s.resumed.Add(1)
			var at int
			fmt.Sscanf(header.Get("Range"), "0-%d", &at)
			if at > 0 {
				at++
			}
			if at < acknowledged {
				s.problems = append(s.problems, fmt.Sprintf("%d bytes were acknowledged, %d are there", acknowledged, at))
				return false
			}
			acknowledged = at
		default:
			if status != 0 {
				s.problems = append(s.problems, fmt.Sprintf("PATCH: %d", status))
			}
			return false
		}
	}
	status, _ = s.try("PUT", loc+"?digest="+string(b.Digest), nil)
	if status == 404 { // the answer was lost: it is there, or was not acknowledged
		status, _ = s.try("HEAD", s.url+"/blobs/"+string(b.Digest), nil)
		return status == 200
	}
	return status == 201
}

package e2e

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand"
	"net/http"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"nacre/internal/image"
	"nacre/internal/registry"
	"nacre/internal/registry/layout"
	"nacre/internal/registry/registrytest"
)

// pushers are clients of several kinds that push one image after another, until they are stopped. They do
// not mind what fails.
type pushers struct {
	addr string
	dir  string
	stop chan struct{}
	wg   sync.WaitGroup
}

func (p *pushers) loop(push func(n int)) {
	p.wg.Go(func() {
		for n := 0; ; n++ {
			select {
			case <-p.stop:
				return
			default:
				push(n)
			}
		}
	})
}

// layoutOf makes an OCI layout of an image that is like no other, but for one layer.
func layoutOf(t *testing.T, dir, name string) string {
	t.Helper()
	l, err := layout.Create(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	tars := [][]byte{registrytest.Tar("base", random(1, 1<<20))}
	for i := range 2 {
		tars = append(tars, registrytest.Tar(name, name+random(int64(i), 700_000)))
	}
	img := registrytest.NewImage(image.Platform{OS: "linux", Architecture: "amd64"}, tars, image.TypeLayerGzip, image.TypeLayerGzip, image.TypeLayerGzip)
	registrytest.Put(t, l, registry.Ref{Tag: "1"}, img)
	return "oci:" + filepath.Join(dir, name) + ":1"
}

// tool pushes by a command line with the source and the destination put in.
func (p *pushers) tool(t *testing.T, name string, argv func(from, to string) []string) {
	p.loop(func(n int) {
		name := fmt.Sprintf("%s-%d", name, n)
		cmd := argv(layoutOf(t, p.dir, name), p.addr+"/by/"+name+":1")
		c := exec.Command(cmd[0], cmd[1:]...)
		if err := c.Start(); err != nil {
			t.Error(err)
			return
		}
		done := make(chan struct{})
		go func() {
			select {
			case <-done:
			case <-p.stop:
				c.Process.Kill()
			}
		}()
		c.Wait()
		close(done)
	})
}

// chunks uploads blobs in pieces, goes on after each interruption where the server says it is, and leaves
// each third one unfinished.
func (p *pushers) chunks(t *testing.T, resumed *int) {
	p.loop(func(n int) {
		data := []byte(random(int64(n), 900_000+n))
		status, h := p.send("POST", "/v2/chunks/blobs/uploads/", nil)
		if status != http.StatusAccepted {
			return
		}
		loc := h.Get("Location")
		for at := 0; at < len(data); {
			if n%3 == 2 && at > len(data)/2 {
				return
			}
			end := min(at+200_000, len(data))
			status, _ = p.send("PATCH", loc, data[at:end], "Content-Range", fmt.Sprintf("%d-%d", at, end-1))
			switch status {
			case http.StatusAccepted:
				at = end
			case http.StatusBadGateway:
				*resumed++
				fallthrough
			case http.StatusRequestedRangeNotSatisfiable:
				if status, h = p.send("GET", loc, nil); status != http.StatusNoContent {
					at = 0 // it is asked again
					break
				}
				last := 0
				fmt.Sscanf(h.Get("Range"), "0-%d", &last)
				if at = last + 1; last == 0 {
					at = 0
				}
			case http.StatusConflict: // the request that was cut off is being read still
			default:
				t.Errorf("PATCH: %d", status)
				return
			}
			select {
			case <-p.stop:
				return
			default:
			}
		}
		status, _ = p.send("PUT", loc+fmt.Sprintf("?digest=sha256:%x", sha256.Sum256(data)), nil)
		if status != http.StatusCreated && status != http.StatusBadGateway && status != http.StatusNotFound {
			t.Errorf("PUT: %d", status)
		}
	})
}

func (p *pushers) send(method, path string, body []byte, header ...string) (int, http.Header) {
	req, err := http.NewRequest(method, "http://"+p.addr+path, bytes.NewReader(body))
	if err != nil {
		return 0, nil
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return http.StatusBadGateway, nil
	}
	defer resp.Body.Close()
	io.Copy(io.Discard, resp.Body)
	return resp.StatusCode, resp.Header
}

// TestServeKilled kills the server at 20 moments while nacre, skopeo and a client of chunks push. After each
// the folder is sound, all that was acknowledged is there, what can be seen is whole, and uploads go on.
func TestServeKilled(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	seed := time.Now().UnixNano()
	t.Logf("seed %d", seed)
	moment := rand.New(rand.NewSource(seed))
	dir := t.TempDir()
	folder := &store{root: filepath.Join(dir, "registry")}
	addr := fmt.Sprintf("127.0.0.1:%d", freePort(t))
	w := newWitness(t, addr)
	p := &pushers{addr: w.addr, dir: dir, stop: make(chan struct{})}
	resumed := 0
	w.gate.Lock()
	p.tool(t, "nacre", func(from, to string) []string {
		return []string{nacre, "--root", s.root, "copy", "-q", from, to}
	})
	p.tool(t, "skopeo", func(from, to string) []string {
		return []string{"skopeo", "copy", "-q", "--retry-times", "3", "--dest-tls-verify=false", from, "docker://" + to}
	})
	p.chunks(t, &resumed)
	for range rounds {
		srv := s.start(t, "serve", "--addr", addr, "--dir", folder.root)
		waitFor(t, &registryServer{srv, addr}, `"serving"`)
		w.wantAll(t, false)
		w.gate.Unlock()
		time.Sleep(50*time.Millisecond + time.Duration(moment.Int63n(int64(300*time.Millisecond))))
		srv.cmd.Process.Kill()
		<-srv.waited
		w.gate.Lock()
		folder.check(t)
	}
	close(p.stop)
	srv := s.start(t, "serve", "--addr", addr, "--dir", folder.root)
	waitFor(t, &registryServer{srv, addr}, `"serving"`)
	w.wantAll(t, true)
	w.gate.Unlock()
	p.wg.Wait()
	t.Logf("%d blobs and manifests acknowledged, %d uploads finished, %d unfinished, %d times resumed", len(w.there), w.done, len(w.uploads), resumed)
	if len(w.there) < 20 || w.done < 5 || len(w.uploads) < 2 || resumed < 1 {
		t.Error("too little was pushed to show anything")
	}
}

package e2e

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// witness stands before a registry and remembers what it acknowledged to its clients.
type witness struct {
	addr string
	to   string
	gate sync.RWMutex // held by every request; whoever takes it is alone

	mu      sync.Mutex
	there   map[string]string // path of a blob, or of a manifest by its tag → digest
	uploads map[string]int64  // path of an unfinished upload → bytes acknowledged
	done    int               // uploads that were finished or given up
	seen    map[string]bool   // digests of manifests that were found whole
}

func newWitness(t *testing.T, to string) *witness {
	t.Helper()
	w := &witness{to: to, there: map[string]string{}, uploads: map[string]int64{}, seen: map[string]bool{}}
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: to})
	proxy.Transport = &http.Transport{MaxIdleConnsPerHost: 10}
	proxy.ModifyResponse = w.note
	proxy.ErrorHandler = func(rw http.ResponseWriter, _ *http.Request, _ error) { rw.WriteHeader(http.StatusBadGateway) }
	s := &http.Server{Handler: http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		w.gate.RLock()
		defer w.gate.RUnlock()
		if r.Method == http.MethodPut || r.Method == http.MethodDelete {
			w.mu.Lock()
			if _, ok := w.uploads[r.URL.Path]; ok { // it may be done, and the answer get lost
				delete(w.uploads, r.URL.Path)
				w.done++
			}
			w.mu.Unlock()
		}
		proxy.ServeHTTP(rw, r)
	})}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w.addr = l.Addr().String()
	go s.Serve(l)
	t.Cleanup(func() { s.Close() })
	return w
}

// note looks at an answer before the client has it.
func (w *witness) note(resp *http.Response) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	r := resp.Request
	location, _ := url.Parse(resp.Header.Get("Location"))
	switch {
	case resp.StatusCode == http.StatusCreated && strings.Contains(r.URL.Path, "/manifests/"):
		w.there[r.URL.Path] = resp.Header.Get("Docker-Content-Digest")
	case resp.StatusCode == http.StatusCreated:
		w.there[location.Path] = filepath.Base(location.Path)
	case resp.StatusCode == http.StatusAccepted && r.Method == http.MethodPatch:
		var last int64
		if _, err := fmt.Sscanf(resp.Header.Get("Range"), "0-%d", &last); err != nil {
			return fmt.Errorf("range %q: %w", resp.Header.Get("Range"), err)
		}
		w.uploads[location.Path] = last
	}
	return nil
}

// fetch gets content whose digest is d, or is told by the answer where d is empty, and verifies it.
func (w *witness) fetch(path, d string) ([]byte, error) {
	resp, err := http.Get("http://" + w.to + path)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s", path, resp.Status)
	}
	if d == "" {
		d = resp.Header.Get("Docker-Content-Digest")
	}
	if got := fmt.Sprintf("sha256:%x", sha256.Sum256(body)); got != d {
		return nil, fmt.Errorf("%s: content of %s, want %s", path, got, d)
	}
	return body, nil
}

// image verifies a manifest and all that it refers to.
func (w *witness) image(repo, ref, d string) error {
	body, err := w.fetch("/v2/"+repo+"/manifests/"+ref, d)
	if err != nil {
		return err
	}
	type desc struct{ Digest string }
	var m struct {
		Config            desc
		Layers, Manifests []desc
	}
	if err := json.Unmarshal(body, &m); err != nil {
		return err
	}
	for _, child := range m.Manifests {
		if err := w.image(repo, child.Digest, child.Digest); err != nil {
			return err
		}
	}
	if m.Manifests == nil {
		m.Layers = append(m.Layers, m.Config)
	}
	for _, b := range m.Layers {
		if _, err := w.fetch("/v2/"+repo+"/blobs/"+b.Digest, b.Digest); err != nil {
			return fmt.Errorf("%s:%s: %w", repo, ref, err)
		}
	}
	return nil
}

// wantAll verifies what was acknowledged, and that whatever can be seen is whole. What was found whole before
// is looked at again only if again is set. Nobody may push meanwhile.
func (w *witness) wantAll(t *testing.T, again bool) {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	if again {
		clear(w.seen)
	}
	for p, d := range w.there {
		if w.seen[p] {
			continue
		}
		w.seen[p] = true
		repo, ref, manifest := strings.Cut(strings.TrimPrefix(p, "/v2/"), "/manifests/")
		var err error
		if manifest {
			err = w.image(repo, ref, d)
		} else {
			_, err = w.fetch(p, d)
		}
		if err != nil {
			t.Errorf("acknowledged: %v", err)
		}
	}
	for p, last := range maps.Clone(w.uploads) {
		resp, err := http.Get("http://" + w.to + p)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		var is int64
		if _, err := fmt.Sscanf(resp.Header.Get("Range"), "0-%d", &is); err != nil || resp.StatusCode != http.StatusNoContent || is < last {
			t.Errorf("upload %s: %s, range %q, want at least 0-%d", p, resp.Status, resp.Header.Get("Range"), last)
		}
	}
	w.wantVisible(t)
}

// wantVisible verifies all that is shown.
func (w *witness) wantVisible(t *testing.T) {
	t.Helper()
	var catalog struct{ Repositories []string }
	w.list(t, "/v2/_catalog", &catalog)
	for _, repo := range catalog.Repositories {
		var tags struct{ Tags []string }
		w.list(t, "/v2/"+repo+"/tags/list", &tags)
		for _, tag := range tags.Tags {
			p := "/v2/" + repo + "/manifests/" + tag
			if w.seen[p] {
				continue
			}
			w.seen[p] = true
			if err := w.image(repo, tag, ""); err != nil {
				t.Errorf("visible: %v", err)
			}
		}
	}
}

func (w *witness) list(t *testing.T, path string, to any) {
	t.Helper()
	resp, err := http.Get("http://" + w.to + path)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(to); err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s, %v", path, resp.Status, err)
	}
}

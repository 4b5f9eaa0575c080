package remote_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"nacre/internal/image"
	"nacre/internal/registry"
	"nacre/internal/registry/registrytest"
	"nacre/internal/registry/remote"
)

// answer makes a registry that answers everything in one way.
func answer(t testing.TB, f func(w http.ResponseWriter, r *http.Request)) (addr string, asked *atomic.Int64) {
	asked = new(atomic.Int64)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		f(w, r)
	}))
	t.Cleanup(s.Close)
	return s.Listener.Addr().String(), asked
}

// TestBusy: a registry that has too much to do is granted time, not for ever.
func TestBusy(t *testing.T) {
	img := registrytest.Hello("busy")
	var busy atomic.Int64
	after := ""
	f := serve(t, func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if busy.Add(-1) >= 0 {
				w.Header().Set("Retry-After", after)
				w.WriteHeader(http.StatusTooManyRequests)
				return
			}
			h.ServeHTTP(w, r)
		})
	})
	ref := registry.Ref{Repo: f.addr + "/app", Tag: "1"}
	c := client(t, remote.Options{})
	slept := c.Slept()
	after = "7"
	for range 4 { // at the beginning of each of the first requests
		busy.Store(3)
		registrytest.Put(t, c, ref, img)
	}
	if s := slept(); len(s) != 12 || slices.Min(s) != 7*time.Second {
		t.Errorf("paused for %v", s)
	}
	registrytest.Check(t, c, ref.Repo, img)

	busy.Store(1 << 40)
	if _, err := c.Resolve(t.Context(), ref); !errors.Is(err, remote.ErrBusy) || 1<<40-busy.Load() != remote.Attempts {
		t.Errorf("busy for ever: %v", err)
	}
	after = "86400"
	if _, err := c.Resolve(t.Context(), ref); !errors.Is(err, remote.ErrBusy) || !strings.Contains(err.Error(), "come back in 24h") {
		t.Errorf("busy for a day: %v", err)
	}
	after = time.Now().Add(100 * time.Hour).UTC().Format(http.TimeFormat)
	if err := registrytest.Push(t.Context(), c, ref.Repo, noise(10)); !errors.Is(err, remote.ErrBusy) || !strings.Contains(err.Error(), "come back in ") {
		t.Errorf("busy for 100 hours: %v", err)
	}
}

// TestBusyUpload: in the middle of a large upload.
func TestBusyUpload(t *testing.T) {
	var n atomic.Int64
	f := serve(t, func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if (r.Method == http.MethodPatch || r.Method == http.MethodPut) && n.Add(1)%3 != 0 {
				w.WriteHeader([]int{http.StatusTooManyRequests, http.StatusServiceUnavailable}[n.Load()%2])
				return
			}
			h.ServeHTTP(w, r)
		})
	})
	for _, chunk := range []int64{0, 3 << 20} {
		b := noise(10<<20 + int(chunk))
		c := client(t, remote.Options{Hosts: remote.Hosts{f.addr: {Chunk: chunk}}})
		c.Slept()
		if err := registrytest.Push(t.Context(), c, f.addr+"/app", b); err != nil || !f.has(t, "app", b) {
			t.Errorf("chunks of %d: %v", chunk, err)
		}
	}
}

// TestStatus: what status and code become which error, after how many requests.
func TestStatus(t *testing.T) {
	for name, c := range map[string]struct {
		status int
		body   string
		want   error
		asked  int64
	}{
		"404":                   {404, "", registry.ErrAbsent, 1},
		"404 with a code":       {404, `{"errors":[{"code":"NAME_UNKNOWN"}]}`, registry.ErrAbsent, 1},
		"400 of a digest":       {400, `{"errors":[{"code":"DIGEST_INVALID"}]}`, registry.ErrDigest, 1},
		"400 of a size":         {400, `{"errors":[{"code":"SIZE_INVALID"}]}`, registry.ErrSize, 1},
		"400 of a manifest":     {400, `{"errors":[{"code":"MANIFEST_INVALID"}]}`, registry.ErrInvalid, 1},
		"400 not supported":     {400, `{"errors":[{"code":"UNSUPPORTED"}]}`, registry.ErrUnsupported, 1},
		"405":                   {405, "", registry.ErrUnsupported, 1},
		"501":                   {501, "", registry.ErrUnsupported, 1},
		"403":                   {403, `{"errors":[{"code":"MANIFEST_UNKNOWN"}]}`, remote.ErrDenied, 1},
		"507":                   {507, `{"errors":[{"code":"UNKNOWN"}]}`, remote.ErrUnavailable, 1},
		"500":                   {500, "<html>", remote.ErrUnavailable, remote.Attempts},
		"503":                   {503, `{"errors":[{"code":"NAME_UNKNOWN"}]}`, remote.ErrUnavailable, remote.Attempts},
		"HTML":                  {403, "<html>" + strings.Repeat("x", 1<<20), remote.ErrDenied, 1},
		"JSON of another kind":  {403, `[1,2,3]`, remote.ErrDenied, 1},
		"a very long message":   {403, `{"errors":[{"code":"DENIED","message":"` + strings.Repeat("y", 50_000) + `"}]}`, remote.ErrDenied, 1},
		"a message of controls": {403, "{\"errors\":[{\"code\":\"DENIED\",\"message\":\"a\\u001b[31m\\nb\"}]}", remote.ErrDenied, 1},
		"an endless body":       {404, strings.Repeat("z", 5<<20), registry.ErrAbsent, 1},
	} {
		t.Run(name, func(t *testing.T) {
			addr, asked := answer(t, func(w http.ResponseWriter, r *http.Request) {
				w.WriteHeader(c.status)
				io.WriteString(w, c.body)
			})
			cl := client(t, remote.Options{})
			cl.Slept()
			_, err := registrytest.Get(t.Context(), cl, addr+"/app", noise(10).Descriptor)
			if !errors.Is(err, c.want) || asked.Load() != c.asked {
				t.Errorf("asked %d times: %v", asked.Load(), err)
			}
			if text := err.Error(); len(text) > 800 || strings.ContainsAny(text, "\x1b\n") || !strings.Contains(text, addr) || strings.Contains(text, "<html>") {
				t.Errorf("%d bytes of error: %q", len(text), text)
			}
		})
	}
}

// TestResolvePoor: registries whose answer to HEAD says too little, or who have no HEAD.
func TestResolvePoor(t *testing.T) {
	img := registrytest.Hello("poor")
	m := img.Blobs[len(img.Blobs)-1]
	for name, poor := range map[string]func(w http.ResponseWriter, r *http.Request){
		"no HEAD": func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodHead {
				w.WriteHeader(http.StatusMethodNotAllowed)
				return
			}
			w.Header().Set("Content-Type", m.MediaType)
			w.Write(m.Data)
		},
		"no digest": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", m.MediaType)
			w.Write(m.Data)
		},
		"a static file server": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "text/plain; charset=utf-8")
			w.Write(m.Data)
		},
		"a bad digest": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", m.MediaType)
			w.Header().Set("Docker-Content-Digest", "sha256:../../etc")
			w.Write(m.Data)
		},
	} {
		addr, _ := answer(t, poor)
		c := client(t, remote.Options{})
		for _, ref := range []registry.Ref{{Repo: addr + "/app", Tag: "1"}, {Repo: addr + "/app", Digest: m.Digest}} {
			d, err := c.Resolve(t.Context(), ref)
			if err != nil || d.Digest != m.Digest || d.Size != m.Size || d.MediaType != m.MediaType {
				t.Errorf("%s: %s: %+v, %v", name, ref, d, err)
			}
		}
	}
	addr, _ := answer(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", m.MediaType)
		if r.Method == http.MethodHead {
			w.WriteHeader(http.StatusMethodNotAllowed)
			return
		}
		w.Write(append(m.Data, '\n'))
	})
	_, err := client(t, remote.Options{}).Resolve(t.Context(), registry.Ref{Repo: addr + "/app", Digest: m.Digest})
	if !errors.Is(err, registry.ErrDigest) {
		t.Errorf("another manifest than was asked for: %v", err)
	}
}

// TestManifestTooLarge: its size is bounded, whether it is told or not.
func TestManifestTooLarge(t *testing.T) {
	d := registry.Descriptor{MediaType: image.TypeManifest, Digest: digest.FromString("x")}
	for name, told := range map[string]bool{"told": true, "not told": false} {
		addr, _ := answer(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", image.TypeManifest)
			if told {
				w.Header().Set("Content-Length", fmt.Sprint(image.MaxSize+1))
				w.Header().Set("Docker-Content-Digest", d.Digest.String())
			}
			if r.Method == http.MethodHead {
				return
			}
			for range image.MaxSize/4096 + 10 {
				if _, err := w.Write(make([]byte, 4096)); err != nil {
					return
				}
			}
		})
		c := client(t, remote.Options{})
		if _, err := c.Resolve(t.Context(), registry.Ref{Repo: addr + "/app", Tag: "1"}); !errors.Is(err, registry.ErrInvalid) {
			t.Errorf("%s: resolve: %v", name, err)
		}
		if err := c.Tag(t.Context(), registry.Ref{Repo: addr + "/app", Tag: "1"}, d); !errors.Is(err, registry.ErrInvalid) {
			t.Errorf("%s: tag: %v", name, err)
		}
	}
	c := client(t, remote.Options{})
	u, err := c.Create(t.Context(), "localhost:1/app", d)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := u.Write(make([]byte, image.MaxSize+1)); !errors.Is(err, registry.ErrInvalid) {
		t.Errorf("upload of one: %v", err)
	}
}

// TestRedirects: they are followed, to where that is safe, and not for ever.
func TestRedirects(t *testing.T) {
	b := noise(1000)
	f := serve(t, nil)
	f.hold(t, "app", b)
	n := 0
	addr, asked := answer(t, func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.Contains(r.URL.Path, "/loop/"):
			n++
			http.Redirect(w, r, fmt.Sprintf("%s?%d", r.URL.Path, n), http.StatusFound)
		case strings.Contains(r.URL.Path, "/file/"):
			http.Redirect(w, r, "file:///etc/passwd", http.StatusFound)
		default:
			http.Redirect(w, r, f.URL+r.URL.Path, http.StatusTemporaryRedirect)
		}
	})
	c := client(t, remote.Options{})
	registrytest.Check(t, c, addr+"/app", registrytest.Image{Blobs: []registrytest.Blob{b}})
	asked.Store(0)
	if _, err := registrytest.Get(t.Context(), c, addr+"/app/loop/x", b.Descriptor); err == nil || !strings.Contains(err.Error(), "more than 10 in a row") || asked.Load() != 10 {
		t.Errorf("a loop, after %d requests: %v", asked.Load(), err)
	}
	if _, err := registrytest.Get(t.Context(), c, addr+"/app/file/x", b.Descriptor); err == nil || !strings.Contains(err.Error(), "not http") {
		t.Errorf("to a file: %v", err)
	}
	world := client(t, remote.Options{Hosts: remote.Hosts{"registry.example.com": {HTTP: true}}})
	world.Via("registry.example.com", addr)
	if _, err := registrytest.Get(t.Context(), world, "registry.example.com/app", b.Descriptor); err == nil || !strings.Contains(err.Error(), "to this machine") {
		t.Errorf("from elsewhere to this machine: %v", err)
	}
	if err := registrytest.Push(t.Context(), c, addr+"/app", noise(5)); err != nil {
		t.Errorf("pushed where everything is elsewhere: %v", err)
	}
}

// TestLists: in pages, out of order, without end, of nothing.
func TestLists(t *testing.T) {
	addr, _ := answer(t, func(w http.ResponseWriter, r *http.Request) {
		last := r.URL.Query().Get("last")
		switch {
		case strings.HasPrefix(r.URL.Path, "/v2/endless/"):
			w.Header().Set("Link", fmt.Sprintf(`<%s>; rel="next"`, r.URL.RequestURI()))
			io.WriteString(w, `{"tags":["a"]}`)
		case strings.HasPrefix(r.URL.Path, "/v2/away/"):
			w.Header().Set("Link", `<http://127.0.0.1:1/v2/x/tags/list>; rel=next`)
			io.WriteString(w, `{"tags":["a"]}`)
		case strings.HasPrefix(r.URL.Path, "/v2/html/"):
			io.WriteString(w, `<html>`)
		case strings.HasPrefix(r.URL.Path, "/v2/null/"):
			io.WriteString(w, `{"name":"null","tags":null}`)
		case strings.HasPrefix(r.URL.Path, "/v2/none/"):
			w.WriteHeader(http.StatusNotFound)
		case r.URL.Path == "/v2/_catalog":
			io.WriteString(w, `{"repositories":["b","a/x","a"]}`)
		case last == "" || last == "a" && r.URL.Query().Get("n") != "2":
			w.Header().Add("Link", `<https://example.com/docs>; rel="help"`)
			w.Header().Add("Link", `</v2/app/tags/list?last=b&n=2>; rel="next"`)
			io.WriteString(w, `{"tags":["b","a"]}`)
		default:
			io.WriteString(w, `{"tags":["B","c","b"]}`)
		}
	})
	c := client(t, remote.Options{})
	collect := func(repo, after string) (string, error) {
		var all []string
		for tag, err := range c.Tags(t.Context(), addr+"/"+repo, after) {
			if err != nil {
				return "", err
			}
			all = append(all, tag)
		}
		return strings.Join(all, " "), nil
	}
	for _, l := range []struct{ repo, after, want string }{{"app", "", "B a b c"}, {"app", "a", "b c"}, {"null", "", ""}} {
		if got, err := collect(l.repo, l.after); err != nil || got != l.want {
			t.Errorf("tags of %s after %q: %q, %v; want %q", l.repo, l.after, got, err, l.want)
		}
	}
	for repo, want := range map[string]error{"endless": registry.ErrInvalid, "away": registry.ErrInvalid, "html": registry.ErrInvalid, "none": registry.ErrAbsent, "../x": registry.ErrInvalid} {
		if got, err := collect(repo, ""); !errors.Is(err, want) {
			t.Errorf("tags of %s: %q, %v", repo, got, err)
		}
	}
	var repos []string
	for r, err := range c.Host(addr).Repos(t.Context(), "a") {
		if err != nil {
			t.Fatal(err)
		}
		repos = append(repos, r)
	}
	if !slices.Equal(repos, []string{"a/x", "b"}) {
		t.Errorf("repositories: %q", repos)
	}
	for range c.Refs(t.Context()) {
		break
	}
	for _, err := range c.Refs(t.Context()) {
		if !errors.Is(err, registry.ErrUnsupported) {
			t.Errorf("list of the world: %v", err)
		}
	}
}

package remote_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"nacre/internal/registry"
	"nacre/internal/registry/registrytest"
	"nacre/internal/registry/remote"
)

// who has one credential for every registry, and remembers for which it was asked.
type who struct {
	remote.Credential
	mu    sync.Mutex
	asked []string
}

func (w *who) Get(_ context.Context, domain string) (remote.Credential, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asked = append(w.asked, domain)
	return w.Credential, nil
}

func ann() *who {
	return &who{Credential: remote.Credential{Username: "ann", Password: "s3cret-Passw0rd"}}
}

// guard is a registry with a token server. A token is good for some requests in the
// registry, whatever it was said to be.
type guard struct {
	h       http.Handler
	good    int // requests
	life    int // seconds, as it says
	mu      sync.Mutex
	left    map[string]int
	scopes  map[string]string
	fetched int
	basic   []string // what came with an Authorization: Basic
	realm   string   // of another server, else its own
	refresh []string // forms of refresh requests
	busy    int      // requests that the token server fails
}

func (g *guard) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	g.mu.Lock()
	user, password, basic := r.BasicAuth()
	if basic {
		g.basic = append(g.basic, r.URL.Path)
	}
	if r.URL.Path == "/token" {
		defer g.mu.Unlock()
		if g.busy--; g.busy >= 0 {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		if r.Method == http.MethodPost {
			r.ParseForm()
			g.refresh = append(g.refresh, r.PostForm.Encode())
			if r.PostForm.Get("refresh_token") != "identity-t0ken" {
				http.Error(w, `{"error":"invalid_grant"}`, http.StatusBadRequest)
				return
			}
		} else if !basic || user != "ann" || password != "s3cret-Passw0rd" {
			w.WriteHeader(http.StatusUnauthorized)
			fmt.Fprintf(w, "no %s", r.Header.Get("Authorization"))
			return
		}
		g.fetched++
		token := fmt.Sprintf("token-%d-secret", g.fetched)
		r.ParseForm()
		g.left[token], g.scopes[token] = g.good, strings.Join(r.Form["scope"], " ")
		json.NewEncoder(w).Encode(map[string]any{"access_token": token, "expires_in": g.life})
		return
	}
	token := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
	g.left[token]--
	ok := g.left[token] >= 0
	g.mu.Unlock()
	if !ok {
		realm := g.realm
		if realm == "" {
			realm = "/token" // relative
		}
		w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="%s",service="the guard",scope="repository:app:pull"`, realm))
		w.WriteHeader(http.StatusUnauthorized)
		fmt.Fprintf(w, `{"errors":[{"code":"UNAUTHORIZED","message":"not with %s"}]}`, r.Header.Get("Authorization"))
		return
	}
	g.h.ServeHTTP(w, r)
}

func guarded(t *testing.T, good, life int) (fixture, *guard) {
	g := &guard{good: good, life: life, left: map[string]int{}, scopes: map[string]string{}}
	f := serve(t, func(h http.Handler) http.Handler {
		g.h = h
		return g
	})
	return f, g
}

// TestTokens: tokens that end in the middle of things are replaced, and nobody notices.
func TestTokens(t *testing.T) {
	for name, c := range map[string]struct{ good, life int }{"for one request": {1, 300}, "for a second": {3, 1}, "for long": {1000, 300}} {
		t.Run(name, func(t *testing.T) {
			f, g := guarded(t, c.good, c.life)
			cl := client(t, remote.Options{Credentials: ann(), Hosts: remote.Hosts{f.addr: {Chunk: 2 << 20}}})
			img := registrytest.Hello("tokens")
			img.Blobs = append([]registrytest.Blob{noise(11 << 20)}, img.Blobs...)
			ref := registry.Ref{Repo: f.addr + "/app", Tag: "1"}
			registrytest.Put(t, cl, ref, img)
			registrytest.Check(t, cl, ref.Repo, img)
			if g.fetched < 2 || c.good == 1000 && g.fetched > 4 {
				t.Errorf("fetched %d tokens", g.fetched)
			}
			for _, path := range g.basic {
				if path != "/token" {
					t.Errorf("the password was sent to %s", path)
				}
			}
			push := false
			for _, s := range g.scopes {
				push = push || s == "repository:app:pull,push repository:app:pull"
			}
			if !push {
				t.Errorf("scopes: %q", g.scopes)
			}
		})
	}
}

// TestTokenServerFails: for a moment, and for ever.
func TestTokenServerFails(t *testing.T) {
	f, g := guarded(t, 1000, 300)
	g.busy = 3
	c := client(t, remote.Options{Credentials: ann()})
	slept := c.Slept()
	registrytest.Put(t, c, registry.Ref{Repo: f.addr + "/app", Tag: "1"}, registrytest.Hello("fails"))
	if n := len(slept()); n != 3 {
		t.Errorf("paused %d times", n)
	}
	g.mu.Lock()
	g.busy = 1000
	g.mu.Unlock()
	c = client(t, remote.Options{Credentials: ann()})
	c.Slept()
	if _, err := c.Resolve(t.Context(), registry.Ref{Repo: f.addr + "/app", Tag: "1"}); !errors.Is(err, remote.ErrUnavailable) {
		t.Errorf("a token server that fails: %v", err)
	}
}

// TestIdentityToken: it takes the place of a password, at the token server alone.
func TestIdentityToken(t *testing.T) {
	f, g := guarded(t, 1000, 300)
	cl := client(t, remote.Options{Credentials: &who{Credential: remote.Credential{IdentityToken: "identity-t0ken"}}})
	registrytest.Put(t, cl, registry.Ref{Repo: f.addr + "/app", Tag: "1"}, registrytest.Hello("identity"))
	form, _ := url.ParseQuery(g.refresh[0])
	if form.Get("grant_type") != "refresh_token" || form.Get("service") != "the guard" || !strings.HasPrefix(form.Get("scope"), "repository:app:pull") {
		t.Errorf("asked with %v", form)
	}
	stale := client(t, remote.Options{Credentials: &who{Credential: remote.Credential{IdentityToken: "identity-0ld-t0ken"}}})
	_, err := stale.Resolve(t.Context(), registry.Ref{Repo: f.addr + "/app", Tag: "1"})
	if !errors.Is(err, remote.ErrUnauthorized) || remote.DomainOf(err) != f.addr || strings.Contains(err.Error(), "t0ken") {
		t.Errorf("with an identity token that is no good: %v", err)
	}
}

// TestRegistryToken: one that the configuration has is sent as it is.
func TestRegistryToken(t *testing.T) {
	f, g := guarded(t, 0, 300)
	g.left["given-t0ken"] = 1000
	cl := client(t, remote.Options{Credentials: &who{Credential: remote.Credential{RegistryToken: "given-t0ken"}}})
	registrytest.Put(t, cl, registry.Ref{Repo: f.addr + "/app", Tag: "1"}, registrytest.Hello("given"))
	if g.fetched > 0 {
		t.Errorf("fetched %d tokens", g.fetched)
	}
}

// TestUnauthorized: who is not let in hears of it, soon, and reads no secret.
func TestUnauthorized(t *testing.T) {
	loop, asked := new(guard), new(atomic.Int64)
	*loop = guard{good: 0, life: 300, left: map[string]int{}, scopes: map[string]string{}}
	f := serve(t, func(h http.Handler) http.Handler {
		loop.h = h
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			asked.Add(1)
			loop.ServeHTTP(w, r)
		})
	})
	ref := registry.Ref{Repo: f.addr + "/app", Tag: "1"}
	for name, c := range map[string]*who{
		"every token is refused": ann(),
		"wrong password":         {Credential: remote.Credential{Username: "ann", Password: "wr0ng-Passw0rd"}},
		"nobody":                 {},
	} {
		asked.Store(0)
		_, err := client(t, remote.Options{Credentials: c}).Resolve(t.Context(), ref)
		if !errors.Is(err, remote.ErrUnauthorized) || remote.DomainOf(err) != f.addr {
			t.Errorf("%s: %v", name, err)
		} else if strings.Contains(err.Error(), "assw0rd") || strings.Contains(err.Error(), "-secret") {
			t.Errorf("%s: the error tells a secret: %v", name, err)
		}
		if n := asked.Load(); n > 8 {
			t.Errorf("%s: asked %d times", name, n)
		}
	}
}

// TestSecretsAreNotTold: what a server repeats of what it was sent does not get into errors and warnings.
func TestSecretsAreNotTold(t *testing.T) {
	f := serve(t, func(http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			user, password, ok := r.BasicAuth()
			if !ok {
				w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
				w.WriteHeader(http.StatusUnauthorized)
				return
			}
			w.Header().Set("Warning", fmt.Sprintf(`299 - "hello %s %s"`, user, password))
			if r.Method == http.MethodPost {
				w.Header().Set("Location", "/v2/app/blobs/uploads/1?_state=signature-of-the-upload")
				w.WriteHeader(http.StatusAccepted)
				return
			}
			w.WriteHeader(http.StatusForbidden)
			fmt.Fprintf(w, `{"errors":[{"code":"DENIED","message":"%s with %s and %s, no"}]}`, user, password, r.Header.Get("Authorization"))
		})
	})
	var said []string
	c := client(t, remote.Options{Credentials: ann(), Warn: func(s string) { said = append(said, s) }})
	for _, err := range []error{
		registrytest.Push(t.Context(), c, f.addr+"/app", noise(1000)),
		c.Delete(t.Context(), f.addr+"/app", noise(1000).Digest),
		c.Host(f.addr).Ping(t.Context()),
	} {
		if !errors.Is(err, remote.ErrDenied) || !strings.Contains(err.Error(), f.addr) {
			t.Errorf("error: %v", err)
		}
		said = append(said, err.Error())
	}
	if !strings.Contains(strings.Join(said, "\n"), "hello ann ***") {
		t.Errorf("what was said: %q", said)
	}
	said = append(said, fmt.Sprintf("%v %+v %#v %s", ann().Credential, ann().Credential, ann().Credential, ann().Credential))
	for _, s := range said {
		for _, secret := range []string{"s3cret", "YW5uOnMzY3JldC", "signature"} {
			if strings.Contains(s, secret) {
				t.Errorf("a secret is told: %s", s)
			}
		}
	}
}

// TestCredentialsStayHome: they go to no other host, by whatever way it is reached.
func TestCredentialsStayHome(t *testing.T) {
	var mu sync.Mutex
	var away []string
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		away = append(away, r.Method+" "+r.URL.Path+" "+r.Header.Get("Authorization")+r.Header.Get("X-Team"))
		if r.URL.Path == "/blob" {
			w.Write(noise(1000).Data)
			return
		}
		w.Header().Set("WWW-Authenticate", `Basic realm="give me"`)
		w.WriteHeader(http.StatusUnauthorized)
	}))
	t.Cleanup(other.Close)
	f := serve(t, func(http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if _, _, ok := r.BasicAuth(); !ok {
				w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
				w.WriteHeader(http.StatusUnauthorized)
				return
			}
			if r.Method == http.MethodPost {
				w.Header().Set("Location", other.URL+"/upload")
				w.WriteHeader(http.StatusAccepted)
				return
			}
			to := "/other"
			if strings.Contains(r.URL.Path, noise(1000).Digest.String()) {
				to = "/blob"
			}
			http.Redirect(w, r, other.URL+to, http.StatusTemporaryRedirect)
		})
	})
	c := client(t, remote.Options{Credentials: ann(), Hosts: remote.Hosts{f.addr: {Headers: map[string]string{"X-Team": "blue"}}}})
	repo := f.addr + "/app"
	if _, err := registrytest.Get(t.Context(), c, repo, noise(1000).Descriptor); err != nil {
		t.Errorf("a blob kept elsewhere: %v", err)
	}
	if _, err := registrytest.Get(t.Context(), c, repo, noise(2000).Descriptor); !errors.Is(err, remote.ErrUnauthorized) {
		t.Errorf("a blob kept by one who asks for a password: %v", err)
	}
	if err := registrytest.Push(t.Context(), c, repo, noise(3000)); err == nil {
		t.Error("uploaded to one who asks for a password")
	}
	mu.Lock()
	defer mu.Unlock()
	if len(away) < 3 {
		t.Errorf("the other was asked only for %q", away)
	}
	for _, a := range away {
		if strings.Contains(a, "Basic") || strings.Contains(a, "Bearer") || strings.Contains(a, "blue") {
			t.Errorf("sent to the other: %s", a)
		}
	}
}

// TestRealms: a registry may not have the password sent in the clear to elsewhere, nor have us ask
// what only this machine can.
func TestRealms(t *testing.T) {
	var away atomic.Int64
	tokens := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		away.Add(1)
		w.Write([]byte(`{"token":"t"}`))
	}))
	t.Cleanup(tokens.Close)
	port := tokens.URL[strings.LastIndex(tokens.URL, ":"):]
	f, g := guarded(t, 1000, 300)
	for realm, want := range map[string]string{
		"http://tokens.example.com" + port + "/token": "plain HTTP is not allowed",
		"ftp://tokens.example.com/":                   "no URL",
		"http://user@127.0.0.1" + port:                "no URL",
		"://":                                         "no URL",
	} {
		g.realm = realm
		c := client(t, remote.Options{Credentials: ann()})
		_, err := c.Resolve(t.Context(), registry.Ref{Repo: f.addr + "/app", Tag: "1"})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("realm %s: %v, want %s", realm, err, want)
		}
	}
	// One of the world that sends us to this machine.
	g.realm = tokens.URL + "/token"
	c := client(t, remote.Options{Credentials: ann(), Hosts: remote.Hosts{"registry.example.com": {HTTP: true}}})
	c.Via("registry.example.com", f.addr)
	_, err := c.Resolve(t.Context(), registry.Ref{Repo: "registry.example.com/app", Tag: "1"})
	if err == nil || !strings.Contains(err.Error(), "is this machine") {
		t.Errorf("a realm on this machine: %v", err)
	}
	if away.Load() > 0 {
		t.Errorf("the token server was asked %d times", away.Load())
	}
}

// TestMalformedChallenges: nonsense is an error 401, and no more.
func TestMalformedChallenges(t *testing.T) {
	for _, header := range []string{"", "Bearer", `Bearer realm="`, `Bearer realm=`, "Negotiate", "Basic", strings.Repeat("Bearer realm=x, ", 500), "\x01=", `Bearer realm="http://["`} {
		f := serve(t, func(http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header()["Www-Authenticate"] = []string{header}
				w.WriteHeader(http.StatusUnauthorized)
			})
		})
		c := client(t, remote.Options{Credentials: ann()})
		c.Slept()
		_, err := c.Resolve(t.Context(), registry.Ref{Repo: f.addr + "/app", Tag: "1"})
		if err == nil || len(err.Error()) > 2000 {
			t.Errorf("%q: %v", header, err)
		}
	}
}

package auth

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"

	"nacre/internal/serve/config"
)

// clock is a time that tests set.
type clock struct{ ns atomic.Int64 }

func newClock() *clock {
	c := &clock{}
	c.ns.Store(time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC).UnixNano())
	return c
}
func (c *clock) now() time.Time      { return time.Unix(0, c.ns.Load()).UTC() }
func (c *clock) add(d time.Duration) { c.ns.Add(int64(d)) }

// world is a Gate behind a real listener: /token, and everything else in place of a registry.
type world struct {
	*Gate
	url   string
	clock *clock
	log   *bytes.Buffer
	file  string
	dir   string
}

func hash(t testing.TB, password string) string {
	t.Helper()
	h, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	return string(h)
}

const fixedToken = "nacre_FIXEDTOKENFIXEDTOKENFIX"

// open makes a world with the users alice, bob and carol, whose passwords are their names
// and "-secret", and the fixed token of ci.
func open(t testing.TB, yaml string) *world {
	t.Helper()
	w := &world{clock: newClock(), log: &bytes.Buffer{}, dir: t.TempDir()}
	w.file = filepath.Join(w.dir, "htpasswd")
	var lines strings.Builder
	for _, name := range []string{"alice", "bob", "carol"} {
		fmt.Fprintf(&lines, "%s:%s\n", name, hash(t, name+"-secret"))
	}
	w.write(t, lines.String())
	sum := sha(fixedToken)
	c, err := config.Parse("f", []byte(fmt.Sprintf("auth:\n  htpasswd: %s\n  tokens: [{name: ci, sha256: %s, groups: [robots]}]\n%s", w.file, sum, yaml)))
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	w.Gate, err = New(c.Auth, Options{
		Key: filepath.Join(w.dir, "token.key"), Now: w.clock.now,
		Log:  slog.New(slog.NewJSONHandler(lockedWriter{&mu, w.log}, nil)),
		Addr: func(r *http.Request) string { return r.Header.Get("X-Test-Address") },
	})
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/token", w.Token)
	mux.HandleFunc("/ping", func(rw http.ResponseWriter, r *http.Request) {
		w.answer(rw, r, func(c Caller) error { return w.CheckPing(r, c) })
	})
	mux.HandleFunc("/catalog", func(rw http.ResponseWriter, r *http.Request) {
		w.answer(rw, r, func(c Caller) error { return w.CheckCatalog(r, c) })
	})
	mux.HandleFunc("/{verb}/{repo...}", func(rw http.ResponseWriter, r *http.Request) {
		v, err := ParseVerb(r.PathValue("verb"))
		if err != nil {
			t.Error(err)
		}
		w.answer(rw, r, func(c Caller) error { return w.Check(r, c, v, r.PathValue("repo")) })
	})
	srv := httptest.NewServer(mux)
	t.Cleanup(srv.Close)
	w.url = srv.URL
	return w
}

type lockedWriter struct {
	mu *sync.Mutex
	w  io.Writer
}

func (l lockedWriter) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(p)
}

func (w *world) write(t testing.TB, text string) {
	t.Helper()
	if err := os.WriteFile(w.file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	w.clock.add(2 * time.Second)
}

// answer is what the server does with a Gate.
func (w *world) answer(rw http.ResponseWriter, r *http.Request, check func(Caller) error) {
	c, err := w.Identify(r)
	if err == nil {
		err = check(c)
	}
	var ref *Refusal
	switch {
	case errors.As(err, &ref):
		ref.Write(rw)
	case err != nil:
		http.Error(rw, err.Error(), 500)
	default:
		fmt.Fprintf(rw, "%s", c.Name)
	}
}

// as are the headers of a caller: "", "alice", "alice:other", "bearer TOKEN".
func header(as string) http.Header {
	h := http.Header{}
	name, password, given := strings.Cut(as, ":")
	if token, ok := strings.CutPrefix(as, "bearer "); ok {
		h.Set("Authorization", "Bearer "+token)
		return h
	}
	if as != "" {
		r := &http.Request{Header: h}
		if !given {
			password = name + "-secret"
		}
		r.SetBasicAuth(name, password)
	}
	return h
}

func (w *world) get(t testing.TB, path, as string) *http.Response {
	t.Helper()
	req, _ := http.NewRequest("GET", w.url+path, nil)
	req.Header = header(as)
	return do(t, req)
}

func do(t testing.TB, req *http.Request) *http.Response {
	t.Helper()
	if req.Header.Get("X-Test-Address") == "" {
		req.Header.Set("X-Test-Address", "10.0.0.1")
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	if err != nil {
		t.Fatal(err)
	}
	resp.Body = io.NopCloser(bytes.NewReader(body))
	if resp.StatusCode >= 400 && !strings.Contains(string(body), `"errors":[{`) {
		t.Errorf("%s %s: %d without an error body: %s", req.Method, req.URL, resp.StatusCode, body)
	}
	return resp
}

// token fetches a token.
func (w *world) token(t testing.TB, as string, scopes ...string) string {
	t.Helper()
	resp := w.get(t, "/token?"+url.Values{"service": {"nacre"}, "scope": scopes}.Encode(), as)
	var a answer
	if err := json.NewDecoder(resp.Body).Decode(&a); err != nil || resp.StatusCode != 200 {
		t.Fatalf("token of %s: %d, %v", as, resp.StatusCode, err)
	}
	return a.Token
}

const someRules = `
  groups: {team: [alice, bob]}
  rules:
    - {repositories: "public/**", anonymous: true, allow: read}
    - {repositories: "team/**", groups: team, allow: write}
    - {repositories: "team/**", users: bob, allow: delete}
    - {repositories: "ci/*", groups: robots, allow: all}
    - {repositories: "hidden/**", users: "*", allow: pull}
`

func TestRules(t *testing.T) {
	w := open(t, someRules)
	for _, c := range []struct {
		as, path string
		want     int
	}{
		{"", "/pull/public/a", 200},
		{"", "/list/public/a/b", 200},
		{"", "/push/public/a", 401},
		{"", "/pull/team/a", 401},
		{"", "/pull/no/such", 401},
		{"alice", "/pull/public/a", 200},
		{"alice", "/push/team/a", 200},
		{"alice", "/delete/team/a", 403},
		{"alice", "/pull/hidden/x", 200},
		{"alice", "/list/hidden/x", 403},
		{"alice", "/pull/no/such", 403},
		{"bob", "/delete/team/a", 200},
		{"carol", "/pull/team/a", 403},
		{"carol", "/pull/hidden/x", 200},
		{"ci:" + fixedToken, "/delete/ci/a", 200},
		{"bearer " + fixedToken, "/delete/ci/a", 200},
		{"bearer " + fixedToken, "/delete/ci/a/b", 403},
		{"other:" + fixedToken, "/pull/ci/a", 401},
		{"bearer nonsense", "/pull/public/a", 401},
		{"alice:wrong", "/pull/public/a", 401},
		{"nobody:x", "/pull/public/a", 401},
	} {
		if got := w.get(t, c.path, c.as).StatusCode; got != c.want {
			t.Errorf("%q %s: %d, want %d", c.as, c.path, got, c.want)
		}
	}
}

func TestWithoutRules(t *testing.T) {
	w := open(t, "")
	for as, want := range map[string]int{"": 401, "alice": 200, "bearer " + fixedToken: 200} {
		if got := w.get(t, "/delete/x", as).StatusCode; got != want {
			t.Errorf("%q: %d, want %d", as, got, want)
		}
	}
	resp := w.get(t, "/pull/x", "")
	if got := resp.Header.Get("WWW-Authenticate"); got != `Basic realm="nacre"` {
		t.Errorf("challenge %q", got)
	}
}

// TestRefusalsTellNothing: who may not look gets the same answer whether there is something or not.
func TestRefusalsTellNothing(t *testing.T) {
	w := open(t, someRules)
	for _, as := range []string{"", "carol"} {
		var answers []string
		for _, repo := range []string{"team/aa", "team/zz"} {
			resp := w.get(t, "/pull/"+repo, as)
			body, _ := io.ReadAll(resp.Body)
			answers = append(answers, fmt.Sprint(resp.StatusCode, string(body)))
		}
		if answers[0] != answers[1] {
			t.Errorf("%q:\n%s\n%s", as, answers[0], answers[1])
		}
	}
}

func TestReload(t *testing.T) {
	w := open(t, "")
	w.write(t, "dave:"+hash(t, "dave-secret")+"\n")
	for as, want := range map[string]int{"dave": 200, "alice": 401} {
		if got := w.get(t, "/pull/x", as).StatusCode; got != want {
			t.Errorf("%s: %d, want %d", as, got, want)
		}
	}
	w.write(t, "dave:$apr1$xyz$abc\n")
	if got := w.get(t, "/pull/x", "dave").StatusCode; got != 200 {
		t.Errorf("a bad file: %d", got)
	}
	if !strings.Contains(w.log.String(), "MD5 (apr1)") {
		t.Errorf("the log does not say why: %s", w.log)
	}
	w.write(t, "dave:"+hash(t, "changed")+"\n")
	for as, want := range map[string]int{"dave": 401, "dave:changed": 200} {
		if got := w.get(t, "/pull/x", as).StatusCode; got != want {
			t.Errorf("%s after the change of the password: %d, want %d", as, got, want)
		}
	}
}

func TestUsersFile(t *testing.T) {
	good := hash(t, "x")
	for _, c := range []struct{ text, want string }{
		{"a:" + good, ""}, {"# comment\n\n a:" + good + "\r\n", ""}, {"", ""},
		{"a:" + strings.Replace(good, "$2a$", "$2y$", 1), ""},
		{"a:{SHA}abc", "1: user a: the hash is SHA-1"},
		{"\na:$apr1$a$b", "2: user a: the hash is MD5 (apr1)"},
		{"a:$6$a$b", "SHA-512 crypt"}, {"a:secret", "crypt or plain text"}, {"a", "want USER:HASH"}, {":x", "want USER:HASH"},
		{"a:$2y$", "damaged"}, {"a:" + good[:59], "damaged"}, {"a:" + good + "\na:" + good, "2: user a is there already"},
		{"a:" + strings.Replace(good, "$04$", "$31$", 1), "cost 31"},
	} {
		_, err := parseUsers([]byte(c.text))
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: got %v, want %q", c.text, err, c.want)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("the error shows what might be a password: %v", err)
		}
	}
}

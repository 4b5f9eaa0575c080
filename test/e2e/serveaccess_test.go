package e2e

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"nacre/internal/image"
	"nacre/internal/registry"
	"nacre/internal/registry/layout"
	"nacre/internal/registry/registrytest"
)

const accessYAML = `
dir: registry
log: {format: json, level: debug}
auth:
  htpasswd: users
  token-service: {refresh-ttl: 1h}
  tokens:
    - {name: ci, sha256: TOKEN}
  failures: {free: 3, pause: 1s}
  rules:
    - {repositories: "public/**", anonymous: true, allow: read}
    - {repositories: "alice/**", users: alice, allow: all}
    - {repositories: "bob/**", users: [bob, ci], allow: all}
    - {repositories: "drop/**", users: bob, allow: push}
    - {repositories: "**", users: root, allow: all}
metrics: {anonymous: true}
webhooks:
  - {name: nowhere, url: "http://127.0.0.1:1/hook", secret: H00k-S3cret, headers: {Authorization: "Bearer H00k-T0ken"}, actions: [push, pull, delete, mount]}
`

// guarded is nacre serve with rules, and what tests know of it.
type guarded struct {
	*registryServer
	dir   string
	token string // of ci
	img   registrytest.Image
}

func newGuarded(t *testing.T) *guarded {
	t.Helper()
	g := &guarded{dir: t.TempDir(), token: "nacre_F1xed-T0ken", img: registrytest.Hello("secret", image.TypeLayerGzip)}
	writeUsers(t, g.dir, "alice", "bob", "root")
	sum := fmt.Sprintf("%x", sha256.Sum256([]byte(g.token)))
	write(t, g.dir+"/serve.yaml", strings.ReplaceAll(accessYAML, "TOKEN", sum))
	s := newStore(t)
	g.registryServer = s.serve(t, "--config", g.dir+"/serve.yaml")
	l, err := layout.Create(g.dir + "/layout")
	if err != nil {
		t.Fatal(err)
	}
	registrytest.Put(t, l, registry.Ref{Tag: "1"}, g.img)
	home := t.TempDir()
	s.env = append(s.env, "DOCKER_CONFIG="+home)
	if r := s.runIn(t, password("root"), "login", "-u", "root", "--password-stdin", g.addr); r.code != 0 {
		t.Fatal(r)
	}
	for _, repo := range []string{"alice/app", "alice/second", "drop/app"} {
		s.ok(t, "copy", "-q", "oci:"+g.dir+"/layout:1", g.addr+"/"+repo+":1")
	}
	for _, repo := range []string{"public/a", "public/z", "bob/app"} {
		s.ok(t, "copy", "-q", layoutOf(t, t.TempDir(), repo), g.addr+"/"+repo+":1")
	}
	return g
}

type answer struct {
	status int
	header http.Header
	body   string
}

// ask sends a request as a user, "" for nobody.
func (g *guarded) ask(t *testing.T, user, method, path, body string, header ...string) answer {
	t.Helper()
	req, err := http.NewRequest(method, "http://"+g.addr+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if user != "" {
		req.SetBasicAuth(user, password(user))
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{resp.StatusCode, resp.Header, string(text)}
}

var (
	anyID     = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f-]{27}`)
	anyDigest = regexp.MustCompile(`sha256:[0-9a-f]{64}`)
	anyRepo   = regexp.MustCompile(`(alice|bob|drop|public)/[a-z]+`)
)

// nobodysDigest is one that no content has, different for each.
func nobodysDigest(d string) string { return d[:len(d)-8] + "00000000" }

// shape is all of an answer but what names what was asked for.
func (a answer) shape() string {
	h := a.header.Clone()
	h.Del("Date")
	h.Del("X-Request-Id")
	h.Del("Content-Length")
	s := fmt.Sprint(a.status, h, a.body)
	s = anyID.ReplaceAllString(s, "ID")
	return anyRepo.ReplaceAllString(anyDigest.ReplaceAllString(s, "DIGEST"), "REPO")
}

// TestServeTellsNothing: whether something is there or not, who may not see it gets the same answer.
func TestServeTellsNothing(t *testing.T) {
	t.Parallel()
	g := newGuarded(t)
	there, absent := g.img.Blobs[0].Digest.String(), "sha256:"+strings.Repeat("ab", 32)
	manifest := g.img.Desc().Digest.String()
	upload := g.ask(t, "alice", "POST", "/v2/alice/app/blobs/uploads/", "").header.Get("Location")
	noUpload := upload[:strings.LastIndex(upload, "/")] + "/00000000-0000-4000-8000-000000000000"
	same := func(user, method string, status int, paths ...string) {
		t.Helper()
		first := g.ask(t, user, method, paths[0], "").shape()
		if !strings.HasPrefix(first, fmt.Sprint(status, " ")) {
			t.Errorf("%q %s %s: %s, want %d", user, method, paths[0], first, status)
		}
		for _, p := range paths[1:] {
			if got := g.ask(t, user, method, p, "").shape(); got != first {
				t.Errorf("%q %s differs:\n%s: %s\n%s: %s", user, method, paths[0], first, p, got)
			}
		}
	}
	for user, status := range map[string]int{"": 401, "bob": 403} {
		for _, method := range []string{"HEAD", "GET", "DELETE"} {
			same(user, method, status, "/v2/alice/app/blobs/"+there, "/v2/alice/app/blobs/"+absent, "/v2/alice/none/blobs/"+there)
			same(user, method, status, "/v2/alice/app/manifests/1", "/v2/alice/app/manifests/2", "/v2/alice/none/manifests/1")
			same(user, method, status, "/v2/alice/app/manifests/"+manifest, "/v2/alice/app/manifests/"+absent)
		}
		same(user, "GET", status, "/v2/alice/app/tags/list", "/v2/alice/none/tags/list")
		same(user, "GET", status, "/v2/alice/app/referrers/"+manifest, "/v2/alice/none/referrers/"+absent)
		same(user, "POST", status, "/v2/alice/app/blobs/uploads/", "/v2/alice/none/blobs/uploads/")
		for _, method := range []string{"GET", "PATCH", "DELETE"} {
			same(user, method, status, upload, noUpload)
		}
		same(user, "PUT", status, upload+"?digest="+there, noUpload+"?digest="+there)
	}
	// Within what one may see, what others have is not there either.
	for _, method := range []string{"HEAD", "GET", "DELETE"} {
		same("bob", method, 404, "/v2/bob/app/blobs/"+absent, "/v2/bob/app/blobs/"+there)
		same("bob", method, 404, "/v2/bob/app/manifests/"+absent, "/v2/bob/app/manifests/"+manifest)
	}
	same("bob", "GET", 200, "/v2/bob/app/referrers/"+absent, "/v2/bob/app/referrers/"+manifest)
	bobUpload := "/v2/bob/app/blobs/uploads/"
	same("bob", "GET", 404, strings.Replace(noUpload, "/alice/", "/bob/", 1), strings.Replace(upload, "/alice/", "/bob/", 1))
	// Who may push and not pull learns nothing, either.
	same("bob", "HEAD", 403, "/v2/drop/app/blobs/"+there, "/v2/drop/app/blobs/"+absent)
	same("bob", "POST", 202, bobUpload+"?mount="+absent+"&from=bob/app",
		bobUpload+"?mount="+there+"&from=alice/app", bobUpload+"?mount="+absent+"&from=alice/app", bobUpload+"?mount="+there+"&from=alice/none",
		bobUpload+"?mount="+there+"&from=drop/app", bobUpload+"?mount="+there, bobUpload+"?mount="+absent)
	// A manifest is no way to others' blobs.
	m := string(g.img.Blobs[len(g.img.Blobs)-1].Data)
	others := g.ask(t, "bob", "PUT", "/v2/bob/app/manifests/2", m, "Content-Type", image.TypeManifest)
	nobodys := g.ask(t, "bob", "PUT", "/v2/bob/app/manifests/2", anyDigest.ReplaceAllStringFunc(m, nobodysDigest), "Content-Type", image.TypeManifest)
	if others.status != 404 || others.shape() != nobodys.shape() {
		t.Errorf("a manifest of others' blobs: %s\nof none: %s", others.shape(), nobodys.shape())
	}
	for user, want := range map[string]string{
		"": "public/a public/z", "bob": "bob/app public/a public/z", "alice": "alice/app alice/second public/a public/z",
		"root": "alice/app alice/second bob/app drop/app public/a public/z",
	} {
		if got := g.catalog(t, user); got != want {
			t.Errorf("the catalog of %q: %q, want %q", user, got, want)
		}
	}
}

// catalog is what a user sees, by pages of one name. No page is empty but the last.
func (g *guarded) catalog(t *testing.T, user string) string {
	t.Helper()
	var all []string
	for next := "/v2/_catalog?n=1"; next != ""; {
		a := g.ask(t, user, "GET", next, "")
		if user == "" && a.status == http.StatusUnauthorized {
			a = g.ask(t, "", "GET", next, "", "Authorization", "Bearer "+g.bearer(t, "", "registry:catalog:*"))
		}
		var page struct{ Repositories []string }
		if err := json.Unmarshal([]byte(a.body), &page); err != nil || a.status != 200 {
			t.Fatalf("%s: %d %s", next, a.status, a.body)
		}
		all = append(all, page.Repositories...)
		link := a.header.Get("Link")
		next, _, _ = strings.Cut(strings.TrimPrefix(link, "<"), ">")
		if next != "" && len(page.Repositories) != 1 {
			t.Errorf("%q is told of a page after %v: %s", user, page.Repositories, link)
		}
	}
	return strings.Join(all, " ")
}

// bearer gets a token of the server's own.
func (g *guarded) bearer(t *testing.T, user, scope string) string {
	t.Helper()
	a := g.ask(t, user, "GET", "/token?service=nacre&offline_token=true&scope="+url.QueryEscape(scope), "")
	var body struct {
		Token        string
		RefreshToken string `json:"refresh_token"`
	}
	if err := json.Unmarshal([]byte(a.body), &body); err != nil || a.status != 200 || body.Token == "" {
		t.Fatalf("token: %d %s", a.status, a.body)
	}
	if user != "" && body.RefreshToken == "" {
		t.Errorf("no refresh token: %s", a.body)
	}
	return body.Token
}

// TestServeSecrets: guessing is slowed, and no password or token is in what the server writes: its log, its
// metrics, the queue of events, or any other file of its folder.
func TestServeSecrets(t *testing.T) {
	t.Parallel()
	g := newGuarded(t)
	secrets := []string{"H00k-S3cret", "H00k-T0ken", g.token, password("alice"), password("bob"), password("root")}
	add := func(s string) string { secrets = append(secrets, s); return s }
	alice := g.bearer(t, "alice", "repository:alice/app:pull,push")
	for _, part := range strings.Split(alice, ".")[1:] {
		add(part)
	}
	g.ask(t, "alice", "GET", "/v2/alice/app/manifests/1?access_token="+add("Qu3ry-S3cret"), "", "User-Agent", "me", "Cookie", "session="+add("C00kie-S3cret"))
	if a := g.ask(t, "", "GET", "/v2/alice/app/manifests/1", "", "Authorization", "Bearer "+alice); a.status != 200 {
		t.Errorf("with the token: %d %s", a.status, a.body)
	}
	if a := g.ask(t, "", "GET", "/v2/bob/app/manifests/1", "", "Authorization", "Bearer "+g.token); a.status != 200 {
		t.Errorf("with the fixed token: %d %s", a.status, a.body)
	}
	if a := g.ask(t, "", "GET", "/v2/bob/app/manifests/1", "", "Authorization", "Bearer "+add("eyJhbGciOiJub25lIn0.eyJzdWIiOiJyb290In0.")); a.status != 401 {
		t.Errorf("a token that nobody signed: %d", a.status)
	}
	g.ask(t, "", "GET", "/token?account="+add("Acc0unt-S3cret")+"&scope=repository:public/a:pull", "")
	g.ask(t, "", "POST", "/token", "grant_type=password&username=alice&service=nacre&client_id=x&password="+add("F0rm-S3cret"), "Content-Type", "application/x-www-form-urlencoded")
	g.ask(t, "", "POST", "/token", "grant_type=refresh_token&service=nacre&client_id=x&refresh_token="+add("Refresh-S3cret"), "Content-Type", "application/x-www-form-urlencoded")

	// After three wrong ones there is a pause, here for the right one too; other users go on.
	guess := func(name, secret string) answer {
		req, _ := http.NewRequest("GET", "http://"+g.addr+"/v2/", nil)
		req.SetBasicAuth(name, secret)
		resp, err := http.DefaultTransport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, _ := io.ReadAll(resp.Body)
		return answer{resp.StatusCode, resp.Header, string(body)}
	}
	var statuses []int
	for i := range 5 {
		a := guess("bob", add(fmt.Sprintf("Gue55-%d", i)))
		statuses = append(statuses, a.status)
		if a.status == 429 && (a.header.Get("Retry-After") == "" || !strings.Contains(a.body, `"TOOMANYREQUESTS"`)) {
			t.Errorf("the pause: %v %s", a.header, a.body)
		}
	}
	if got := fmt.Sprint(statuses); got != "[401 401 401 429 429]" {
		t.Errorf("guesses are answered %s", got)
	}
	if a := guess("bob", password("bob")); a.status != 429 {
		t.Errorf("the right password, in the pause: %d", a.status)
	}
	if a := guess("root", password("root")); a.status != 200 {
		t.Errorf("another user, in the pause: %d", a.status)
	}
	guess(add("Typed-Wr0ng"), "x")
	for end := time.Now().Add(patience); guess("bob", password("bob")).status != 200; time.Sleep(100 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the pause does not end")
		}
	}
	g.wantNowhere(t, secrets)
}

// wantNowhere looks for secrets in all that the server wrote.
func (g *guarded) wantNowhere(t *testing.T, secrets []string) {
	t.Helper()
	written := map[string]string{"the log": g.out.String(), "metrics": g.ask(t, "", "GET", "/metrics", "").body}
	err := filepath.WalkDir(g.dir+"/registry", func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(path)
		written[path] = string(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	queue := written[g.dir+"/registry/serve/webhooks.db"] + written[g.dir+"/registry/serve/webhooks.db-wal"]
	if !strings.Contains(queue, "alice/app") || !strings.Contains(written["the log"], "alice/app") || !strings.Contains(written["metrics"], "nacre_") {
		t.Errorf("there is nothing to look at: %d files", len(written))
	}
	for _, s := range secrets {
		for where, text := range written {
			if strings.Contains(text, s) {
				t.Errorf("%s has %q", where, s)
			}
		}
	}
}

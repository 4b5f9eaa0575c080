package build

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"nacre/internal/layer"
	"nacre/internal/rootfs"
	"nacre/internal/source/remote"

	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
)

// site is a server of one file.
type site struct {
	url       string
	body, tag string
	when      time.Time
	auth      string // to be sent, where not empty
	asked     atomic.Int32
	sent      atomic.Int32
}

func newSite(t *testing.T) *site {
	s := &site{body: "hello", tag: `"1"`, when: time.Date(2024, 2, 3, 4, 5, 6, 0, time.UTC)}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.asked.Add(1)
		if s.auth != "" && r.Header.Get("Authorization") != s.auth {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		if s.tag != "" {
			w.Header().Set("ETag", s.tag)
			w.Header().Set("Last-Modified", s.when.Format(http.TimeFormat))
			if r.Header.Get("If-None-Match") == s.tag {
				w.WriteHeader(http.StatusNotModified)
				return
			}
		}
		s.sent.Add(1)
		io.WriteString(w, s.body)
	}))
	t.Cleanup(srv.Close)
	s.url = srv.URL
	return s
}

func (s *site) expect(t *testing.T, asked, sent int32) {
	t.Helper()
	if a, b := s.asked.Swap(0), s.sent.Swap(0); a != asked || b != sent {
		t.Errorf("asked %d times and sent %d times, want %d and %d", a, b, asked, sent)
	}
}

func TestAddURL(t *testing.T) {
	b, s := newBench(t, nil), newSite(t)
	text := "FROM scratch\nADD " + s.url + "/dir/name.txt?x=1 /to/\n"
	first := b.build(text)
	s.expect(t, 1, 1)
	if got := b.read(first, "to/name.txt"); got != "hello" {
		t.Errorf("got %q", got)
	}
	st := statOf(t, b.root(first), "to/name.txt")
	if st.Mode&0o7777 != 0o600 || st.UID != 0 || !st.ModTime.Equal(s.when) {
		t.Errorf("got mode %o, owner %d, time %v", st.Mode, st.UID, st.ModTime)
	}

	again := b.build(text)
	s.expect(t, 1, 0)
	again.expectRan(t)
	if again.Config != first.Config {
		t.Error("an unchanged file made another image")
	}

	// The same bytes under another tag: sent, and then everything hits.
	s.tag = `"2"`
	b.build(text).expectRan(t, "fetch "+s.url+"/dir/name.txt?x=1")
	s.expect(t, 1, 1)

	s.body, s.tag = "bye", `"3"`
	changed := b.build(text)
	if got := b.read(changed, "to/name.txt"); got != "bye" {
		t.Errorf("got %q", got)
	}
	s.expect(t, 1, 1)

	// No tag, no date: it has to be fetched each time, and still the steps hit.
	s.tag = ""
	b.build(text)
	s.expect(t, 1, 1)
	b.build(text).expectRan(t, "fetch "+s.url+"/dir/name.txt?x=1")
	s.expect(t, 1, 1)
}

func TestAddURLMixed(t *testing.T) {
	b, s := newBench(t, map[string]string{"local": "mine"}), newSite(t)
	out := b.build("FROM scratch\nADD --chmod=755 --chown=3:4 local " + s.url + "/a " + s.url + "/ /d/\nADD " + s.url + "/a /file\n")
	s.expect(t, 2, 2) // the two uses of /a are one
	for name, want := range map[string]string{"d/local": "mine", "d/a": "hello", "d/__unnamed__": "hello", "file": "hello"} {
		if got := b.read(out, name); got != want {
			t.Errorf("%s has %q, want %q", name, got, want)
		}
	}
	if st := statOf(t, b.root(out), "d/a"); st.Mode&0o7777 != 0o755 || st.UID != 3 || st.GID != 4 {
		t.Errorf("got mode %o, owner %d:%d", st.Mode, st.UID, st.GID)
	}
}

func TestAddURLChecksum(t *testing.T) {
	b, s := newBench(t, nil), newSite(t)
	for _, algorithm := range []digest.Algorithm{digest.SHA256, digest.SHA512} {
		sum := algorithm.FromString(s.body).String()
		text := "FROM scratch\nADD --checksum=" + sum + " " + s.url + "/a /\n"
		b.build(text)
		b.build(text).expectRan(t)
	}
	s.expect(t, 2, 2)
	wrong := digest.FromString("something else").String()
	_, err := b.try("FROM scratch\nADD --checksum=" + wrong + " " + s.url + "/a /\n")
	if !errors.Is(err, ErrChecksum) || !strings.HasPrefix(err.Error(), "Dockerfile:2: "+s.url+"/a: checksum mismatch") {
		t.Errorf("got %v", err)
	}
	if _, err := b.try("FROM scratch\nADD --checksum=sha256:12 " + s.url + "/a /\n"); err == nil {
		t.Error("half a checksum was taken")
	}
}

func TestAddURLUnpack(t *testing.T) {
	b, s := newBench(t, nil), newSite(t)
	dir := t.TempDir()
	if err := os.WriteFile(dir+"/x", []byte("inside"), 0o644); err != nil {
		t.Fatal(err)
	}
	data, err := exec.Command("tar", "-cz", "-C", dir, "x").Output()
	if err != nil {
		t.Fatal(err)
	}
	s.body = string(data)
	out := b.build("FROM scratch\nADD " + s.url + "/a.tgz /as/\nADD --unpack " + s.url + "/a.tgz /un/\n")
	if b.read(out, "as/a.tgz") != s.body || b.read(out, "un/x") != "inside" {
		t.Error("--unpack decides, and without it nothing is unpacked")
	}
}

func TestAddURLSecret(t *testing.T) {
	b, s := newBench(t, nil), newSite(t)
	s.auth = "Bearer t0psecret"
	b.opts.Secret = func(id string) ([]byte, error) {
		if id == "HTTP_AUTH_TOKEN_127.0.0.1" {
			return []byte("t0psecret"), nil
		}
		return nil, nil
	}
	text := "FROM scratch\nADD " + strings.Replace(s.url, "http://", "http://me:hidden@", 1) + "/a /\n"
	out := b.build(text)
	if b.read(out, "a") != "hello" {
		t.Error("the secret was not sent")
	}
	// Its bytes are nowhere in the store.
	err := filepath.WalkDir(b.store.Root(), func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(path)
		if strings.Contains(string(data), "t0psecret") {
			t.Errorf("%s has the secret", path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	b.opts.Secret = nil
	b.opts.NoCache = true
	if _, err := b.try(text); !errors.Is(err, remote.ErrStatus) || strings.Contains(err.Error(), "hidden") {
		t.Errorf("without the secret: %v", err)
	}
}

// TestAddURLUnpackHostile: archives from elsewhere reach nothing outside of the directory they are unpacked to, and
// do not unfold without end.
func TestAddURLUnpackHostile(t *testing.T) {
	link := func(w *tar.Writer) {
		w.WriteHeader(&tar.Header{Typeflag: tar.TypeSymlink, Name: "l", Linkname: "/etc"})
	}
	file := func(name, data string) func(*tar.Writer) {
		return func(w *tar.Writer) {
			w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: int64(len(data))})
			io.WriteString(w, data)
		}
	}
	for _, c := range []struct {
		name  string
		parts []func(*tar.Writer)
		fails string
		has   string // a file that holds "x"
	}{
		{name: "dots", parts: []func(*tar.Writer){file("../../out", "x")}, fails: "unsafe entry"},
		{name: "absolute", parts: []func(*tar.Writer){file("/abs", "x")}, has: "in/abs"},
		{name: "through a symlink", parts: []func(*tar.Writer){link, file("l/passwd", "x")}, has: "in/etc/passwd"},
		{name: "hard link to outside", parts: []func(*tar.Writer){func(w *tar.Writer) {
			w.WriteHeader(&tar.Header{Typeflag: tar.TypeLink, Name: "h", Linkname: "../../../etc/passwd"})
		}}, fails: "h"},
		{name: "bomb", parts: []func(*tar.Writer){func(w *tar.Writer) {
			w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "big", Mode: 0o644, Size: 5 << 28})
			zeros := make([]byte, 1<<20)
			for range 5 << 8 {
				w.Write(zeros)
			}
		}}, fails: "limit exceeded"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b, s := newBench(t, nil), newSite(t)
			var data bytes.Buffer
			z, err := zstd.NewWriter(&data)
			if err != nil {
				t.Fatal(err)
			}
			w := tar.NewWriter(z)
			for _, part := range c.parts {
				part(w)
			}
			w.Close()
			z.Close()
			s.body = data.String()
			out, err := b.try("FROM scratch\nADD --unpack " + s.url + "/a.tar.zst /in/\n")
			if c.fails != "" {
				if err == nil || !strings.HasPrefix(err.Error(), "Dockerfile:2: ") || !strings.Contains(err.Error(), c.fails) {
					t.Errorf("got %v, want %q", err, c.fails)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := b.read(out, c.has); got != "x" {
				t.Errorf("%s has %q", c.has, got)
			}
			top, err := b.root(out).ReadDir(".")
			if err != nil || len(top) != 1 || top[0].Name() != "in" {
				t.Errorf("the image has %v, %v", top, err)
			}
		})
	}
}

// TestAddURLStalls: a server that falls silent is given up, and the step that asked is named.
func TestAddURLStalls(t *testing.T) {
	b := newBench(t, nil)
	end := make(chan struct{})
	var asked atomic.Int32
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		w.Header().Set("Content-Length", "10")
		io.WriteString(w, "half ")
		w.(http.Flusher).Flush()
		<-end
	}))
	defer srv.Close()
	defer close(end)
	b.http = remote.Client{Silence: 50 * time.Millisecond, Pause: time.Millisecond}
	_, err := b.try("FROM scratch\n\nADD " + srv.URL + "/a /\n")
	if !errors.Is(err, remote.ErrStalled) || err.Error() != "Dockerfile:3: "+srv.URL+"/a: the server sends nothing for 50ms (tried 4 times)" || asked.Load() != 4 {
		t.Errorf("got %v after %d tries", err, asked.Load())
	}
}

// gitRun runs git as a user would, in dir.
func gitRun(t *testing.T, dir string, args ...string) string {
	t.Helper()
	cmd := exec.Command("git", append([]string{"-c", "user.name=a", "-c", "user.email=a@b", "-c", "protocol.file.allow=always"}, args...)...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

// serveRepo serves a new repository with files over HTTP, the simple way: as files.
func serveRepo(t *testing.T, files map[string]string) (url, dir string, hits *atomic.Int32) {
	t.Helper()
	top := t.TempDir()
	dir = filepath.Join(top, "work")
	for name, data := range files {
		path := filepath.Join(dir, name)
		os.MkdirAll(filepath.Dir(path), 0o755)
		mode := fs.FileMode(0o644)
		if strings.HasPrefix(data, "#!") {
			mode = 0o755
		}
		if err := os.WriteFile(path, []byte(data), mode); err != nil {
			t.Fatal(err)
		}
	}
	gitRun(t, dir, "init", "-q", "-b", "main")
	publish(t, dir)
	hits = new(atomic.Int32)
	files2 := http.FileServer(http.Dir(top))
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		hits.Add(1)
		files2.ServeHTTP(w, r)
	}))
	t.Cleanup(srv.Close)
	return srv.URL + "/repo.git", dir, hits
}

// publish commits what is in dir and puts it into the served repository.
func publish(t *testing.T, dir string) string {
	t.Helper()
	gitRun(t, dir, "add", "-A")
	gitRun(t, dir, "commit", "-q", "-m", "m")
	bare := filepath.Join(filepath.Dir(dir), "repo.git")
	os.RemoveAll(bare)
	gitRun(t, dir, "clone", "-q", "--bare", ".", bare)
	gitRun(t, bare, "update-server-info")
	return gitRun(t, dir, "rev-parse", "HEAD")
}

func TestAddGit(t *testing.T) {
	b := newBench(t, nil)
	url, dir, hits := serveRepo(t, map[string]string{"top": "1", "run": "#!/bin/sh\n", "docs/a/page": "page"})
	commit := gitRun(t, dir, "rev-parse", "HEAD")
	out := b.build("FROM scratch\nADD " + url + " /all\nADD " + url + "#main:docs/a /docs/\nADD " + url + "?subdir=docs&branch=main /q\n")
	for name, want := range map[string]string{"all/top": "1", "all/docs/a/page": "page", "docs/page": "page", "q/a/page": "page"} {
		if got := b.read(out, name); got != want {
			t.Errorf("%s has %q, want %q", name, got, want)
		}
	}
	f := b.root(out)
	if st := statOf(t, f, "all/run"); st.Mode&0o7777 != 0o755 || st.UID != 0 {
		t.Errorf("run has mode %o, owner %d", st.Mode, st.UID)
	}
	if _, err := f.Lstat("all/.git"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf(".git: %v", err)
	}

	text := "FROM scratch\nADD " + url + "#main /all\n"
	b.build(text)
	b.build(text).expectRan(t)
	os.WriteFile(dir+"/top", []byte("2"), 0o644)
	next := publish(t, dir)
	if got := b.read(b.build(text), "all/top"); got != "2" {
		t.Errorf("the branch moved, and top has %q", got)
	}

	// A commit is what it is: nobody is asked.
	hits.Store(0)
	b.build("FROM scratch\nADD --checksum=" + next[:12] + " " + url + "#" + next + " /all\n")
	if hits.Load() != 0 {
		t.Errorf("asked %d times", hits.Load())
	}
	if got := b.read(b.build("FROM scratch\nADD "+url+"#"+commit+" /\n"), "top"); got != "1" {
		t.Errorf("commit %s has %q", commit, got)
	}

	kept := b.build("FROM scratch\nADD --keep-git-dir=true " + url + "#main /k\n")
	if got := b.read(kept, "k/.git/refs/heads/main"); strings.TrimSpace(got) != next {
		t.Errorf(".git has main at %q", got)
	}
}

func TestAddGitRefused(t *testing.T) {
	b := newBench(t, nil)
	url, _, _ := serveRepo(t, map[string]string{"file": "1"})
	for source, want := range map[string]string{
		url + "#absent":                 "does not have absent",
		url + "#main:file":              "file is no directory of the repository",
		url + "#main:../../etc":         "no directory etc",
		url + "?checksum=12345":         "checksum mismatch: the default branch is commit",
		url + "?checksum=main":          "expected hex commit hash",
		url + "?ref=a&ref=b":            `query "ref" has multiple values`,
		url + "?ref=a#b":                `ref conflicts: "b" vs "a"`,
		url + "?what=1":                 `unexpected query "what"`,
		url + "?tag=a&branch=b":         "branch conflicts with tag",
		url + "#--upload-pack=touch":    "invalid git ref",
		"git@-oProxyCommand=x:repo.git": "",
	} {
		_, err := b.try("FROM scratch\nADD " + source + " /\n")
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", source, err, want)
		}
	}
	if _, err := b.try("FROM scratch\nADD file:///etc/repo.git /\n"); err == nil {
		t.Error("a Dockerfile reached a repository on this machine")
	}
}

func TestFetchFailureStopsBuild(t *testing.T) {
	b, s := newBench(t, nil), newSite(t)
	s.auth = "Bearer nobody has it"
	out, err := b.try("FROM scratch\nADD " + s.url + "/a /\n")
	if err == nil || !strings.HasPrefix(err.Error(), "Dockerfile:2: "+s.url+"/a: the server answered 403 Forbidden") {
		t.Errorf("got %v", err)
	}
	if slices.Contains(out.hit, "ADD "+s.url+"/a /") {
		t.Error("ADD went on")
	}
}

func statOf(t *testing.T, f *rootfs.FS, name string) *layer.Stat {
	t.Helper()
	info, err := f.Lstat(name)
	if err != nil {
		t.Fatal(err)
	}
	return info.Sys().(*layer.Stat)
}

func TestRemoteContexts(t *testing.T) {
	b := newBench(t, nil)
	url, dir, _ := serveRepo(t, map[string]string{"Dockerfile": "FROM scratch\nCOPY docs /d\n", "docs/page": "page",
		"sub/Dockerfile": "FROM scratch\nCOPY x /\n", "sub/x": "x"})
	data, err := exec.Command("tar", "-cz", "-C", dir+"/sub", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	s := newSite(t)
	s.body = string(data)
	text := newSite(t)
	text.body = "FROM scratch\nLABEL a=b\n"
	for spec, want := range map[string][2]string{
		url:                          {"d/page", "page"},
		url + "#main:sub":            {"x", "x"},
		"file://" + dir + "/.git":    {"d/page", "page"},
		s.url + "/context.tgz":       {"x", "x"},
		text.url + "/some/text.file": {},
	} {
		build := func() (Result, error) {
			return Builder{Store: b.store, Cache: b.store.Cache()}.Build(t.Context(), Options{Context: spec})
		}
		r, err := build()
		if err != nil {
			t.Errorf("%s: %v", spec, err)
			continue
		}
		if want[0] != "" && b.read(outcome{Result: r}, want[0]) != want[1] {
			t.Errorf("%s: %s is wrong", spec, want[0])
		}
		if again, err := build(); err != nil || again.Config != r.Config {
			t.Errorf("%s: built again it is %v, %v", spec, again.Config, err)
		}
	}
	s.expect(t, 2, 1)
	named := func(contexts map[string]string, text string) (outcome, error) {
		b.opts.Contexts = contexts
		return b.try(text)
	}
	out, err := named(map[string]string{"g": url + "#main:docs", "h": s.url + "/h", "st": url}, "FROM scratch AS st\nCOPY absent /\nFROM g\nCOPY --from=h context /h\nCOPY --from=g page /p\nCOPY --from=st sub/x /x\n")
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"page": "page", "p": "page", "h": s.body, "x": "x"} {
		if got := b.read(out, name); got != want {
			t.Errorf("%s has %q, want %q", name, got, want)
		}
	}
	if _, err := named(nil, "FROM oci-layout://"+dir+"\n"); err == nil {
		t.Error("a Dockerfile named a layout of this machine")
	}
}

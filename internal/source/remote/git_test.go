package remote_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"nacre/internal/source/remote"
)

// git runs the program as a user would.
func git(t *testing.T, dir string, args ...string) string {
	t.Helper()
	cmd := exec.Command("git", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(),
		"GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1",
		"GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@b", "GIT_AUTHOR_DATE=2020-01-02T03:04:05Z",
		"GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@b", "GIT_COMMITTER_DATE=2020-01-02T03:04:05Z")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

func write(t *testing.T, path, data string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(data), 0o644); err != nil {
		t.Fatal(err)
	}
}

// repository makes one with two commits, a branch and two tags: main has "two", the tags and
// the branch old have "one".
func repository(t *testing.T, dir string) (one, two string) {
	t.Helper()
	os.MkdirAll(dir, 0o755)
	git(t, dir, "init", "-q", "-b", "main")
	write(t, dir+"/file", "one")
	write(t, dir+"/sub/dir/deep", "deep")
	git(t, dir, "add", ".")
	git(t, dir, "commit", "-q", "-m", "one")
	one = git(t, dir, "rev-parse", "HEAD")
	git(t, dir, "branch", "old")
	git(t, dir, "tag", "light")
	git(t, dir, "tag", "-a", "-m", "noted", "noted")
	write(t, dir+"/file", "two")
	git(t, dir, "commit", "-q", "-a", "-m", "two")
	return one, git(t, dir, "rev-parse", "HEAD")
}

// serveGit serves the repositories in dir over HTTP, to who has the header auth.
func serveGit(t *testing.T, dir, auth string) string {
	t.Helper()
	h := &cgi.Handler{
		Path: strings.TrimSpace(git(t, dir, "--exec-path")) + "/git-http-backend",
		Env: []string{
			"GIT_PROJECT_ROOT=" + dir, "GIT_HTTP_EXPORT_ALL=1", "GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=safe.directory", "GIT_CONFIG_VALUE_0=*",
			"HOME=/dev/null",
		},
	}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != auth {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		h.ServeHTTP(w, r)
	}))
	t.Cleanup(s.Close)
	return s.URL
}

func TestCheckout(t *testing.T) {
	dir := t.TempDir()
	one, two := repository(t, dir+"/r")
	url := serveGit(t, dir, "") + "/r/.git"
	for _, c := range []struct{ ref, want, id, full string }{
		{"", "two", two, "refs/heads/main"},
		{"main", "two", two, "refs/heads/main"},
		{"old", "one", one, "refs/heads/old"},
		{"refs/heads/old", "one", one, "refs/heads/old"},
		{"light", "one", one, "refs/tags/light"},
		{"noted", "one", one, "refs/tags/noted"},
		{one, "one", one, ""},
	} {
		t.Run(c.ref, func(t *testing.T) {
			r := remote.Repo{Remote: url, Ref: c.ref}
			commit, err := r.Resolve(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			if commit.ID() != c.id || commit.Ref != c.full {
				t.Errorf("%q is %+v, want %s %s", c.ref, commit, c.id, c.full)
			}
			tree, made, err := r.Checkout(context.Background(), commit, t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			if data, _ := os.ReadFile(tree + "/file"); string(data) != c.want {
				t.Errorf("file has %q, want %q", data, c.want)
			}
			if !made.Equal(time.Date(2020, 1, 2, 3, 4, 5, 0, time.UTC)) {
				t.Errorf("made %v", made)
			}
			if _, err := os.Lstat(tree + "/.git"); err == nil {
				t.Error(".git was left")
			}
		})
	}
}

func TestKeepDir(t *testing.T) {
	dir := t.TempDir()
	repository(t, dir+"/r")
	url := serveGit(t, dir, "") + "/r/.git"
	for _, ref := range []string{"main", "noted"} {
		r := remote.Repo{Remote: strings.Replace(url, "http://", "http://me:hidden@", 1), Ref: ref, KeepDir: true}
		commit, err := r.Resolve(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		tree, _, err := r.Checkout(context.Background(), commit, t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		if got := git(t, tree, "-c", "safe.directory=*", "rev-parse", commit.Ref); got != commit.Object {
			t.Errorf("%s is %s, want %s", commit.Ref, got, commit.Object)
		}
		if got := git(t, tree, "-c", "safe.directory=*", "status", "--short"); got != "" {
			t.Errorf("the tree is not clean: %s", got)
		}
		config, err := os.ReadFile(tree + "/.git/config")
		if err != nil || strings.Contains(string(config), "hidden") {
			t.Errorf("config: %s %v", config, err)
		}
	}
}

func TestSubmodules(t *testing.T) {
	dir := t.TempDir()
	repository(t, dir+"/part")
	repository(t, dir+"/whole")
	git(t, dir+"/whole", "-c", "protocol.file.allow=always", "submodule", "add", "-q", "../part", "inner")
	write(t, dir+"/whole/.gitmodules", "[submodule \"inner\"]\n\tpath = inner\n\turl = ../../part/.git\n")
	git(t, dir+"/whole", "commit", "-q", "-a", "-m", "with part")
	url := serveGit(t, dir, "") + "/whole/.git"
	for _, with := range []bool{true, false} {
		r := remote.Repo{Remote: url, Submodules: with}
		commit, err := r.Resolve(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		tree, _, err := r.Checkout(context.Background(), commit, t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(tree + "/inner/file"); (err == nil) != with {
			t.Errorf("with submodules %v: %v", with, err)
		}
	}
}

// TestHostile: what a repository or a Dockerfile says does not reach this machine's files, and
// what is in the repository does not run.
func TestHostile(t *testing.T) {
	dir := t.TempDir()
	repository(t, dir+"/secret")
	repository(t, dir+"/r")
	write(t, dir+"/r/.gitmodules", "[submodule \"inner\"]\n\tpath = inner\n\turl = file://"+dir+"/secret\n")
	head := git(t, dir+"/secret", "rev-parse", "HEAD")
	git(t, dir+"/r", "update-index", "--add", "--cacheinfo", "160000,"+head+",inner")
	git(t, dir+"/r", "add", ".gitmodules")
	git(t, dir+"/r", "commit", "-q", "-m", "reach out")
	url := serveGit(t, dir, "") + "/r/.git"
	r := remote.Repo{Remote: url, Submodules: true, ByUser: true}
	commit, err := r.Resolve(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := r.Checkout(context.Background(), commit, t.TempDir()); err == nil || !strings.Contains(err.Error(), "not allowed") {
		t.Errorf("a submodule on this machine: %v", err)
	}
	local := remote.Repo{Remote: "file://" + dir + "/secret"}
	if _, err := local.Resolve(context.Background()); err == nil || !strings.Contains(err.Error(), "not allowed") {
		t.Errorf("a repository on this machine that the user did not name: %v", err)
	}
	local.ByUser = true
	if _, err := local.Resolve(context.Background()); err != nil {
		t.Errorf("one that he did: %v", err)
	}
	ran := filepath.Join(t.TempDir(), "ran")
	ext := remote.Repo{Remote: "ext::touch " + ran, ByUser: true}
	if _, err := ext.Resolve(context.Background()); err == nil {
		t.Error("ext:: was taken")
	}
	if _, err := os.Stat(ran); err == nil {
		t.Error("ext:: ran a program")
	}
}

func TestGitRefused(t *testing.T) {
	dir := t.TempDir()
	repository(t, dir+"/r")
	url := serveGit(t, dir, "Bearer yes") + "/r/.git"
	with := remote.Repo{Remote: url, Authorization: "Bearer yes"}
	if _, err := with.Resolve(context.Background()); err != nil {
		t.Fatalf("authorization is not sent: %v", err)
	}
	without := remote.Repo{Remote: strings.Replace(url, "http://", "http://me:hidden@", 1)}
	if _, err := without.Resolve(context.Background()); err == nil || strings.Contains(err.Error(), "hidden") {
		t.Errorf("without authorization: %v", err)
	}
	with.Ref = "absent"
	if _, err := with.Resolve(context.Background()); !errors.Is(err, remote.ErrNoRef) {
		t.Errorf("a ref that is not there: %v", err)
	}
	commit := remote.Commit{Object: strings.Repeat("1", 40)}
	if _, _, err := with.Checkout(context.Background(), commit, t.TempDir()); err == nil {
		t.Error("a commit that is not there was found")
	}
	stalls := serve(t, func(w http.ResponseWriter, r *http.Request) { time.Sleep(500 * time.Millisecond) })
	slow := remote.Repo{Remote: stalls + "/r.git", Silence: 100 * time.Millisecond}
	if _, err := slow.Resolve(context.Background()); !errors.Is(err, remote.ErrStalled) {
		t.Errorf("a server that says nothing: %v", err)
	}
}

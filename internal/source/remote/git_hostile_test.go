package remote_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"nacre/internal/source/remote"
)

// evil makes a repository whose files and submodules nobody well-meaning would have.
type evil struct {
	t   *testing.T
	dir string
}

func newEvil(t *testing.T, dir string) *evil {
	repository(t, dir)
	return &evil{t, dir}
}

// put stages a file without writing it, so that it can have any name and mode.
func (e *evil) put(mode, name, data string) {
	e.t.Helper()
	blob := filepath.Join(e.t.TempDir(), "blob")
	write(e.t, blob, data)
	id := git(e.t, e.dir, "hash-object", "-w", "--no-filters", blob)
	git(e.t, e.dir, "-c", "core.protectHFS=false", "-c", "core.protectNTFS=false", "update-index", "--add", "--cacheinfo", mode+","+id+","+name)
}

func (e *evil) submodule(id, settings string) {
	e.put("100644", ".gitmodules", "[submodule \"inner\"]\n\tpath = inner\n"+settings)
	git(e.t, e.dir, "update-index", "--add", "--cacheinfo", "160000,"+id+",inner")
}

func (e *evil) commit() { git(e.t, e.dir, "commit", "-q", "-m", "evil") }

// TestHostileRepositories: what is in a repository neither runs nor shows what is on this machine.
func TestHostileRepositories(t *testing.T) {
	secret := t.TempDir()
	_, head := repository(t, secret)
	ran := filepath.Join(t.TempDir(), "ran")
	script := "#!/bin/sh\ntouch " + ran + "\n"
	for _, c := range []struct {
		name  string
		make  func(e *evil)
		fails string // empty: the tree is fetched, and harmless
	}{
		{"submodule by ext", func(e *evil) { e.submodule(head, "\turl = ext::sh -c touch% "+ran+"\n") }, "not allowed"},
		{"submodule on this machine", func(e *evil) { e.submodule(head, "\turl = file://"+secret+"\n") }, "not allowed"},
		{"submodule by path", func(e *evil) { e.submodule(head, "\turl = "+secret+"\n") }, "not allowed"},
		{"submodule that is an option", func(e *evil) { e.submodule(head, "\turl = --upload-pack=touch "+ran+"\n") }, "inner"},
		{"submodule by ssh with an option", func(e *evil) { e.submodule(head, "\turl = ssh://-oProxyCommand=touch%20"+ran+"/x\n") }, "strange hostname"},
		{"submodule with a command", func(e *evil) { e.submodule(head, "\turl = ../../r/.git\n\tupdate = !touch "+ran+"\n") }, "update"},
		{"submodule named to escape", func(e *evil) {
			e.put("100644", ".gitmodules", "[submodule \"../../x\"]\n\tpath = inner\n\turl = ../../r/.git\n")
			git(e.t, e.dir, "update-index", "--add", "--cacheinfo", "160000,"+head+",inner")
		}, "inner"},
		{"submodule behind a symlink", func(e *evil) {
			e.put("120000", "a", ".git")
			e.put("100644", ".gitmodules", "[submodule \"inner\"]\n\tpath = a/hooks\n\turl = ../../r/.git\n")
		}, ""},
		{"hooks", func(e *evil) {
			e.put("100755", "hooks/post-checkout", script)
			e.put("100755", "githooks/post-checkout", script)
		}, ""},
		{"filters", func(e *evil) {
			e.put("100644", ".gitattributes", "* filter=x diff=x merge=x\nfile ident export-subst\n")
			e.put("100644", ".gitconfig", "[filter \"x\"]\n\tsmudge = touch "+ran+"\n[core]\n\tfsmonitor = touch "+ran+"\n")
			e.put("100644", ".lfsconfig", "[lfs]\n\turl = file://"+secret+"\n")
		}, ""},
		{"a configuration to be included", func(e *evil) {
			e.put("100644", "config", "[core]\n\tfsmonitor = touch "+ran+"\n\tsshCommand = touch "+ran+"\n")
			e.put("100644", "HEAD", "ref: refs/heads/main\n")
			e.put("100644", "objects/x", "")
			e.put("100644", "refs/x", "")
		}, ""},
		{"symlinks to outside", func(e *evil) {
			e.put("120000", "abs", "/etc/passwd")
			e.put("120000", "up", "../../../../../etc")
		}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			e := newEvil(t, dir+"/r")
			c.make(e)
			e.commit()
			r := remote.Repo{Remote: serveGit(t, dir, "") + "/r/.git", Submodules: true}
			commit, err := r.Resolve(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			work := t.TempDir()
			tree, _, err := r.Checkout(context.Background(), commit, work)
			if c.fails == "" && err != nil || c.fails != "" && (err == nil || !strings.Contains(err.Error(), c.fails)) {
				t.Errorf("got %v, want %q", err, c.fails)
			}
			if _, err := os.Lstat(ran); err == nil {
				t.Error("something of it ran")
				os.Remove(ran)
			}
			if _, err := os.Lstat(tree + "/inner/sub"); err == nil {
				t.Error("it has what is in the other repository")
			}
		})
	}
}

// TestBadTrees: names that git itself refuses to check out, in a repository that says they are fine.
func TestBadTrees(t *testing.T) {
	for _, entry := range []string{"100644 blob %\t.git", "100644 blob %\t..", "100755 blob %\t.GIT", "120000 blob %\t.gitmodules"} {
		dir := t.TempDir()
		_, _ = repository(t, dir+"/r")
		blob := git(t, dir+"/r", "rev-parse", "HEAD:file")
		cmd := exec.Command("git", "mktree")
		cmd.Dir, cmd.Stdin = dir+"/r", strings.NewReader(strings.ReplaceAll(entry, "%", blob)+"\n")
		out, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		id := git(t, dir+"/r", "commit-tree", "-m", "bad", strings.TrimSpace(string(out)))
		git(t, dir+"/r", "update-ref", "refs/heads/main", id)
		r := remote.Repo{Remote: serveGit(t, dir, "") + "/r/.git", Ref: "main"}
		commit, err := r.Resolve(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		if tree, _, err := r.Checkout(context.Background(), commit, t.TempDir()); err == nil {
			names, _ := os.ReadDir(tree)
			t.Errorf("%s was checked out: %v", entry, names)
		}
	}
}

// TestGitBomb: thirty objects that unfold to more files than any disk has.
func TestGitBomb(t *testing.T) {
	dir := t.TempDir()
	repository(t, dir+"/r")
	id := git(t, dir+"/r", "rev-parse", "HEAD:file")
	kind := "100644 blob "
	for range 12 {
		var tree strings.Builder
		for _, name := range strings.Split("a b c d e f g h i j", " ") {
			tree.WriteString(kind + id + "\t" + name + "\n")
		}
		cmd := exec.Command("git", "mktree")
		cmd.Dir, cmd.Stdin = dir+"/r", strings.NewReader(tree.String())
		out, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		id, kind = strings.TrimSpace(string(out)), "040000 tree "
	}
	git(t, dir+"/r", "update-ref", "refs/heads/main", git(t, dir+"/r", "commit-tree", "-m", "bomb", id))
	r := remote.Repo{Remote: serveGit(t, dir, "") + "/r/.git", Ref: "main"}
	commit, err := r.Resolve(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := r.Checkout(context.Background(), commit, t.TempDir()); !errors.Is(err, remote.ErrLimit) {
		t.Errorf("got %v", err)
	}
}

// TestManyRefs: a server with very many refs is asked for the one.
func TestManyRefs(t *testing.T) {
	dir := t.TempDir()
	_, two := repository(t, dir+"/r")
	var refs strings.Builder
	for i := range 100_000 {
		refs.WriteString(two + " refs/heads/" + fmt.Sprintf("x%06d", i) + "\n")
	}
	write(t, dir+"/r/.git/packed-refs", "# pack-refs with: peeled fully-peeled \n"+refs.String())
	r := remote.Repo{Remote: serveGit(t, dir, "") + "/r/.git", Ref: "main"}
	commit, err := r.Resolve(context.Background())
	if err != nil || commit.Object != two {
		t.Errorf("got %+v, %v", commit, err)
	}
}

package remote

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Repo is a git repository and what to take of it.
type Repo struct {
	Remote     string // as git calls it: a URL, or user@host:path
	Ref        string // branch, tag, full name of a ref, or a commit ID; empty: the default branch
	KeepDir    bool   // leave .git in the tree
	Submodules bool
	// ByUser: the user named it, not a file that may be somebody else's. So it may be
	// on this machine (file://), and his own ssh keys may be used for it.
	ByUser bool
	// Authorization is sent to the host of an http remote; empty: none.
	Authorization string
	SSHAgent      string            // socket of the agent whose keys may be used; empty: none
	Silence       time.Duration     // after which git is given up; zero: five minutes
	Log           func(said []byte) // told what git says; may be nil
	Hide          []string          // what is left out of errors
	// Transport is how settle asks; nil: http.DefaultTransport.
	Transport http.RoundTripper

	named string // the remote before it was settled
}

// Commit is what a ref means.
type Commit struct {
	Object string // the ID the ref has: of a commit, or of an annotated tag
	Peeled string // the commit an annotated tag is for; empty: Object is no such tag
	Ref    string // in full, such as refs/heads/main; empty: it was named by ID
}

// ID is that of the commit itself, as far as it is known.
func (c Commit) ID() string {
	if c.Peeled != "" {
		return c.Peeled
	}
	return c.Object
}

// settle follows the redirects of a repository that gets a secret. Git itself would send the secret along
// to wherever it is redirected.
func (r Repo) settle(ctx context.Context) Repo {
	if r.Authorization == "" || r.named != "" {
		return r
	}
	r.named = r.Remote
	const service = "/info/refs"
	w := newWatch(ctx, r.Silence)
	defer w.stop()
	req, err := http.NewRequestWithContext(w.ctx, http.MethodGet, r.Remote+service+"?service=git-upload-pack", nil)
	if err != nil {
		return r
	}
	req.Header.Set("User-Agent", "git/2 (nacre)")
	req.Header.Set("Authorization", r.Authorization)
	client := http.Client{Transport: r.Transport, CheckRedirect: redirect}
	resp, err := client.Do(req)
	if err != nil {
		return r // git will have the same to say
	}
	resp.Body.Close()
	to := *resp.Request.URL
	base, ok := strings.CutSuffix(to.Path, service)
	if !ok || to.String() == req.URL.String() {
		return r
	}
	to.Path, to.RawPath, to.RawQuery = base, "", ""
	r.Remote = to.String()
	r.Authorization = resp.Request.Header.Get("Authorization")
	return r
}

// ErrNoRef is wrapped by errors about a ref that a repository does not have.
var ErrNoRef = errors.New("the repository does not have")

// Resolve asks the remote what r.Ref is. An ID in full needs no asking.
func (r Repo) Resolve(ctx context.Context) (Commit, error) {
	if isID(r.Ref) {
		return Commit{Object: r.Ref}, nil
	}
	dir, err := os.MkdirTemp("", "nacre-git-")
	if err != nil {
		return Commit{}, err
	}
	defer os.RemoveAll(dir)
	r = r.settle(ctx)
	g := git{Repo: r, home: dir, dir: dir}
	ref := r.Ref
	if ref == "" {
		out, err := g.run(ctx, "ls-remote", "--symref", "--", r.Remote, "HEAD")
		if err != nil {
			return Commit{}, err
		}
		return defaultBranch(out)
	}
	out, err := g.run(ctx, "ls-remote", "--", r.Remote, ref, ref+"^{}")
	if err != nil {
		return Commit{}, err
	}
	return pick(out, ref)
}

// defaultBranch reads `ls-remote --symref HEAD`.
func defaultBranch(out []byte) (Commit, error) {
	var c Commit
	for line := range strings.Lines(string(out)) {
		left, name, _ := strings.Cut(strings.TrimSpace(line), "\t")
		if name != "HEAD" {
			continue
		}
		if target, ok := strings.CutPrefix(left, "ref: "); ok {
			c.Ref = target
		} else if isID(left) {
			c.Object = left
		}
	}
	if c.Object == "" {
		return c, fmt.Errorf("%w a default branch", ErrNoRef)
	}
	return c, nil
}

// pick finds ref in what `ls-remote REMOTE ref ref^{}` lists: a ref of that
// full name, then a branch, then a tag, as git checkout does.
func pick(out []byte, ref string) (Commit, error) {
	listed := map[string]string{}
	for line := range strings.Lines(string(out)) {
		id, name, _ := strings.Cut(strings.TrimSpace(line), "\t")
		if isID(id) {
			listed[name] = id
		}
	}
	for _, name := range []string{
		"refs/" + strings.TrimPrefix(ref, "refs/"),
		"refs/heads/" + strings.TrimPrefix(ref, "refs/heads/"),
		"refs/tags/" + strings.TrimPrefix(ref, "refs/tags/"),
	} {
		if id := listed[name]; id != "" {
			return Commit{Object: id, Peeled: listed[name+"^{}"], Ref: name}, nil
		}
	}
	return Commit{}, fmt.Errorf("%w %s", ErrNoRef, ref)
}

func isID(s string) bool {
	return (len(s) == 40 || len(s) == 64) && strings.Trim(s, "0123456789abcdef") == ""
}

// Checkout fetches c and writes its tree to a new folder in dir, which exists
// and is empty; more may be left in dir. It returns the folder and when the commit was made.
func (r Repo) Checkout(ctx context.Context, c Commit, dir string) (tree string, made time.Time, err error) {
	tree = filepath.Join(dir, "tree")
	r = r.settle(ctx)
	g := git{Repo: r, home: filepath.Join(dir, "home"), dir: tree, repo: filepath.Join(dir, "git")}
	if r.KeepDir {
		g.repo = filepath.Join(tree, ".git")
	}
	for _, d := range []string{tree, g.home} {
		if err := os.Mkdir(d, 0o755); err != nil {
			return "", made, err
		}
	}
	format := "sha1"
	if len(c.Object) == 64 {
		format = "sha256"
	}
	if _, err := g.run(ctx, "-c", "init.defaultBranch=master", "init", "--template=", "--object-format="+format); err != nil {
		return "", made, err
	}
	if _, err := g.run(ctx, "remote", "add", "origin", r.Remote); err != nil {
		return "", made, err
	}
	if err := g.fetch(ctx, c); err != nil {
		return "", made, err
	}
	if err := g.measure(ctx, c); err != nil {
		return "", made, err
	}
	if _, err := g.run(ctx, "checkout", "--force", "--detach", c.Object+"^{commit}", "--"); err != nil {
		return "", made, err
	}
	if r.Submodules {
		if err := g.submodules(ctx); err != nil {
			return "", made, err
		}
	}
	out, err := g.run(ctx, "log", "-1", "--format=%ct", "HEAD", "--")
	if err != nil {
		return "", made, err
	}
	seconds, err := strconv.ParseInt(strings.TrimSpace(string(out)), 10, 64)
	if err != nil {
		return "", made, fmt.Errorf("time of commit %s: %w", c.ID(), err)
	}
	if r.KeepDir {
		err = g.tidy(ctx)
	}
	return tree, time.Unix(seconds, 0), err
}

// fetch gets the one commit, and all of the history only from servers that cannot give less.
func (g git) fetch(ctx context.Context, c Commit) error {
	spec := c.Object
	if c.Ref != "" {
		spec += ":" + c.Ref
	}
	args := []string{"fetch", "--progress", "--no-tags", "--update-head-ok", "--force"}
	_, err := g.run(ctx, append(args, "--depth=1", "--", g.Remote, spec)...)
	if err == nil || ctx.Err() != nil {
		return err
	}
	// Dumb servers have no shallow fetches; old ones give what refs name and nothing else.
	specs := []string{"+refs/heads/*:refs/remotes/origin/*", "+refs/tags/*:refs/tags/*"}
	if c.Ref != "" {
		specs = []string{"+" + c.Ref + ":" + c.Ref}
	}
	if _, whole := g.run(ctx, append(append(args, "--", g.Remote), specs...)...); whole != nil {
		return err
	}
	if _, absent := g.run(ctx, "cat-file", "-e", c.Object+"^{commit}"); absent != nil {
		return fmt.Errorf("%w commit %s", ErrNoRef, c.Object)
	}
	return nil
}

// measure refuses a tree that unfolds to more than a layer may have: a few objects can name each other so
// that they make billions of files.
func (g git) measure(ctx context.Context, c Commit) error {
	out, err := g.run(ctx, "ls-tree", "-r", "-l", "--full-tree", "-z", c.Object+"^{commit}")
	if errors.Is(err, ErrLimit) {
		return fmt.Errorf("the tree of commit %s: %w: the names of its files have more than %d bytes", c.ID(), ErrLimit, maxOutput)
	}
	if err != nil {
		return err
	}
	size := int64(0)
	for entry := range bytes.SplitSeq(out, []byte{0}) {
		head, _, _ := bytes.Cut(entry, []byte{'\t'})
		if f := bytes.Fields(head); len(f) == 4 { // mode, type, ID, size or "-"
			n, _ := strconv.ParseInt(string(f[3]), 10, 64)
			if size += n; size > maxSize || n > maxSize {
				return fmt.Errorf("the tree of commit %s: %w: more than %d bytes", c.ID(), ErrLimit, int64(maxSize))
			}
		}
	}
	return nil
}

// submodules fetches these, none of them from this machine.
func (g git) submodules(ctx context.Context) error {
	if _, err := os.Lstat(filepath.Join(g.dir, ".gitmodules")); err != nil {
		return nil
	}
	local := strings.HasPrefix(g.Remote, "file://")
	g.ByUser = g.ByUser && local // relative to a repository on this machine, they are there as well
	_, err := g.run(ctx, "submodule", "update", "--init", "--recursive", "--depth=1", "--progress")
	return err
}

// tidy leaves in .git nothing of how it was fetched.
func (g git) tidy(ctx context.Context) error {
	if _, err := g.run(ctx, "remote", "set-url", "origin", withoutPassword(cmp.Or(g.named, g.Remote))); err != nil {
		return err
	}
	if _, err := g.run(ctx, "reflog", "expire", "--all", "--expire=now"); err != nil {
		return err
	}
	for _, name := range []string{"FETCH_HEAD", "ORIG_HEAD"} {
		if err := os.Remove(filepath.Join(g.repo, name)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}

func withoutPassword(remote string) string {
	u, err := url.Parse(remote)
	if err != nil || u.User == nil {
		return remote
	}
	if _, ok := u.User.Password(); ok || u.Scheme == "http" || u.Scheme == "https" {
		u.User = nil
	}
	return u.String()
}

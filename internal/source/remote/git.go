package remote

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
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
	Log           func(line []byte) // told what git says; may be nil
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
	if _, err := g.run(ctx, "checkout", "--force", "--detach", c.Object+"^{commit}"); err != nil {
		return "", made, err
	}
	if r.Submodules {
		if err := g.submodules(ctx); err != nil {
			return "", made, err
		}
	}
	out, err := g.run(ctx, "log", "-1", "--format=%ct", "HEAD")
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
	if _, err := g.run(ctx, "remote", "set-url", "origin", withoutPassword(g.Remote)); err != nil {
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

// git runs the program of that name.
type git struct {
	Repo
	home string // an empty folder
	dir  string // where it runs; with repo the top of the tree
	repo string // of .git; empty: none
}

// maxOutput bounds what is read of git's answer: a million refs.
const maxOutput = 64 << 20

// run executes git with args. Its error has what git said last.
func (g git) run(ctx context.Context, args ...string) ([]byte, error) {
	silence := g.Silence
	if silence == 0 {
		silence = 5 * time.Minute
	}
	w := newWatch(ctx, silence)
	defer w.stop()
	if g.repo != "" {
		args = append([]string{"--git-dir=" + g.repo, "--work-tree=" + g.dir}, args...)
	}
	cmd := exec.CommandContext(w.ctx, "git", args...)
	cmd.Dir, cmd.Env = g.dir, g.environ()
	// Its helpers (git-remote-https, ssh) are to die with it, and it with this process: the
	// kernel takes the end of the thread that started it for that.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd.SysProcAttr = &unix.SysProcAttr{Setpgid: true, Pdeathsig: unix.SIGKILL}
	cmd.Cancel = func() error { return unix.Kill(-cmd.Process.Pid, unix.SIGKILL) }
	cmd.WaitDelay = 5 * time.Second
	var out bytes.Buffer
	said := &report{watch: w, log: g.Log}
	cmd.Stdout, cmd.Stderr = &limited{&out, maxOutput, w}, said
	err := cmd.Run()
	if errors.Is(err, exec.ErrNotFound) {
		return nil, errors.New("git is not installed: sources from git repositories need it")
	}
	if err == nil {
		return out.Bytes(), nil
	}
	if cause := context.Cause(w.ctx); cause != nil {
		return nil, cause
	}
	return nil, &gitError{said: said.last(g.Remote), err: err}
}

type gitError struct {
	said string
	err  error
}

func (e *gitError) Error() string {
	if e.said == "" {
		return "git: " + e.err.Error()
	}
	return "git: " + e.said
}

func (e *gitError) Unwrap() error { return e.err }

// environ keeps out all that could make git do something else than asked: the user's and the
// system's configuration, hooks, helpers that ask for passwords.
func (g git) environ() []string {
	protocols := "http:https:git:ssh"
	if g.ByUser && strings.HasPrefix(g.Remote, "file://") {
		protocols += ":file"
	}
	ssh := "ssh -F /dev/null -oBatchMode=yes -oStrictHostKeyChecking=accept-new -oConnectTimeout=30 -oServerAliveInterval=15"
	if !g.ByUser {
		ssh += " -oIdentityFile=none"
	}
	env := []string{
		"PATH=" + os.Getenv("PATH"), "LC_ALL=C", "HOME=" + g.home, "XDG_CONFIG_HOME=" + g.home,
		"GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null", "GIT_ATTR_NOSYSTEM=1",
		"GIT_TERMINAL_PROMPT=0", "GIT_ASKPASS=", "SSH_ASKPASS=", "GIT_LFS_SKIP_SMUDGE=1",
		"GIT_ALLOW_PROTOCOL=" + protocols, "GIT_SSH_COMMAND=" + ssh,
	}
	if g.SSHAgent != "" {
		env = append(env, "SSH_AUTH_SOCK="+g.SSHAgent)
	}
	for _, name := range []string{"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR"} {
		for _, name := range []string{name, strings.ToLower(name)} {
			if v, ok := os.LookupEnv(name); ok {
				env = append(env, name+"="+v)
			}
		}
	}
	return append(env, g.config()...)
}

// config is git's configuration, in variables: what is there no other user sees in the list of processes.
func (g git) config() []string {
	pairs := [][2]string{
		{"core.hooksPath", "/dev/null"}, {"core.fsmonitor", "false"}, {"core.autocrlf", "false"},
		{"credential.helper", ""}, {"advice.detachedHead", "false"}, {"gc.auto", "0"}, {"maintenance.auto", "false"},
		{"http.lowSpeedLimit", "1"}, {"http.lowSpeedTime", "60"},
		{"fetch.recurseSubmodules", "false"}, {"submodule.recurse", "false"},
		{"transfer.bundleURI", "false"},
	}
	if u, err := url.Parse(g.Remote); g.Authorization != "" && err == nil {
		// Only that repository; of github.com all, as everybody does: its submodules are next to it.
		scope := g.Remote
		if u.Scheme == "https" && (u.Host == "github.com" || u.Host == "www.github.com") {
			scope = "https://" + u.Host + "/"
		}
		pairs = append(pairs, [2]string{"http." + scope + ".extraheader", "Authorization: " + g.Authorization})
	}
	env := []string{"GIT_CONFIG_COUNT=" + strconv.Itoa(len(pairs))}
	for i, p := range pairs {
		env = append(env, fmt.Sprintf("GIT_CONFIG_KEY_%d=%s", i, p[0]), fmt.Sprintf("GIT_CONFIG_VALUE_%d=%s", i, p[1]))
	}
	return env
}

// limited stops a program that prints without end.
type limited struct {
	buf  *bytes.Buffer
	left int
	w    *watch
}

func (l *limited) Write(p []byte) (int, error) {
	l.w.alive()
	if l.left -= len(p); l.left < 0 {
		return 0, ErrLimit
	}
	return l.buf.Write(p)
}

// report keeps the end of what git says, and passes it on.
type report struct {
	watch *watch
	log   func([]byte)
	tail  []byte
}

func (r *report) Write(p []byte) (int, error) {
	r.watch.alive()
	if r.log != nil {
		r.log(p)
	}
	const most = 4 << 10
	r.tail = append(r.tail, p...)
	if extra := len(r.tail) - most; extra > 0 {
		r.tail = append(r.tail[:0], r.tail[extra:]...)
	}
	return len(p), nil
}

// last is what git complained of, in one line and without the password of remote.
func (r *report) last(remote string) string {
	var lines []string
	scan := bufio.NewScanner(bytes.NewReader(r.tail))
	for scan.Scan() {
		line := strings.TrimSpace(scan.Text())
		if i := strings.LastIndexByte(line, '\r'); i >= 0 {
			line = line[i+1:] // progress that was drawn over
		}
		for _, mark := range []string{"fatal: ", "error: ", "remote: "} {
			if rest, ok := strings.CutPrefix(line, mark); ok && rest != "" {
				lines = append(lines, rest)
			}
		}
	}
	if len(lines) == 0 {
		lines = strings.Split(strings.TrimSpace(string(r.tail)), "\n")
		lines = lines[max(0, len(lines)-3):]
	}
	said := strings.Join(lines, "; ")
	if u, err := url.Parse(remote); err == nil && u.User != nil {
		if password, ok := u.User.Password(); ok && password != "" {
			said = strings.ReplaceAll(said, password, "xxxxx")
		}
	}
	return said
}

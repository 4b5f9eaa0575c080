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

// git runs the program of that name.
type git struct {
	Repo
	home string // an empty folder
	dir  string // where it runs; with repo the top of the tree
	repo string // of .git; empty: none
}

// maxOutput bounds what is read of git's answer: a million refs.
const maxOutput = 64 << 20

// maxMemory is what each process of git may have: more than indexing the largest known repositories takes.
const maxMemory = 4 << 30

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
	program, err := exec.LookPath("git")
	if err != nil {
		return nil, errors.New("git is not installed: sources from git repositories need it")
	}
	// What a server makes git hold in memory, and write to one file, has an end.
	limits := fmt.Sprintf(`ulimit -d %d; ulimit -f %d; exec "$0" "$@"`, maxMemory>>10, int64(maxSize)>>9)
	cmd := exec.CommandContext(w.ctx, "sh", append([]string{"-c", limits, program}, args...)...)
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
	answer := &limited{buf: &out, left: maxOutput, w: w}
	cmd.Stdout, cmd.Stderr = answer, said
	err = cmd.Run()
	if err == nil {
		return out.Bytes(), nil
	}
	if cause := context.Cause(w.ctx); cause != nil {
		return nil, cause
	}
	if answer.left < 0 {
		return nil, fmt.Errorf("the answer of git is %w", ErrLimit)
	}
	return nil, &gitError{said: g.hide(said.last(g.Remote)), err: err}
}

// hide takes out what servers repeat of what they were sent.
func (g git) hide(said string) string {
	for _, h := range g.Hide {
		said = strings.ReplaceAll(said, h, "****")
	}
	return said
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
	// Hosts the user knows must have the key he knows; others are taken at their word, and forgotten again.
	ssh := "ssh -F /dev/null -oBatchMode=yes -oStrictHostKeyChecking=accept-new -oConnectTimeout=30 -oServerAliveInterval=15" +
		` -oUserKnownHostsFile="\"$NACRE_NEW_HOSTS\" \"$NACRE_KNOWN_HOSTS\""`
	if !g.ByUser {
		ssh += " -oIdentityFile=none"
	}
	env := []string{
		"PATH=" + os.Getenv("PATH"), "LC_ALL=C", "HOME=" + g.home, "XDG_CONFIG_HOME=" + g.home,
		"GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null", "GIT_ATTR_NOSYSTEM=1",
		"GIT_TERMINAL_PROMPT=0", "GIT_ASKPASS=", "SSH_ASKPASS=", "GIT_LFS_SKIP_SMUDGE=1",
		"GIT_ALLOW_PROTOCOL=" + protocols, "GIT_SSH_COMMAND=" + ssh, "GIT_SSH_VARIANT=ssh",
		"NACRE_NEW_HOSTS=" + sshPath(filepath.Join(g.home, "known_hosts")),
	}
	known := "/dev/null"
	if home, err := os.UserHomeDir(); err == nil {
		known = filepath.Join(home, ".ssh", "known_hosts")
	}
	env = append(env, "NACRE_KNOWN_HOSTS="+sshPath(known))
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

// sshPath is a path as options of ssh have it: "%" begins what it replaces.
func sshPath(path string) string { return strings.ReplaceAll(path, "%", "%%") }

// config is git's configuration, in variables: what is there no other user sees in the list of processes.
func (g git) config() []string {
	pairs := [][2]string{
		{"core.hooksPath", "/dev/null"}, {"core.fsmonitor", "false"}, {"core.autocrlf", "false"},
		{"credential.helper", ""}, {"advice.detachedHead", "false"}, {"gc.auto", "0"}, {"maintenance.auto", "false"},
		{"http.lowSpeedLimit", "1"}, {"http.lowSpeedTime", "60"},
		{"fetch.recurseSubmodules", "false"}, {"submodule.recurse", "false"},
		{"transfer.bundleURI", "false"}, {"transfer.unpackLimit", "1"}, // a file each is slow to look at
	}
	if u, err := url.Parse(g.Remote); g.Authorization != "" && err == nil {
		// Only that repository; of github.com all, as everybody does: its submodules are next to it.
		scope := g.Remote
		if u.Scheme == "https" && (u.Host == "github.com" || u.Host == "www.github.com") {
			scope = "https://" + u.Host + "/"
		}
		pairs = append(pairs, [2]string{"http." + scope + ".extraheader", "Authorization: " + g.Authorization},
			[2]string{"http." + scope + ".followRedirects", "false"}) // see settle
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
	before := ""
	scan := bufio.NewScanner(bytes.NewReader(r.tail))
	for scan.Scan() {
		line := strings.TrimSpace(scan.Text())
		if i := strings.LastIndexByte(line, '\r'); i >= 0 {
			line = line[i+1:] // progress that was drawn over
		}
		if line == "fatal: Could not read from remote repository." && before != "" {
			lines = append(lines, before) // what ssh said
			continue
		}
		if line != "" {
			before = line
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

package main

import (
	"fmt"
	"net"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// servers are the commands that serve a script's files, each until the script ends.
func servers() map[string]func(*testscript.TestScript, bool, []string) {
	return map[string]func(*testscript.TestScript, bool, []string){
		"httpd": serveFiles, "registry": serveRegistry, "s3": serveS3, "gitd": serveGit, "git-daemon": serveGitDaemon, "sshd": serveSSH,
	}
}

// website serves a folder, and misbehaves where the first part of the path says so.
type website struct {
	dir   string
	files http.Handler
	log   *os.File
	mu    sync.Mutex
	asked map[string]int
}

// serveFiles is "httpd VAR DIR": VAR becomes the URL. What it is asked is written to VAR.log.
func serveFiles(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: httpd VAR DIR")
	}
	log, err := os.Create(ts.MkAbs(args[0] + ".log"))
	ts.Check(err)
	site := &website{dir: ts.MkAbs(args[1]), files: http.FileServer(http.Dir(ts.MkAbs(args[1]))), log: log, asked: map[string]int{}}
	s := httptest.NewServer(site)
	ts.Defer(func() { s.Close(); log.Close() })
	ts.Setenv(args[0], s.URL)
}

func (s *website) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.asked[r.URL.Path]++
	n := s.asked[r.URL.Path]
	status := &statusWriter{ResponseWriter: w, code: 200}
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		fmt.Fprintf(s.log, "%s %s %d range=%q auth=%q\n", r.Method, r.URL.Path, status.code, r.Header.Get("Range"), r.Header.Get("Authorization"))
	}()
	what, rest, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	file := r.Clone(r.Context())
	file.URL.Path = "/" + rest
	switch what {
	case "auth":
		if got := r.Header.Get("Authorization"); got != "Bearer t0ken-value" {
			http.Error(status, "I do not take "+got, http.StatusForbidden)
			return
		}
	case "busy": // the first time
		if n == 1 {
			status.WriteHeader(http.StatusServiceUnavailable)
			return
		}
	case "loop":
		http.Redirect(status, r, r.URL.Path+"x", http.StatusFound)
		return
	case "away": // away/PORT/FILE: to another name of this machine
		port, rest, _ := strings.Cut(rest, "/")
		http.Redirect(status, r, "http://localhost:"+port+"/plain/"+rest, http.StatusFound)
		return
	case "cut": // half of it, the first time
		if n == 1 {
			data, err := os.ReadFile(filepath.Join(s.dir, rest))
			if err != nil {
				http.Error(status, err.Error(), http.StatusNotFound)
				return
			}
			status.Header().Set("ETag", `"cut"`)
			status.Header().Set("Content-Length", strconv.Itoa(len(data)))
			status.Write(data[:len(data)/2])
			return
		}
		status.Header().Set("ETag", `"cut"`)
	case "plain":
	default:
		file = r
	}
	s.files.ServeHTTP(status, file)
}

type statusWriter struct {
	http.ResponseWriter
	code int
}

func (w *statusWriter) WriteHeader(code int) {
	w.code = code
	w.ResponseWriter.WriteHeader(code)
}

// serveGit is "gitd VAR DIR [AUTHORIZATION]": the repositories in DIR by HTTP. A request without the header is
// refused, in words that repeat what it had instead.
func serveGit(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 || len(args) > 3 {
		ts.Fatalf("usage: gitd VAR DIR [AUTHORIZATION]")
	}
	path, err := exec.Command("git", "--exec-path").Output()
	ts.Check(err)
	h := &cgi.Handler{
		Path: strings.TrimSpace(string(path)) + "/git-http-backend",
		Env: []string{
			"GIT_PROJECT_ROOT=" + ts.MkAbs(args[1]), "GIT_HTTP_EXPORT_ALL=1", "HOME=/dev/null",
			"GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=safe.directory", "GIT_CONFIG_VALUE_0=*",
		},
	}
	log, err := os.Create(ts.MkAbs(args[0] + ".log"))
	ts.Check(err)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		auth := r.Header.Get("Authorization")
		fmt.Fprintf(log, "%s auth=%q\n", r.URL.Path, auth)
		if port, rest, ok := strings.Cut(strings.TrimPrefix(r.URL.Path, "/away/"), "/"); ok && strings.HasPrefix(r.URL.Path, "/away/") {
			http.Redirect(w, r, "http://localhost:"+port+"/"+rest+"?"+r.URL.RawQuery, http.StatusFound)
			return
		}
		if len(args) == 3 && auth != args[2] {
			w.Header().Set("Content-Type", "text/plain")
			w.WriteHeader(http.StatusForbidden)
			fmt.Fprintf(w, "I do not take %s\n", auth)
			return
		}
		h.ServeHTTP(w, r)
	}))
	ts.Defer(func() { s.Close(); log.Close() })
	ts.Setenv(args[0], s.URL)
}

// serveGitDaemon is "git-daemon VAR DIR": the repositories in DIR by git's own protocol.
func serveGitDaemon(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: git-daemon VAR DIR")
	}
	path, err := exec.Command("git", "--exec-path").Output()
	ts.Check(err)
	port := freePort(ts)
	dir := ts.MkAbs(args[1])
	cmd := exec.Command(strings.TrimSpace(string(path))+"/git-daemon", "--listen=127.0.0.1", "--port="+port, "--export-all", "--base-path="+dir, "--reuseaddr")
	cmd.Env = append(os.Environ(), "GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=safe.directory", "GIT_CONFIG_VALUE_0=*")
	start(ts, port, cmd)
	ts.Setenv(args[0], "git://127.0.0.1:"+port)
}

// serveSSH is "sshd VAR": a real one, where root gets in with the key ssh/id. VAR becomes its port. Its own key
// is ssh/host.pub.
func serveSSH(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: sshd VAR")
	}
	dir, port := ts.MkAbs("ssh"), freePort(ts)
	ts.Check(os.MkdirAll(dir, 0o700))
	for _, name := range []string{"host", "id"} {
		ts.Check(ts.Exec("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", filepath.Join(dir, name)))
	}
	ts.Check(os.MkdirAll("/run/sshd", 0o755)) // it insists
	start(ts, port, exec.Command("/usr/sbin/sshd", "-D", "-e", "-f", "/dev/null", "-p", port, "-h", filepath.Join(dir, "host"),
		"-o", "ListenAddress=127.0.0.1", "-o", "AuthorizedKeysFile="+filepath.Join(dir, "id.pub"), "-o", "StrictModes=no", "-o", "UsePAM=no",
		"-o", "PidFile=none", "-o", "PasswordAuthentication=no", "-o", "PermitRootLogin=yes"))
	ts.Setenv(args[0], port)
}

func freePort(ts *testscript.TestScript) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	defer l.Close()
	return strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
}

// start runs a server until the script ends, and waits until it answers at port.
func start(ts *testscript.TestScript, port string, cmd *exec.Cmd) {
	var said strings.Builder
	cmd.Stderr = &said
	ts.Check(cmd.Start())
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	ts.Defer(func() { cmd.Process.Kill(); <-ended })
	for deadline := time.Now().Add(20 * time.Second); ; {
		c, err := net.Dial("tcp", "127.0.0.1:"+port)
		if err == nil {
			c.Close()
			return
		}
		select {
		case err := <-ended:
			ended <- err
			ts.Fatalf("%s: %v\n%s", cmd.Path, err, said.String())
		case <-time.After(20 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			ts.Fatalf("%s does not answer: %v", cmd.Path, err)
		}
	}
}

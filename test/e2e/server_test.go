package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// server is a container that serves, started by start.
type server struct {
	cmd    *exec.Cmd
	out    *lockedBuffer
	waited chan struct{}
}

// start runs nacre without waiting for its end, which comes with the test's at the latest.
func (s *store) start(t testing.TB, args ...string) *server {
	t.Helper()
	srv := &server{cmd: s.cmd(args...), out: &lockedBuffer{}, waited: make(chan struct{})}
	srv.cmd.Stdout, srv.cmd.Stderr = srv.out, srv.out
	if err := srv.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { srv.cmd.Wait(); close(srv.waited) }()
	t.Cleanup(func() { srv.cmd.Process.Kill(); <-srv.waited })
	return srv
}

// stop sends a signal and returns the exit code, -1 where it took more than a minute.
func (srv *server) stop(sig syscall.Signal) int {
	srv.cmd.Process.Signal(sig)
	select {
	case <-srv.waited:
		return srv.cmd.ProcessState.ExitCode()
	case <-time.After(time.Minute):
		return -1
	}
}

// child is the process id, as this machine counts, of the first process in the container.
func (srv *server) child(t testing.TB) int {
	t.Helper()
	first := 0
	if within(patience, func() bool {
		for _, pid := range descendants(srv.cmd.Process.Pid) {
			status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
			_, ids, _ := strings.Cut(string(status), "\nNSpid:")
			ids, _, _ = strings.Cut(ids, "\n")
			// Before it becomes the user's program it is still nacre.
			cmd, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
			if strings.HasSuffix(ids, "\t1") && !bytes.HasPrefix(cmd, []byte("nacre")) && !bytes.HasPrefix(cmd, []byte(nacre)) {
				first = pid
			}
		}
		return first > 0
	}) {
		return first
	}
	t.Fatalf("the container has no process: %s", srv.out)
	return 0
}

// descendants are the children of a process, theirs, and so on.
func descendants(pid int) []int {
	var pids []int
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, task := range tasks {
		data, _ := os.ReadFile(task)
		for _, f := range strings.Fields(string(data)) {
			if child, err := strconv.Atoi(f); err == nil {
				pids = append(append(pids, child), descendants(child)...)
			}
		}
	}
	return pids
}

// get fetches a page, and waits for the server to come up.
func (srv *server) get(t testing.TB, url string) string {
	t.Helper()
	var last error
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		select {
		case <-srv.waited:
			t.Fatalf("the server ended: %s", srv.out)
		default:
		}
		resp, err := http.Get(url)
		if err == nil {
			body, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if err == nil && resp.StatusCode == http.StatusOK {
				return string(body)
			}
			last = errors.Join(fmt.Errorf("%s: %s", url, resp.Status), err)
		} else {
			last = err
		}
	}
	t.Fatalf("no page: %v\n%s", last, srv.out)
	return ""
}

// waitFor waits until the container has printed text.
func (srv *server) waitFor(t testing.TB, text string) {
	t.Helper()
	if !within(patience, func() bool { return strings.Contains(srv.out.String(), text) }) {
		t.Fatalf("%q was not printed: %s", text, srv.out)
	}
}

// freePort is a TCP port of the loopback interface that nothing listened on just now.
func freePort(t testing.TB) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

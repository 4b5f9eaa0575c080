package main

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// server is a registry that is measured, with a folder of its own.
type server struct {
	name, version string
	// command starts it on an address with a folder.
	command func(addr, dir string) (*exec.Cmd, error)

	cmd *exec.Cmd
	dir string
	url string // http://127.0.0.1:PORT
}

// servers are nacre and those of the peers that are installed.
func servers(o options) []*server {
	list := []*server{{
		name: "nacre", version: "",
		command: func(addr, dir string) (*exec.Cmd, error) {
			return exec.Command(o.nacre, "--log-level", "error", "serve", "--dir", dir, "--addr", addr), nil
		},
	}}
	if _, err := exec.LookPath("docker-registry"); err != nil {
		fmt.Println("docker-registry is not installed: no figures of it")
		return list
	}
	fields := strings.Fields(output("docker-registry", "--version"))
	return append(list, &server{name: "docker-registry", version: fields[len(fields)-1], command: distribution})
}

// distribution is Debian's docker-registry as its package configures it, without log lines
// for each request.
func distribution(addr, dir string) (*exec.Cmd, error) {
	config := filepath.Join(dir, "config.yml")
	text := fmt.Sprintf(`version: 0.1
log:
  level: error
  accesslog:
    disabled: true
storage:
  cache:
    blobdescriptor: inmemory
  filesystem:
    rootdirectory: %s
http:
  addr: %s
`, filepath.Join(dir, "data"), addr)
	if err := os.WriteFile(config, []byte(text), 0o644); err != nil {
		return nil, err
	}
	return exec.Command("docker-registry", "serve", config), nil
}

// start begins with an empty folder and waits until the server answers.
func (s *server) start(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	addr := l.Addr().String()
	l.Close()
	if s.cmd, err = s.command(addr, dir); err != nil {
		return err
	}
	log, err := os.Create(dir + ".log")
	if err != nil {
		return err
	}
	defer log.Close()
	s.cmd.Stdout, s.cmd.Stderr = log, log
	s.dir = dir
	s.url = "http://" + addr
	if err := s.cmd.Start(); err != nil {
		return err
	}
	for range 1000 {
		r, err := http.Get(s.url + "/v2/")
		if err == nil {
			r.Body.Close()
			return nil
		}
		time.Sleep(10 * time.Millisecond)
	}
	text, _ := os.ReadFile(log.Name())
	return errors.Join(fmt.Errorf("%s does not answer: %s", s.name, tail(text, 2000)), s.stop())
}

func (s *server) stop() error {
	s.cmd.Process.Signal(syscall.SIGTERM)
	s.cmd.Wait()
	return nil
}

// usage is the processor time the server has used so far, and its largest memory in bytes.
func (s *server) usage() (cpu time.Duration, peak int64, err error) {
	proc := "/proc/" + strconv.Itoa(s.cmd.Process.Pid)
	stat, err := os.ReadFile(proc + "/stat")
	if err != nil {
		return 0, 0, err
	}
	// After the name in parentheses: state is field 3, utime 14 and stime 15, in 1/100 s.
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	for _, f := range fields[11:13] {
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return 0, 0, err
		}
		cpu += time.Duration(n) * 10 * time.Millisecond
	}
	status, err := os.ReadFile(proc + "/status")
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kb, _, _ := strings.Cut(strings.TrimSpace(rest), " ")
			peak, _ = strconv.ParseInt(kb, 10, 64)
		}
	}
	return cpu, peak << 10, err
}

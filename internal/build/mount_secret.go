package build

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"nacre/internal/graph"
	"nacre/internal/rootfs"
	"nacre/internal/sandbox"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// maxSecret is the largest value of a secret, as BuildKit has it.
const maxSecret = 500 << 10

// secret gives a step the value of a secret: as a file in memory, as a variable, or both.
func (w *work) secret(m graph.Mount, config *sandbox.Config) error {
	value, err := w.secretValue(m)
	switch {
	case err != nil:
		return err
	case value == nil:
		return nil
	case len(value) > maxSecret:
		return fmt.Errorf("secret %s: %d bytes are more than the %d a secret may have", m.ID, len(value), maxSecret)
	case m.Env != "" && bytes.IndexByte(value, 0) >= 0:
		return fmt.Errorf("secret %s: it has a zero byte, which a variable cannot have", m.ID)
	}
	w.hide(value)
	if m.Env != "" {
		p := config.Spec.Process
		p.Env = setEnv(p.Env, m.Env, string(value))
	}
	if m.Target != "" {
		config.Files = append(config.Files, sandbox.File{
			Path: m.Target, Data: value, Mode: fileMode(m.Mode, 0o400), UID: int(grab(m.UID)), GID: int(grab(m.GID)),
		})
	}
	return nil
}

// secretValue is the value of a secret, nil where there is none and none is required.
func (s *solver) secretValue(m graph.Mount) (value []byte, err error) {
	if s.o.Secret != nil {
		if value, err = s.o.Secret(m.ID); err != nil {
			return nil, fmt.Errorf("secret %s: %w", m.ID, err)
		}
	}
	if value == nil && m.Required {
		return nil, &AbsentError{What: "secret", ID: m.ID, Hint: "build with --secret id=" + m.ID + ",src=FILE or --secret id=" + m.ID + ",env=NAME"}
	}
	return value, nil
}

// required tells whether what a RUN cannot be without was given. It is asked of cached steps, too:
// whether a build fails must not hang on what somebody built before.
func (s *solver) required(list []graph.Mount) error {
	for _, m := range list {
		var err error
		switch {
		case !m.Required:
		case m.Type == graph.MountSecret:
			_, err = s.secretValue(m)
		case m.Type == graph.MountSSH:
			_, err = s.agent(m)
		}
		if err != nil {
			return fmt.Errorf("mount of type %s: %w", m.Type, err)
		}
	}
	return nil
}

// AbsentError is a secret or agent that a step requires and the build was not given.
type AbsentError struct{ What, ID, Hint string }

func (e *AbsentError) Error() string {
	return fmt.Sprintf("%s %s is required, and not given: %s", e.What, e.ID, e.Hint)
}

func setEnv(env []string, name, value string) []string {
	var out []string
	for _, kv := range env {
		if !strings.HasPrefix(kv, name+"=") {
			out = append(out, kv)
		}
	}
	return append(out, name+"="+value)
}

func hasEnv(env []string, name string) bool {
	for _, kv := range env {
		if strings.HasPrefix(kv, name+"=") {
			return true
		}
	}
	return false
}

func grab(n *uint32) uint32 { return value(n, 0) }

func fileMode(mode *uint32, byDefault uint32) fs.FileMode {
	return fs.FileMode(value(mode, byDefault)).Perm()
}

// ssh gives a step the socket of an agent. It is one of the step's own, which ends with it: the
// agent's socket stays with its owner and mode.
func (w *work) ssh(m graph.Mount, config *sandbox.Config) error {
	agent, err := w.agent(m)
	if agent == "" || err != nil {
		return err
	}
	dir, remove, err := w.Store.TempDir("ssh")
	if err != nil {
		return err
	}
	w.temp = append(w.temp, remove)
	f, err := forward(dir, agent)
	if err != nil {
		return err
	}
	w.temp = append(w.temp, f.close)
	path := filepath.Join(dir, socketName)
	if err := rootfs.Chown(path, int(grab(m.UID)), int(grab(m.GID))); err != nil {
		return err
	}
	if err := os.Chmod(path, fileMode(m.Mode, 0o600)); err != nil {
		return err
	}
	config.Spec.Mounts = append(config.Spec.Mounts, specs.Mount{
		Destination: m.Target, Type: "bind", Source: path, Options: []string{"nosuid", "nodev", "noexec"},
	})
	return nil
}

// agent is the socket of an agent, empty where there is none and none is required.
func (s *solver) agent(m graph.Mount) (string, error) {
	socket := s.o.SSH[m.ID]
	if socket == "" && m.Required {
		return "", &AbsentError{What: "SSH agent", ID: m.ID, Hint: "build with --ssh " + m.ID}
	}
	return socket, nil
}

const socketName = "agent"

// forwarder passes connections to one socket on to another.
type forwarder struct {
	listener *net.UnixListener
	wg       sync.WaitGroup
	mu       sync.Mutex
	open     map[net.Conn]bool // nil: closed
}

// forward listens on a socket in dir for what is to reach agent.
func forward(dir, agent string) (*forwarder, error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	// The path of a socket has 107 bytes at most (unix(7)), which dir may have already.
	l, err := net.ListenUnix("unix", &net.UnixAddr{Net: "unix", Name: "/proc/self/fd/" + strconv.Itoa(int(d.Fd())) + "/" + socketName})
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false) // that name will be another's; the folder goes
	f := &forwarder{listener: l, open: map[net.Conn]bool{}}
	f.wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			f.wg.Go(func() { f.pass(c, agent) })
		}
	})
	return f, nil
}

// pass copies both ways until either side ends.
func (f *forwarder) pass(c net.Conn, agent string) {
	defer f.end(c)
	if !f.begin(c) {
		return
	}
	a, err := net.Dial("unix", agent)
	if err != nil {
		return // as if the agent had gone away
	}
	defer f.end(a)
	if !f.begin(a) {
		return
	}
	f.wg.Go(func() {
		io.Copy(a, c)
		if u, ok := a.(*net.UnixConn); ok {
			u.CloseWrite()
		}
	})
	io.Copy(c, a)
}

func (f *forwarder) begin(c net.Conn) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.open == nil {
		return false
	}
	f.open[c] = true
	return true
}

func (f *forwarder) end(c net.Conn) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.open, c)
	c.Close()
}

// close ends all connections and waits for that.
func (f *forwarder) close() {
	f.listener.Close()
	f.mu.Lock()
	open := f.open
	f.open = nil
	for c := range open {
		c.Close()
	}
	f.mu.Unlock()
	f.wg.Wait()
}

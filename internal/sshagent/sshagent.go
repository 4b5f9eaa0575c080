// Package sshagent turns the values of --ssh into sockets on which SSH agents answer:
// agents that run already, or one of our own that holds the keys of files. Builds
// may use the keys, and neither see nor change them.
package sshagent

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
)

// Source is one --ssh: an ID, and the sockets or private keys it stands for.
type Source struct {
	ID    string
	Paths []string // a socket, or files of keys; none: the agent of $SSH_AUTH_SOCK
}

// Parse reads "default", "ID", or "ID=SOCKET|KEY[,KEY...]".
func Parse(value string) (Source, error) {
	id, paths, given := strings.Cut(value, "=")
	s := Source{ID: id}
	if given {
		s.Paths = strings.Split(paths, ",")
	}
	for _, p := range s.Paths {
		if p == "" {
			return s, fmt.Errorf("%q: want ID=PATH[,PATH]", value)
		}
	}
	if id == "" {
		return s, fmt.Errorf("%q: want default, ID or ID=PATH[,PATH]", value)
	}
	return s, nil
}

// Agents are sockets that agents answer on.
type Agents struct {
	dir       string
	sockets   map[string]string
	listeners []net.Listener
	wg        sync.WaitGroup
	mu        sync.Mutex
	open      map[net.Conn]bool // nil: closed
}

// Serve starts an agent for each source, answering on a socket of this user alone. Files are read,
// and sockets looked at, at once, so that what is not there is known before anything is built.
func Serve(sources []Source) (*Agents, error) {
	a := &Agents{sockets: map[string]string{}, open: map[net.Conn]bool{}}
	for _, s := range sources {
		if err := a.serve(s); err != nil {
			a.Close()
			return nil, fmt.Errorf("ssh %s: %w", s.ID, err)
		}
	}
	return a, nil
}

// Sockets are the paths by ID.
func (a *Agents) Sockets() map[string]string { return a.sockets }

func (a *Agents) serve(s Source) error {
	if a.sockets[s.ID] != "" {
		return errors.New("given more than once")
	}
	open, err := opener(s)
	if err != nil {
		return err
	}
	if a.dir == "" {
		if a.dir, err = os.MkdirTemp("", "nacre-ssh-"); err != nil { // mode 0700
			return err
		}
	}
	path := filepath.Join(a.dir, strconv.Itoa(len(a.sockets)))
	l, err := net.Listen("unix", path)
	if err != nil {
		return err
	}
	a.listeners = append(a.listeners, l)
	a.sockets[s.ID] = path
	a.wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			a.wg.Go(func() { a.answer(c, open) })
		}
	})
	return nil
}

// opener returns what makes an agent for a connection, and its end.
func opener(s Source) (func() (agent.Agent, io.Closer, error), error) {
	if len(s.Paths) == 0 {
		socket := os.Getenv("SSH_AUTH_SOCK")
		if socket == "" {
			return nil, errors.New("there is no agent: SSH_AUTH_SOCK is not set; start one, or name the file of a key with " + s.ID + "=FILE")
		}
		s.Paths = []string{socket}
	}
	keys := agent.NewKeyring()
	for _, path := range s.Paths {
		info, err := os.Stat(path)
		if err != nil {
			return nil, err
		}
		if info.Mode()&os.ModeSocket != 0 {
			if len(s.Paths) > 1 {
				return nil, fmt.Errorf("%s is a socket: it cannot be one of several", path)
			}
			return func() (agent.Agent, io.Closer, error) {
				c, err := net.Dial("unix", path)
				if err != nil {
					return nil, nil, err
				}
				return agent.NewClient(c), c, nil
			}, nil
		}
		if err := addKey(keys, path); err != nil {
			return nil, err
		}
	}
	return func() (agent.Agent, io.Closer, error) { return keys, io.NopCloser(nil), nil }, nil
}

// maxKey is more than any file of a private key has.
const maxKey = 100 << 10

func addKey(keys agent.Agent, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxKey+1))
	if err != nil {
		return err
	}
	if len(data) > maxKey {
		return fmt.Errorf("%s: too large for a private key", path)
	}
	key, err := ssh.ParseRawPrivateKey(data)
	var locked *ssh.PassphraseMissingError
	if errors.As(err, &locked) {
		return fmt.Errorf("%s has a passphrase: add it to an SSH agent, and give that", path)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return keys.Add(agent.AddedKey{PrivateKey: key, Comment: filepath.Base(path)})
}

// answer serves one connection.
func (a *Agents) answer(c net.Conn, open func() (agent.Agent, io.Closer, error)) {
	defer a.end(c)
	a.mu.Lock()
	closed := a.open == nil
	if !closed {
		a.open[c] = true
	}
	a.mu.Unlock()
	if closed {
		return
	}
	keys, closer, err := open()
	if err != nil {
		return // whoever asks sees an agent that went away
	}
	defer closer.Close()
	agent.ServeAgent(readOnly{keys}, c) // ends with the connection
}

func (a *Agents) end(c net.Conn) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.open, c)
	c.Close()
}

// Close ends the agents and removes their sockets.
func (a *Agents) Close() error {
	for _, l := range a.listeners {
		l.Close()
	}
	a.mu.Lock()
	for c := range a.open {
		c.Close()
	}
	a.open = nil
	a.mu.Unlock()
	a.wg.Wait()
	if a.dir == "" {
		return nil
	}
	return os.RemoveAll(a.dir)
}

// readOnly lets keys be listed and used, and nothing else. It has no extensions.
type readOnly struct{ agent.Agent }

var errReadOnly = errors.New("a build may not change the agent")

func (readOnly) Add(agent.AddedKey) error       { return errReadOnly }
func (readOnly) Remove(ssh.PublicKey) error     { return errReadOnly }
func (readOnly) RemoveAll() error               { return errReadOnly }
func (readOnly) Lock([]byte) error              { return errReadOnly }
func (readOnly) Unlock([]byte) error            { return errReadOnly }
func (readOnly) Signers() ([]ssh.Signer, error) { return nil, errReadOnly }

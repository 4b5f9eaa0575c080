package container

import (
	"os"

	"nacre/internal/sandbox"

	"golang.org/x/sys/unix"
)

// openStdin gives the container its input: that of this process, or a pipe for whoever is attached.
func (m *monitor) openStdin(config *sandbox.Config, s Streams) (closeAll func(), err error) {
	if s.Stdin != nil {
		config.Stdin = s.Stdin
		return func() {}, nil
	}
	if !m.c.Config.OpenStdin {
		return func() {}, nil
	}
	r, w, err := inputPipe()
	if err != nil {
		return nil, err
	}
	config.Stdin = r
	m.mu.Lock()
	m.stdin = w
	m.mu.Unlock()
	return func() {
		r.Close()
		m.closeStdin()
	}, nil
}

// inputPipe is a pipe whose reading end programs can have: a read waits there until there is something.
func inputPipe() (r, w *os.File, err error) {
	if r, w, err = os.Pipe(); err != nil {
		return nil, nil, err
	}
	if err := unix.SetNonblock(int(r.Fd()), false); err != nil {
		r.Close()
		w.Close()
		return nil, nil, os.NewSyscallError("fcntl", err)
	}
	return r, w, nil
}

// closeStdin ends the container's input.
func (m *monitor) closeStdin() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.stdin != nil {
		m.stdin.Close()
		m.stdin = nil
	}
}

// input passes input on. It is dropped where the container reads none.
func (m *monitor) input(p []byte) {
	m.mu.Lock()
	w := m.stdin
	m.mu.Unlock()
	if w != nil {
		w.Write(p)
	}
}

package sandbox

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// consoleSocket is where a runtime sends the master of a terminal.
type consoleSocket struct {
	path     string // as the runtime is told: short, wherever the directory is
	dir      *os.File
	listener *net.UnixListener
	size     *specs.Box
	received chan received // of one
	taken    bool
}

// received is the terminal, or why there is none.
type received struct {
	terminal *os.File
	err      error
}

// listenConsole makes the socket and waits at it. The terminal gets its size as soon as it is there: runc does so by itself only
// since 1.2, runsc does not, and the program may ask right away.
func listenConsole(dir string, size *specs.Box) (*consoleSocket, error) {
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: dir, Err: err}
	}
	s := &consoleSocket{dir: os.NewFile(uintptr(fd), dir), size: size, received: make(chan received, 1)}
	s.path = filepath.Join(fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), fd), runtimeConsole)
	if s.listener, err = net.ListenUnix("unix", &net.UnixAddr{Name: s.path, Net: "unix"}); err != nil {
		s.dir.Close()
		return nil, err
	}
	s.listener.SetUnlinkOnClose(false)
	go func() {
		f, err := s.receive()
		s.received <- received{f, err}
	}()
	return s, nil
}

func (s *consoleSocket) close() {
	s.listener.Close()
	s.dir.Close()
	if s.taken {
		return
	}
	if r := <-s.received; r.terminal != nil { // nobody wants it
		r.terminal.Close()
	}
}

// take is the terminal. The runtime has ended: what it sent is there.
func (s *consoleSocket) take() (*os.File, error) {
	s.listener.SetDeadline(time.Now().Add(10 * time.Second))
	s.taken = true
	r := <-s.received
	return r.terminal, r.err
}

func (s *consoleSocket) receive() (*os.File, error) {
	conn, err := s.listener.AcceptUnix()
	if err != nil {
		return nil, fmt.Errorf("receive terminal: %w", err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	buf, rights := make([]byte, 4<<10), make([]byte, unix.CmsgSpace(4))
	_, rn, _, _, err := conn.ReadMsgUnix(buf, rights)
	if err != nil {
		return nil, fmt.Errorf("receive terminal: %w", err)
	}
	fds, err := receivedFds(rights[:rn], 1)
	if err != nil {
		return nil, fmt.Errorf("receive terminal: %w", err)
	}
	unix.CloseOnExec(fds[0])
	if err := unix.SetNonblock(fds[0], true); err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fds[0]), "terminal")
	if f == nil {
		return nil, errors.New("receive terminal: it is closed")
	}
	if raw, err := f.SyscallConn(); err == nil && s.size != nil {
		raw.Control(func(fd uintptr) { setSize(int(fd), Size{int(s.size.Width), int(s.size.Height)}) })
	}
	return f, nil
}

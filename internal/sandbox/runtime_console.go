package sandbox

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// consoleSocket is where a runtime sends the master of a terminal.
type consoleSocket struct {
	path     string // as the runtime is told: short, wherever the directory is
	dir      *os.File
	listener *net.UnixListener
}

func listenConsole(dir string) (*consoleSocket, error) {
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: dir, Err: err}
	}
	s := &consoleSocket{dir: os.NewFile(uintptr(fd), dir)}
	s.path = filepath.Join(fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), fd), runtimeConsole)
	if s.listener, err = net.ListenUnix("unix", &net.UnixAddr{Name: s.path, Net: "unix"}); err != nil {
		s.dir.Close()
		return nil, err
	}
	s.listener.SetUnlinkOnClose(false)
	return s, nil
}

func (s *consoleSocket) close() {
	s.listener.Close()
	s.dir.Close()
}

// receive takes the terminal. The runtime has ended: what it sent is there.
func (s *consoleSocket) receive() (*os.File, error) {
	s.listener.SetDeadline(time.Now().Add(10 * time.Second))
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
	return f, nil
}

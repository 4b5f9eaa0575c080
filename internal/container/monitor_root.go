package container

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// root opens the root of the container as its first process sees it, with all that is mounted there.
func (m *monitor) root() (*os.File, error) {
	m.mu.Lock()
	pid, alive := m.state.Pid, m.state.Status == StatusRunning || m.state.Status == StatusPaused
	m.mu.Unlock()
	if !alive || pid == 0 {
		return nil, ErrNotRunning
	}
	if m.runtime != nil {
		var err error
		if pid, err = m.runtime.RootProcess(pid); err != nil {
			return nil, err
		}
	}
	return rootOf(pid)
}

// rootOf opens the root of a process, which must be another than ours.
func rootOf(pid int) (*os.File, error) {
	pidfd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return nil, ErrNotRunning
	}
	defer unix.Close(pidfd)
	name := fmt.Sprintf("/proc/%d/root", pid)
	fd, err := unix.Open(name, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ESRCH) {
		return nil, ErrNotRunning
	}
	if err != nil {
		return nil, fmt.Errorf("open the container's root: %w", &os.PathError{Op: "open", Path: name, Err: err})
	}
	root := os.NewFile(uintptr(fd), name)
	if unix.PidfdSendSignal(pidfd, 0, nil, 0) != nil { // else it was another's
		root.Close()
		return nil, ErrNotRunning
	}
	var theirs, ours unix.Stat_t
	err = errors.Join(unix.Fstatat(fd, "", &theirs, unix.AT_EMPTY_PATH), unix.Stat("/", &ours))
	if err == nil && theirs.Ino == ours.Ino && theirs.Dev == ours.Dev {
		err = errors.New("it is this machine's")
	}
	if err != nil {
		root.Close()
		return nil, fmt.Errorf("open the container's root: %w", err)
	}
	return root, nil
}

// giveRoot answers with a descriptor of the root. Who may talk to us may have it: they can read the store.
func (m *monitor) giveRoot(conn net.Conn) {
	root, err := m.root()
	if err != nil {
		writeMessage(conn, frameReply, failure(err))
		return
	}
	defer root.Close()
	if u, ok := conn.(*net.UnixConn); ok {
		u.WriteMsgUnix([]byte{frameReply}, unix.UnixRights(int(root.Fd())), nil)
	}
}

// receiveRoot reads the answer of giveRoot: a descriptor that comes with its first byte, or a reply that
// says why there is none.
func receiveRoot(conn *net.UnixConn) (*os.File, error) {
	head, rights := make([]byte, 1), make([]byte, unix.CmsgSpace(4))
	n, rn, _, _, err := conn.ReadMsgUnix(head, rights)
	if err != nil || n != 1 {
		return nil, errNoMonitor
	}
	if rn == 0 {
		var r reply
		_, data, err := readFrame(&headed{head, conn}, nil)
		if err != nil || json.Unmarshal(data, &r) != nil {
			return nil, errNoMonitor
		}
		if r.Error == ErrNotRunning.Error() {
			return nil, ErrNotRunning
		}
		return nil, errors.New(r.Error)
	}
	messages, err := unix.ParseSocketControlMessage(rights[:rn])
	if err != nil || len(messages) != 1 {
		return nil, errFrame
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) != 1 {
		return nil, errFrame
	}
	unix.CloseOnExec(fds[0])
	return os.NewFile(uintptr(fds[0]), "root"), nil
}

// headed is a connection whose first bytes were read already.
type headed struct {
	head []byte
	net.Conn
}

func (h *headed) Read(p []byte) (int, error) {
	if len(h.head) > 0 {
		n := copy(p, h.head)
		h.head = h.head[n:]
		return n, nil
	}
	return h.Conn.Read(p)
}

package container

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"nacre/internal/sandbox"

	"golang.org/x/sys/unix"
)

// socketAddr is the address of a container's socket by an open descriptor of its folder: the path itself may
// be longer than the 108 bytes that unix(7) has for one.
func socketAddr(dir *os.File) string {
	return "/proc/self/fd/" + strconv.Itoa(int(dir.Fd())) + "/" + socketFile
}

func openDir(name string) (*os.File, error) {
	fd, err := unix.Open(name, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: name, Err: err}
	}
	return os.NewFile(uintptr(fd), name), nil
}

// listen opens the container's socket. Nobody but who may look into the store can.
func (m *monitor) listen() error {
	os.Remove(filepath.Join(m.c.dir, socketFile)) // of a monitor that was killed
	dir, err := openDir(m.c.dir)
	if err != nil {
		return err
	}
	defer dir.Close()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: socketAddr(dir), Net: "unix"})
	if err != nil {
		return fmt.Errorf("listen on the container's socket: %w", err)
	}
	l.SetUnlinkOnClose(false) // by that address it could not
	m.listener = l
	go func() {
		for {
			conn, err := l.Accept()
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err != nil {
				time.Sleep(10 * time.Millisecond) // too many open files
				continue
			}
			m.conns.Go(func() { m.serve(conn) })
		}
	}()
	return nil
}

// serve answers one connection.
func (m *monitor) serve(conn net.Conn) {
	defer conn.Close()
	kind, data, err := readFrame(conn, nil)
	var q request
	if err != nil || kind != frameRequest || json.Unmarshal(data, &q) != nil {
		return
	}
	switch q.Op {
	case opAttach, opStart:
		m.attach(conn, q)
		return
	case opExec:
		m.exec(conn, q)
		return
	case opRoot:
		m.giveRoot(conn)
		return
	}
	if r, ok := m.answer(conn, q); ok {
		writeMessage(conn, frameReply, r)
	}
}

// answer does what is asked for. Without ok there is nobody left to tell.
func (m *monitor) answer(conn net.Conn, q request) (r reply, ok bool) {
	var err error
	switch q.Op {
	case opWait:
		return m.await(conn, q.Next)
	case opSignal:
		if err = m.kill(syscall.Signal(q.Signal)); err == nil && syscall.Signal(q.Signal) == syscall.SIGKILL && !m.untilEnded() {
			return m.stuck(), true
		}
	case opStop:
		return m.stop(syscall.Signal(q.Signal), q.Timeout), true
	case opPause:
		err = m.pause()
	case opUnpause:
		err = m.unpause()
	case opUpdate:
		if q.Update != nil {
			return m.update(*q.Update), true
		}
		err = errFrame
	case opOwner:
		err = m.recordOwner(q.Owner)
	default:
		err = fmt.Errorf("unknown request %q", q.Op)
	}
	if err != nil {
		return reply{Error: err.Error()}, true
	}
	return reply{}, true
}

// attach connects a viewer, until it or the container ends.
func (m *monitor) attach(conn net.Conn, q request) {
	v := newViewer(conn, q)
	defer v.drop()
	m.mu.Lock()
	if q.Width > 0 && q.Height > 0 {
		m.size = sandbox.Size{Width: q.Width, Height: q.Height}
	}
	alive := m.state.Status.Alive()
	if q.Op == opStart {
		m.starting = v
	}
	m.mu.Unlock()
	if q.Op == opStart || q.Stdout || q.Stderr || q.Stdin {
		m.out.attach(v)
		defer m.out.detach(v)
	}
	if q.Op == opAttach {
		if !alive {
			v.finish(&reply{Error: ErrNotRunning.Error()})
			return
		}
		v.tell(reply{Started: true, TTY: m.c.Config.TTY})
		if q.Width > 0 && q.Height > 0 {
			m.resized(sandbox.Size{Width: q.Width, Height: q.Height})
		}
	}
	if q.Op == opStart {
		m.goOnce.Do(func() { close(m.goAhead) })
	}
	m.listenTo(conn, q)
}

// listenTo reads what a viewer sends, until it is gone.
func (m *monitor) listenTo(conn net.Conn, q request) {
	buf := make([]byte, 64<<10)
	for {
		kind, data, err := readFrame(conn, buf)
		if err != nil {
			// Who closes the connection has no more input, but for a terminal's, which may be taken up again.
			if q.Stdin && m.c.Config.StdinOnce && !m.c.Config.TTY {
				m.closeStdin()
			}
			return
		}
		switch kind {
		case frameInput:
			if q.Stdin {
				m.input(data)
			}
		case frameEnd:
			if q.Stdin && m.c.Config.StdinOnce {
				m.closeStdin()
			}
		case frameSize:
			var size sandbox.Size
			if json.Unmarshal(data, &size) == nil && size.Width > 0 && size.Height > 0 {
				m.resized(size)
			}
		case frameRequest:
			var more request
			if json.Unmarshal(data, &more) == nil && more.Op == opSignal {
				m.kill(syscall.Signal(more.Signal))
			}
		}
	}
}

// tell queues a reply.
func (v *viewer) tell(r reply) {
	if data, err := json.Marshal(r); err == nil {
		v.add(frameReply, data)
	}
}

// await waits for an end of the container: its last, or with next any.
func (m *monitor) await(conn net.Conn, next bool) (reply, bool) {
	w := make(chan reply, 1)
	m.mu.Lock()
	if m.isEnded() {
		defer m.mu.Unlock()
		return m.last, true
	}
	m.waiting[w] = next
	m.mu.Unlock()
	gone := make(chan struct{})
	go func() {
		conn.Read(make([]byte, 1)) // nothing comes: it returns when the other side is gone
		close(gone)
	}()
	select {
	case r := <-w:
		return r, true
	case <-gone:
		m.mu.Lock()
		delete(m.waiting, w)
		m.mu.Unlock()
		return reply{}, false
	}
}

// kill sends a signal for a user. One that ends the container is not to be followed by another start.
func (m *monitor) kill(sig syscall.Signal) error {
	final := sig == syscall.SIGKILL || sig == m.c.Config.stopSignal()
	if final {
		m.noRestart()
	}
	if err := m.signal(sig); err != nil {
		return err
	}
	if final {
		m.thaw() // it is to hear of it
	}
	return nil
}

// untilEnded waits for the end of a container that was killed, and tells whether it came.
func (m *monitor) untilEnded() bool {
	select {
	case <-m.ended:
		return true
	case <-time.After(killPatience):
		return false
	}
}

// noRestart notes that a user ended the container.
func (m *monitor) noRestart() {
	m.set(func(st *State) { st.Stopped = true })
	m.haltOnce.Do(func() { close(m.halt) })
}

// stop asks the container to end, kills it after a while, and waits for its end.
func (m *monitor) stop(sig syscall.Signal, timeout time.Duration) reply {
	m.noRestart()
	if sig == 0 {
		sig = m.c.Config.stopSignal()
	}
	m.signal(sig) // where it has ended already that shows below
	m.thaw()
	var late <-chan time.Time
	if timeout >= 0 {
		t := time.NewTimer(timeout)
		defer t.Stop()
		late = t.C
	}
	select {
	case <-m.ended:
	case <-late:
		m.signal(syscall.SIGKILL)
		m.thaw()
		if !m.untilEnded() {
			return m.stuck()
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.last
}

// killPatience is how long a container that was killed may take to end, as in docker.
const killPatience = 10 * time.Second

// stuck is what is said of a container that was killed and does not end.
func (m *monitor) stuck() reply {
	m.mu.Lock()
	pid := m.state.Pid
	m.mu.Unlock()
	text := "tried to kill container, but did not receive an exit event" // docker's words
	if p, err := ReadProc(pid); err == nil && p.State == 'D' {
		text += fmt.Sprintf(": process %d (%s) waits in the kernel, mostly for a file system or a device, and ends when that answers", pid, p.Name)
	}
	return reply{Error: text, Stuck: true}
}

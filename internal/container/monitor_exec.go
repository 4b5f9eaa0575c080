package container

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"os"
	"sync"
	"syscall"

	"nacre/internal/rootfs"
	"nacre/internal/sandbox"
	"nacre/internal/within"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// runsBy notes what the container's process runs by: others are run by it, too. nil: it has ended.
func (m *monitor) runsBy(spec *specs.Spec) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.process, m.seccomp = nil, nil
	if spec != nil {
		m.process, m.seccomp = spec.Process, spec.Linux.Seccomp
	}
}

// exec runs a process in the container for whoever is at the other end of conn.
func (m *monitor) exec(conn net.Conn, q request) {
	v := newViewer(conn, q)
	defer v.drop()
	p, err := m.newExecution(q.Exec, v)
	if err != nil {
		v.finish(failure(err))
		return
	}
	go p.listen(conn)
	status, err := m.execWith(context.Background(), p.config)
	p.closeInput()
	if f, ok := p.config.Stdin.(*os.File); ok {
		f.Close()
	}
	if err != nil && !p.started() {
		v.finish(failure(err))
		return
	}
	v.finish(&reply{Exited: true, Code: status.Code})
}

// failure answers that nothing was run.
func failure(err error) *reply {
	r := reply{Error: err.Error(), Code: 1}
	if start := (*sandbox.StartError)(nil); errors.As(err, &start) {
		r.Code = start.Code
	}
	return &r
}

// execution is one further process of the container.
type execution struct {
	config  sandbox.ExecConfig
	tty     bool
	signals chan os.Signal
	resize  chan sandbox.Size

	mu    sync.Mutex
	stdin *os.File // where its input is written to
	runs  bool
}

func (m *monitor) newExecution(o *ExecOptions, v *viewer) (*execution, error) {
	if o == nil || len(o.Args) == 0 {
		return nil, errNoArgs
	}
	m.mu.Lock()
	st, base, seccomp := m.state, m.process, m.seccomp
	m.mu.Unlock()
	if err := m.c.mayExec(st.Status); err != nil {
		return nil, err
	}
	if base == nil {
		return nil, ErrNotRunning
	}
	process, err := m.execProcess(o, base)
	if err != nil {
		return nil, err
	}
	e := &execution{tty: o.TTY, signals: make(chan os.Signal, 1), resize: make(chan sandbox.Size, 1)}
	e.config = sandbox.ExecConfig{
		Pid: st.Pid, Process: process, Seccomp: seccomp, Cgroups: st.Cgroups, Owners: m.owners,
		Signals: e.signals, Resize: e.resize,
		Started: func(s sandbox.Started) {
			e.mu.Lock()
			e.runs = true
			e.mu.Unlock()
			v.tell(reply{Started: true, Pid: s.Pid, TTY: o.TTY})
		},
	}
	if !o.Detach {
		e.config.Stdout, e.config.Stderr = &viewerStream{v, "stdout"}, &viewerStream{v, "stderr"}
	}
	if o.Stdin && !o.Detach {
		r, w, err := inputPipe()
		if err != nil {
			return nil, err
		}
		e.config.Stdin, e.stdin = r, w
	}
	return e, nil
}

// execProcess is the container's process with what is to be different.
func (m *monitor) execProcess(o *ExecOptions, base *specs.Process) (*specs.Process, error) {
	root, err := m.root()
	if err != nil {
		return nil, err
	}
	defer root.Close()
	name := o.User
	if name == "" {
		name = m.c.Config.User
	}
	user, err := rootfs.LookupProcess(within.Open(root), name)
	if err != nil {
		return nil, &sandbox.StartError{Code: sandbox.CodeNotExecutable, Op: "exec", Err: err}
	}
	p := *base
	p.Args, p.Terminal, p.ConsoleSize = o.Args, o.TTY, nil
	p.User.UID, p.User.GID, p.User.AdditionalGids = uint32(user.UID), uint32(user.GID), gids(user)
	p.Env = MergeEnv(m.c.environFor(user, o.TTY), o.Env)
	if o.WorkingDir != "" {
		p.Cwd = o.WorkingDir
	}
	if o.Size != (sandbox.Size{}) {
		p.ConsoleSize = &specs.Box{Width: uint(o.Size.Width), Height: uint(o.Size.Height)}
	}
	if o.Privileged {
		all, err := sandbox.AllCapabilities()
		if err != nil {
			return nil, err
		}
		p.Capabilities = &specs.LinuxCapabilities{Bounding: all, Effective: all, Permitted: all}
	}
	return &p, nil
}

func (e *execution) started() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.runs
}

// closeInput ends the process's input, once or more often.
func (e *execution) closeInput() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.stdin != nil {
		e.stdin.Close()
		e.stdin = nil
	}
}

// listen reads what comes from who asked for the process, until they are gone.
func (e *execution) listen(conn net.Conn) {
	buf := make([]byte, 64<<10)
	for {
		kind, data, err := readFrame(conn, buf)
		if err != nil {
			e.deserted()
			return
		}
		switch kind {
		case frameInput:
			e.input(data)
		case frameEnd:
			e.closeInput()
		case frameSize:
			var size sandbox.Size
			if json.Unmarshal(data, &size) == nil && size.Width > 0 && size.Height > 0 {
				e.resized(size)
			}
		case frameRequest:
			var more request
			if json.Unmarshal(data, &more) == nil && more.Op == opDetach {
				return // the process keeps its terminal, at which nobody sits
			}
		}
	}
}

// input passes input on; it waits for the process to read it.
func (e *execution) input(p []byte) {
	e.mu.Lock()
	w := e.stdin
	e.mu.Unlock()
	if w != nil {
		w.Write(p)
	}
}

// resized passes a size on; one that nobody took yet is forgotten.
func (e *execution) resized(size sandbox.Size) {
	select {
	case <-e.resize:
	default:
	}
	e.resize <- size
}

// deserted is the end of a connection that nobody announced: there is no more input, and who sat at the
// terminal hung up.
func (e *execution) deserted() {
	if e.tty {
		select {
		case e.signals <- syscall.SIGHUP:
		default:
		}
		return
	}
	e.closeInput()
}

// viewerStream is an output of a process that one viewer gets, as long as there is one.
type viewerStream struct {
	v    *viewer
	name string
}

func (s *viewerStream) Write(p []byte) (int, error) {
	s.v.send(s.name, p)
	return len(p), nil
}

package container

import (
	"context"
	"errors"
	"io"
	"os"
	"sync"
	"time"

	"nacre/internal/sandbox"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// Streams are what a container is connected to that runs in this process.
type Streams struct {
	Stdin          io.Reader // nil: it has no input
	Stdout, Stderr io.Writer // nil: dropped
	Signals        <-chan os.Signal
	Resize         <-chan sandbox.Size
	Size           sandbox.Size // of the terminal at the start; zero: not known
}

// monitor runs one container, as often as its restart policy says, and keeps its state.
type monitor struct {
	c    *Container
	lock *Lock

	mu    sync.Mutex
	state State
}

// Run starts a container in this process and waits for its end: this is its monitor then. The caller
// hands over the lock, and finds the container removed if it was to be.
//
// The error is nil if the process ran, whatever its exit code; else see sandbox.Run.
func (c *Container) Run(ctx context.Context, lock *Lock, s Streams) (sandbox.Status, error) {
	m := &monitor{c: c, lock: lock, state: c.State}
	defer lock.Unlock()
	status, err := m.once(ctx, s)
	return status, m.end(err)
}

// once runs the container's process once.
func (m *monitor) once(ctx context.Context, s Streams) (sandbox.Status, error) {
	p, err := m.c.compose(ctx)
	defer p.close()
	if err != nil {
		m.failed(err)
		return sandbox.Status{}, err
	}
	config := sandbox.Config{
		Spec: p.spec, Root: p.root, Files: p.files, Trees: p.trees,
		Stdin: s.Stdin, Stdout: s.Stdout, Stderr: s.Stderr, Signals: s.Signals, Resize: s.Resize,
		Started: m.started,
	}
	if len(p.created) > 0 {
		config.Created = p.whenCreated
	}
	if s.Size != (sandbox.Size{}) {
		p.spec.Process.ConsoleSize = &specs.Box{Width: uint(s.Size.Width), Height: uint(s.Size.Height)}
	}
	status, err := sandbox.Run(ctx, config)
	m.exited(status, err)
	return status, err
}

// whenCreated does what the areas want done from outside before the program is executed.
func (p *parts) whenCreated(ctx context.Context, pid int) error {
	for _, f := range p.created {
		if err := f(ctx, pid); err != nil {
			return err
		}
	}
	return nil
}

// set changes the state and writes it down.
func (m *monitor) set(change func(st *State)) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	change(&m.state)
	return writeState(m.c.dir, m.state)
}

func (m *monitor) started(s sandbox.Started) {
	m.set(func(st *State) {
		*st = State{
			Status: StatusRunning, Pid: s.Pid, Monitor: os.Getpid(), Boot: bootID(), Started: time.Now().UTC(),
			Cgroups: s.Cgroups, Restarts: st.Restarts, Health: st.Health, Stopped: st.Stopped,
		}
	})
}

// failed notes why the container was not started.
func (m *monitor) failed(err error) {
	code := sandbox.CodeSandbox
	if start := (*sandbox.StartError)(nil); errors.As(err, &start) {
		code = start.Code
	}
	m.set(func(st *State) {
		st.Status, st.ExitCode, st.Error, st.Finished = StatusExited, code, err.Error(), time.Now().UTC()
		if st.Started.IsZero() {
			st.Status = StatusCreated // it never ran
		}
		st.Pid, st.Monitor, st.Cgroups = 0, 0, nil
	})
}

// exited notes how the container's process ended.
func (m *monitor) exited(s sandbox.Status, err error) {
	if start := (*sandbox.StartError)(nil); errors.As(err, &start) {
		m.failed(err)
		return
	}
	m.set(func(st *State) {
		st.Status, st.ExitCode, st.OOMKilled, st.Finished = StatusExited, s.Code, s.OOMKilled, time.Now().UTC()
		st.Warnings = s.Warnings
		st.Pid, st.Monitor, st.Cgroups = 0, 0, nil
	})
}

// end removes the container if it is to be removed at its end.
func (m *monitor) end(err error) error {
	if !m.c.Config.AutoRemove {
		return err
	}
	return errors.Join(err, m.c.drop(context.Background()))
}

package container

import (
	"context"
	"errors"
	"os"
	"time"

	"nacre/internal/network"
	"nacre/internal/sandbox"
)

// set changes the state and writes it down.
func (m *monitor) set(change func(st *State)) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	change(&m.state)
	return writeState(m.c.dir, m.state)
}

// setLast is set for what is the last, of a container that is removed at once if that is to be: then nobody would read it.
func (m *monitor) setLast(change func(st *State)) error {
	if !m.c.Config.AutoRemove {
		return m.set(change)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	change(&m.state)
	return nil
}

// started notes that the program runs, and tells whoever started it.
func (m *monitor) started(s sandbox.Started, n *network.Network) {
	m.set(func(st *State) {
		*st = State{
			Status: StatusRunning, Pid: s.Pid, Monitor: os.Getpid(), Boot: bootID(), Started: time.Now().UTC(), Finished: st.Finished,
			Cgroups: s.Cgroups, Restarts: st.Restarts, Stopped: st.Stopped, LogError: st.LogError,
			Network: n.Info, Warnings: n.Notes, Owner: s.Owner,
		}
	})
	m.mu.Lock()
	v := m.starting
	m.starting = nil
	m.mu.Unlock()
	if v != nil {
		v.tell(reply{Started: true, Pid: s.Pid, TTY: m.c.Config.TTY, Warnings: n.Notes})
	}
}

// failed notes why the container was not started.
func (m *monitor) failed(err error) {
	code := sandbox.CodeSandbox
	if start := (*sandbox.StartError)(nil); errors.As(err, &start) {
		code = start.Code
	}
	m.set(func(st *State) {
		st.ExitCode, st.Error = code, err.Error()
		if st.Started.IsZero() {
			st.Status = StatusCreated // it never ran
		} else {
			st.Status, st.Finished = StatusExited, time.Now().UTC()
		}
		st.Pid, st.Monitor, st.Cgroups, st.Network = 0, 0, nil, network.Info{}
		m.last = reply{Error: err.Error(), Code: code}
	})
}

// exited notes how the container's process ended.
func (m *monitor) exited(s sandbox.Status, err error) {
	if start := (*sandbox.StartError)(nil); errors.As(err, &start) {
		m.failed(err)
		return
	}
	m.mu.Lock()
	frozen, limits := m.frozen, m.limits
	m.frozen, m.limits = nil, nil
	m.mu.Unlock()
	frozen.remove()
	s.OOMKilled = s.OOMKilled || sandbox.OutOfMemory(limits)
	sandbox.RemoveCgroups(limits)
	m.setLast(func(st *State) {
		st.Status, st.ExitCode, st.OOMKilled, st.Finished = StatusExited, s.Code, s.OOMKilled, time.Now().UTC()
		st.Warnings = s.Warnings
		st.Pid, st.Monitor, st.Cgroups, st.Network = 0, 0, nil, network.Info{}
		st.Freezer = ""
		m.last = reply{Exited: true, Code: s.Code, OOM: s.OOMKilled, Warnings: s.Warnings}
	})
}

// again tells whether the container is started again after an end.
func (m *monitor) again(ctx context.Context, s sandbox.Status, err error) bool {
	m.mu.Lock()
	st, p := m.state, m.c.Config.Restart
	m.mu.Unlock()
	if st.Started.IsZero() || st.Stopped || m.halted() || ctx.Err() != nil {
		return false
	}
	switch p.Name {
	case RestartAlways, RestartUnlessStopped:
		return true
	case RestartOnFailure:
		return (s.Code != 0 || err != nil) && (p.Max == 0 || st.Restarts < p.Max)
	}
	return false
}

// backoff is how long to wait before a container is started again: 100 ms, then twice as long each time up to
// a minute, until it has run for ten seconds. That is docker's.
type backoff struct{ last time.Duration }

func (b *backoff) next(ran time.Duration) time.Duration {
	switch {
	case b.last == 0 || ran >= 10*time.Second:
		b.last = 100 * time.Millisecond
	default:
		b.last = min(2*b.last, time.Minute)
	}
	return b.last
}

package container

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"nacre/internal/sandbox"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// What docker has where nobody says otherwise.
const (
	healthInterval      = 30 * time.Second
	healthTimeout       = 30 * time.Second
	healthStartInterval = 5 * time.Second
	healthRetries       = 3
	healthLog           = 5       // checks that are kept
	healthOutput        = 4 << 10 // bytes of the output of each
)

// checkHealth runs the container's health checks until ctx ends.
func (m *monitor) checkHealth(ctx context.Context, spec *specs.Spec, st sandbox.Started) {
	h := m.c.Config.Health
	if h == nil {
		return
	}
	m.set(func(s *State) { s.Health = &HealthState{Status: HealthStarting} })
	began := time.Now()
	for {
		m.mu.Lock()
		starting := m.state.Health.Status == HealthStarting && time.Since(began) < h.StartPeriod
		m.mu.Unlock()
		wait := orDefault(h.Interval, healthInterval)
		if starting {
			wait = min(wait, orDefault(h.StartInterval, healthStartInterval))
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		if m.isPaused() {
			continue
		}
		check := m.check(ctx, h, spec, st)
		if ctx.Err() != nil || m.isPaused() {
			continue // it was cut off
		}
		m.set(func(s *State) { s.Health = s.Health.after(check, h, time.Since(began) < h.StartPeriod) })
	}
}

func orDefault[T comparable](v, d T) T {
	var zero T
	if v == zero {
		return d
	}
	return v
}

func (m *monitor) isPaused() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.state.Status == StatusPaused
}

// after is the state after a check; a failure while the container is starting does not count.
func (s *HealthState) after(check HealthCheck, h *Health, starting bool) *HealthState {
	next := &HealthState{Status: s.Status, Failing: s.Failing, Log: append(slices.Clone(s.Log), check)}
	next.Log = next.Log[max(0, len(next.Log)-healthLog):]
	switch {
	case check.ExitCode == 0:
		next.Status, next.Failing = HealthHealthy, 0
	case starting && s.Status == HealthStarting:
	default:
		next.Failing++
		if next.Failing >= orDefault(h.Retries, healthRetries) {
			next.Status = HealthUnhealthy
		}
	}
	return next
}

// command is what a check executes.
func (h *Health) command() []string {
	switch {
	case len(h.Test) > 1 && h.Test[0] == "CMD":
		return h.Test[1:]
	case len(h.Test) > 1 && h.Test[0] == "CMD-SHELL":
		shell := h.Shell
		if len(shell) == 0 {
			shell = []string{"/bin/sh", "-c"}
		}
		return append(slices.Clone(shell), h.Test[1])
	}
	return h.Test
}

// check makes one check, in the container.
func (m *monitor) check(ctx context.Context, h *Health, spec *specs.Spec, st sandbox.Started) HealthCheck {
	process := *spec.Process
	process.Args, process.Terminal, process.ConsoleSize = h.command(), false, nil
	late := errors.New("Health check exceeded timeout (" + orDefault(h.Timeout, healthTimeout).String() + ")") //lint:ignore ST1005 docker's words
	ctx, cancel := context.WithTimeoutCause(ctx, orDefault(h.Timeout, healthTimeout), late)
	defer cancel()
	out := &headOutput{}
	check := HealthCheck{Start: time.Now()}
	status, err := m.execWith(ctx, sandbox.ExecConfig{
		Pid: st.Pid, Process: &process, Seccomp: spec.Linux.Seccomp, Cgroups: st.Cgroups, Owners: m.owners, Stdout: out, Stderr: out,
	})
	check.End, check.ExitCode, check.Output = time.Now(), status.Code, out.String()
	if err != nil {
		check.ExitCode, check.Output = -1, err.Error()
	}
	return check
}

// headOutput keeps the beginning of what is written to it.
type headOutput struct {
	mu   sync.Mutex
	data []byte
	more bool
}

func (h *headOutput) Write(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := min(len(p), healthOutput-len(h.data))
	h.data = append(h.data, p[:n]...)
	h.more = h.more || n < len(p)
	return len(p), nil
}

func (h *headOutput) String() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.more {
		return string(h.data) + "..."
	}
	return string(h.data)
}

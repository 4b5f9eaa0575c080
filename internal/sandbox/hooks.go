package sandbox

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path"
	"strings"
	"syscall"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// hook is a program of the host's administrator, or of the image, that is run at some moment of
// a sandbox's life (config.md of the runtime spec, "POSIX-platform Hooks").
type hook struct {
	Path    string // absolute
	Args    []string
	Env     []string // all of it: nothing is inherited
	Timeout int      // seconds; 0: none
}

// Kinds of hooks, as errors and the spec name them.
const (
	hookPrestart        = "prestart"
	hookCreateRuntime   = "createRuntime"
	hookCreateContainer = "createContainer"
	hookStartContainer  = "startContainer"
	hookPoststart       = "poststart"
	hookPoststop        = "poststop"
)

// hooks are those of one sandbox, by kind, in their order.
type hooks map[string][]hook

// newHooks translates those of a spec; nil if there are none.
func newHooks(s *specs.Hooks) (hooks, error) {
	if s == nil {
		return nil, nil
	}
	out := hooks{}
	//lint:ignore SA1019 it is deprecated, and not gone
	prestart := s.Prestart //nolint:staticcheck // the same to another linter
	for kind, list := range map[string][]specs.Hook{
		hookPrestart:        prestart,
		hookCreateRuntime:   s.CreateRuntime,
		hookCreateContainer: s.CreateContainer,
		hookStartContainer:  s.StartContainer,
		hookPoststart:       s.Poststart,
		hookPoststop:        s.Poststop,
	} {
		for _, h := range list {
			one := hook{Path: h.Path, Args: h.Args, Env: h.Env}
			if !path.IsAbs(h.Path) {
				return nil, fmt.Errorf("%s hook %q: the path is not absolute", kind, h.Path)
			}
			if h.Timeout != nil {
				if *h.Timeout <= 0 {
					return nil, fmt.Errorf("%s hook %s: a timeout of %d seconds is not above zero", kind, h.Path, *h.Timeout)
				}
				one.Timeout = min(*h.Timeout, 1<<30) // what a time.Duration can hold
			}
			if len(one.Args) == 0 {
				one.Args = []string{h.Path}
			}
			out[kind] = append(out[kind], one)
		}
	}
	if len(out) == 0 {
		return nil, nil
	}
	return out, nil
}

// runHooks runs hooks one after the other, until one fails: that is a *StartError.
func runHooks(ctx context.Context, kind string, list []hook, dir string, state []byte) error {
	for _, h := range list {
		if err := h.run(ctx, dir, state); err != nil {
			return fail(kind+" hook "+h.Path, err)
		}
	}
	return nil
}

// hookPatience is how long the output of a hook that has ended is waited for: what it left running
// in the background may hold on to it.
const hookPatience = 500 * time.Millisecond

// run runs a hook in a directory (empty: ours), with the container's state as its input. The error
// has the end of what it wrote.
func (h *hook) run(ctx context.Context, dir string, state []byte) error {
	limited := ctx
	if h.Timeout > 0 {
		var cancel context.CancelFunc
		limited, cancel = context.WithTimeout(ctx, time.Duration(h.Timeout)*time.Second)
		defer cancel()
	}
	cmd := exec.CommandContext(limited, h.Path)
	cmd.Path, cmd.Args, cmd.Dir = h.Path, h.Args, dir
	cmd.Env = append([]string{}, h.Env...) // nil would be ours
	cmd.Stdin = bytes.NewReader(state)
	end := &lastBytes{}
	cmd.Stdout, cmd.Stderr = end, end
	// It is killed with what it started, which also holds its output.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error {
		err := syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		if errors.Is(err, syscall.ESRCH) {
			return os.ErrProcessDone
		}
		return err
	}
	cmd.WaitDelay = hookPatience
	err := cmd.Run()
	var pathErr *os.PathError
	switch {
	case err == nil || errors.Is(err, exec.ErrWaitDelay):
		return nil
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case limited.Err() != nil:
		err = fmt.Errorf("it did not end within %d s", h.Timeout)
	case errors.As(err, &pathErr):
		err = pathErr.Err // its path has been said
	}
	if text := strings.TrimSpace(string(end.data)); text != "" {
		err = fmt.Errorf("%w: %s", err, text)
	}
	return err
}

// lastBytes keeps the end of what is written to it.
type lastBytes struct{ data []byte }

// hookOutput is how much of a hook's output an error has at most.
const hookOutput = 4 << 10

func (l *lastBytes) Write(p []byte) (int, error) {
	l.data = append(l.data, p[max(0, len(p)-hookOutput):]...)
	if extra := len(l.data) - hookOutput; extra > 0 {
		l.data = append(l.data[:0], l.data[extra:]...)
	}
	return len(p), nil
}

func (h *hook) carry(w *wire) {
	w.text(&h.Path)
	w.texts(&h.Args)
	w.texts(&h.Env)
	number(w, &h.Timeout)
}

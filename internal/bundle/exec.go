package bundle

import (
	"context"
	"fmt"

	"nacre/internal/sandbox"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// Exec runs a further process in a container that runs, confined by the container's filter and in its cgroups. It returns when the
// program was executed; wait gives the exit code to the process that called Exec. Errors: ErrNotFound, ErrNotRunning; *sandbox.StartError.
func (r Runtime) Exec(ctx context.Context, id string, process *specs.Process, o Options) (wait func() (int, error), err error) {
	c, err := r.open(id)
	if err != nil {
		return nil, err
	}
	defer c.close()
	if s := c.status(); s == StatePaused {
		return nil, fmt.Errorf("container %s: cannot exec in a paused container", id)
	} else if s != specs.StateRunning {
		return nil, fmt.Errorf("container %s is %s: %w", id, s, ErrNotRunning)
	}
	if process.Terminal != (o.ConsoleSocket != "") {
		return nil, errTerminal
	}
	done, err := sandbox.ExecDetached(ctx, sandbox.ExecConfig{Pid: c.Pid, Process: process, Seccomp: c.spec.Linux.Seccomp, Cgroups: c.Cgroups},
		sandbox.Detach{Stdio: o.Stdio, Console: consoleTo(o.ConsoleSocket)})
	if err != nil {
		return nil, err
	}
	return done.Wait, writePid(o.PidFile, done.Pid)
}

// Process is that of the container, with other arguments: for Exec.
func (r Runtime) Process(id string, args []string) (*specs.Process, error) {
	c, err := r.open(id)
	if err != nil {
		return nil, err
	}
	defer c.close()
	p := *c.spec.Process
	p.Args, p.Terminal, p.ConsoleSize = args, false, nil
	return &p, nil
}

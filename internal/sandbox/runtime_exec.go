package sandbox

import (
	"context"
	"encoding/json"
	"os"
	"strings"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// Exec is the package's Exec, by the runtime: of c the Pid, Seccomp and Cgroups have no effect, as the runtime knows them.
func (rt Runtime) Exec(ctx context.Context, c ExecConfig) (Status, error) {
	if ctx.Err() != nil {
		return Status{}, context.Cause(ctx)
	}
	if _, err := newExecPlan(&ExecConfig{Pid: c.Pid, Process: c.Process}); err != nil {
		return Status{}, fail("exec", err)
	}
	r := runner{plan: &plan{}, Config: &Config{
		Spec:  &specs.Spec{Process: c.Process, Linux: &specs.Linux{Namespaces: []specs.LinuxNamespace{{Type: specs.PIDNamespace}}}},
		Stdin: c.Stdin, Stdout: c.Stdout, Stderr: c.Stderr, Signals: c.Signals, Resize: c.Resize, Started: c.Started,
	}}
	if err := r.streams.open(r.Config); err != nil {
		r.streams.abandon()
		return Status{}, fail("exec", err)
	}
	inner, err := rt.launchExec(ctx, &r, c.Process)
	r.streams.closeTheirs()
	if err != nil {
		r.streams.abandon()
		if ctx.Err() != nil {
			return Status{}, context.Cause(ctx)
		}
		return Status{}, runtimeFailed(err, c.Process.Args)
	}
	defer context.AfterFunc(ctx, func() { rt.killInside(inner) })()
	return r.followForeign(ctx, rt.signaller(ctx, r.process))
}

// launchExec starts the process. Of gVisor's it tells the number inside, by which alone it can be killed.
func (rt Runtime) launchExec(ctx context.Context, r *runner, process *specs.Process) (inner string, err error) {
	data, err := json.Marshal(process)
	if err != nil {
		return "", err
	}
	f, err := os.CreateTemp(rt.Dir, "exec-*.json")
	if err != nil {
		return "", err
	}
	defer os.Remove(f.Name())
	if _, err = f.Write(data); err == nil {
		err = f.Close()
	}
	if err != nil {
		return "", err
	}
	args := []string{"exec", "--detach", "--process", f.Name()}
	pidFile := f.Name() + ".pid"
	if rt.isGvisor() {
		args = append(args, "--internal-pid-file", pidFile)
		defer os.Remove(pidFile)
	}
	// A runtime that is killed on its way leaves processes that nobody waits for; and as long as one of them is a zombie the
	// container's first process cannot end (pid_namespaces(7)). So it has time to finish, and what it started is killed then.
	launching, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(launchPatience, cancel) })
	defer stop()
	err = besides(func() (err error) {
		r.launched, err = rt.launch(launching, &r.streams, process, args...)
		return err
	})
	if err == nil && rt.isGvisor() {
		var text []byte
		text, err = os.ReadFile(pidFile)
		inner = strings.TrimSpace(string(text))
	}
	return inner, err
}

// launchPatience is how long a runtime may take to start a process that is not wanted any more.
const launchPatience = 5 * time.Second

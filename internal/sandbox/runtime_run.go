package sandbox

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// Run is the package's Run, by the runtime. What the runtime does not do as our own sandbox would is said in the Warnings or, where it
// would give the process more rights, refused.
func (rt Runtime) Run(ctx context.Context, c Config) (Status, error) {
	if ctx.Err() != nil {
		return Status{}, context.Cause(ctx)
	}
	if c.Tree != nil {
		return Status{}, fail("start container", errors.New("without namespaces no OCI runtime can be used"))
	}
	spec, warnings, err := runtimeSpec(&c)
	if err == nil && rt.isGvisor() {
		err = checkGvisor(spec)
	}
	if err == nil {
		err = reapOrphans()
	}
	if err == nil {
		err = rt.prepare(ctx)
	}
	if err != nil {
		return Status{}, fail("start container", err)
	}
	defer os.RemoveAll(rt.Dir)
	defer rt.delete(ctx)
	r := &foreignRunner{runner: runner{Config: &c, plan: &plan{}}, runtime: rt, spec: spec}
	r.status.Warnings = warnings
	return r.run(ctx)
}

// foreignRunner is one Run by a runtime.
type foreignRunner struct {
	runner
	runtime Runtime
	spec    *specs.Spec
}

func (r *foreignRunner) run(ctx context.Context) (Status, error) {
	defer r.watch.end()
	guardProcess() // from the stage's mount namespace our program could not be started
	if err := r.streams.open(r.Config); err != nil {
		r.streams.abandon()
		return r.status, fail("start container", err)
	}
	defer removeCgroups(r.spec.Linux.CgroupsPath)
	err := onStage(r.Config, r.spec, func(bundle string) error { return r.create(ctx, bundle) })
	r.streams.closeTheirs()
	if err != nil {
		r.streams.abandon()
		if ctx.Err() != nil {
			return r.status, context.Cause(ctx)
		}
		return r.status, runtimeFailed(err, r.Spec.Process.Args)
	}
	return r.followForeign(ctx, r.runtime.signaller(ctx, r.process))
}

// create makes and starts the container; it runs on the thread of the stage.
func (r *foreignRunner) create(ctx context.Context, bundle string) error {
	launched, err := r.runtime.launch(ctx, &r.streams, r.Spec.Process, "create", "--bundle", bundle)
	if err != nil {
		return err
	}
	r.launched = launched
	r.runtime.adoptGofer()
	r.cgroup = cgroupsAt(r.spec.Linux.CgroupsPath)
	r.watch.dirs = r.cgroup.dirs
	r.watch.follow(r.process)
	if r.runtime.isGvisor() && loopbackAlone(r.spec) {
		err = loopbackUpOf(r.process.Pid)
	}
	if err == nil {
		err = r.prepare(ctx, r.process.Pid)
	}
	if err == nil {
		err = r.runtime.run(ctx, [3]*os.File{}, "start", r.runtime.ID)
	}
	if err == nil && r.Init && !r.runtime.isGvisor() { // whose processes cannot be seen
		err = r.awaitInit()
	}
	if err != nil {
		r.process.Kill()
		<-r.done
		r.streams.wait()
	}
	return err
}

// launch has the runtime make a process, in the container or its first, and takes charge of it.
func (rt Runtime) launch(ctx context.Context, s *streams, p *specs.Process, args ...string) (l *launched, err error) {
	strays.launching.RLock()
	defer strays.launching.RUnlock()
	defer func() {
		if err != nil {
			mindStrays()
		}
	}()
	dir, err := os.MkdirTemp(rt.Dir, "process-*")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	pidFile := filepath.Join(dir, runtimePid)
	args = append(args, "--pid-file", pidFile)
	var console *consoleSocket
	if p.Terminal {
		if console, err = listenConsole(dir, p.ConsoleSize); err != nil {
			return nil, err
		}
		defer console.close()
		args = append(args, "--console-socket", console.path)
	}
	if err := rt.run(ctx, s.theirs, append(args, rt.ID)...); err != nil {
		return nil, err
	}
	if console != nil {
		if s.console, err = console.take(); err != nil {
			return nil, err
		}
	}
	text, err := os.ReadFile(pidFile)
	if err != nil {
		return nil, err
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil || pid <= 0 {
		return nil, fmt.Errorf("%s wrote %q where its process id was to be", filepath.Base(rt.Path), text)
	}
	return adoptProcess(pid)
}

// adoptProcess waits for a process whose parent has left it to us.
func adoptProcess(pid int) (*launched, error) {
	p, err := os.FindProcess(pid)
	if err != nil {
		return nil, err
	}
	l := &launched{process: startedProcess(p), socket: -1, done: make(chan struct{})}
	strays.known.Store(pid, true)
	go func() {
		l.state, l.err = l.process.Wait()
		strays.known.Delete(pid)
		close(l.done)
	}()
	return l, nil
}

// signaller sends signals to a process of the container.
func (rt Runtime) signaller(ctx context.Context, p *process) func(os.Signal) {
	return func(sig os.Signal) { p.Signal(sig) }
}

// followForeign is follow for a process that a runtime has started.
func (r *runner) followForeign(ctx context.Context, signal func(os.Signal)) (Status, error) {
	defer r.watch.end()
	if r.watch.process == nil {
		r.watch.follow(r.process)
	}
	stop := context.AfterFunc(ctx, func() { r.process.Kill() })
	defer stop()
	r.starting = true
	if r.Started != nil {
		r.Started(Started{Pid: r.process.Pid, Cgroups: r.cgroup.dirs})
	}
	r.streams.run(r.Config)
	r.wait()
	return r.result(ctx, nil)
}

// removeCgroups removes what the runtime has left of cgroups.
func removeCgroups(path string) {
	g := cgroupsAt(path)
	g.remove()
}

// cgroupsAt are the cgroups of a path, which a runtime has made.
func cgroupsAt(path string) (g cgroup) {
	list, err := hierarchies()
	if err != nil || path == "" {
		return g
	}
	for _, h := range list {
		top := filepath.Join(cgroupRoot, strings.TrimPrefix(h.controllers, "name="))
		if h.controllers == "" && !unifiedOnly() {
			top = filepath.Join(cgroupRoot, "unified")
		}
		dir := filepath.Join(top, path)
		if _, err := os.Stat(dir); err != nil {
			continue
		}
		g.dirs = append(g.dirs, dir)
		if h.controllers == "" && g.memory == "" || slices.Contains(strings.Split(h.controllers, ","), "memory") {
			g.memory = dir
		}
	}
	return g
}

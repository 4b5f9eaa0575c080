package sandbox

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"syscall"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// Run runs one process and waits for its end and that of its output.
//
// The error is nil if the process ran, whatever its exit code. A *StartError says that
// it did not. Where ctx ends, the process is killed, with all it started, and the
// error is the context's cause. Where its output could not be written the error is
// that, and the process got SIGPIPE if it went on writing. Status is valid in all cases.
func Run(ctx context.Context, c Config) (Status, error) {
	if ctx.Err() != nil {
		return Status{}, context.Cause(ctx)
	}
	if c.Tree != nil {
		return runChroot(ctx, c)
	}
	p, err := newPlan(&c)
	if err != nil {
		return Status{}, failPlan("sandbox", err)
	}
	if p.Scratch, err = scratchDir(); err != nil {
		return Status{}, fail("sandbox", err)
	}
	r := runner{Config: &c, plan: p}
	defer r.watch.end()
	if r.bundle, err = newBundle(c.Spec, p); err != nil {
		return Status{}, fail("sandbox", err)
	}
	p.RuntimeHooks = p.RuntimeHooks || c.Created != nil
	if r.bundle != nil {
		return r.runHooked(ctx)
	}
	return r.run(ctx)
}

// runner is one Run.
type runner struct {
	*Config
	*launched
	plan     *plan
	streams  streams
	cgroup   cgroup
	status   Status
	bundle   *bundle // nil without hooks
	watch    watch
	owners   *ownerServer
	hookErr  error // of hooks that follow the start
	starting bool  // the child was about to execute the program, or waits for Start
	extra    []int // descriptors that go with the plan, before those of mounts
	joined   bool  // the sandbox was there before
}

// runHooked is run with all that only hooks need around it.
func (r *runner) runHooked(ctx context.Context) (Status, error) {
	r.watch.leave(r.bundle.dir)
	defer r.bundle.remove()
	_, err := r.run(ctx)
	if r.launched != nil && r.process != nil {
		r.status.Warnings = append(r.status.Warnings, r.bundle.poststop(ctx)...)
	}
	return r.status, err
}

func (r *runner) run(ctx context.Context) (Status, error) {
	defer r.cgroup.remove()
	r.cgroup.making = r.watch.leave
	if err := r.makeCgroup(); err != nil {
		return r.status, err
	}
	if err := r.streams.open(r.Config); err != nil {
		r.streams.abandon()
		return r.status, fail("start sandbox", err)
	}
	r.plan.OwnStdio = r.streams.own
	if !r.Init && r.RootDir == "" && direct(r.Spec) {
		status, err := r.attempt(ctx, r.startDirect)
		if !errors.Is(err, errNotDirect) {
			return status, err
		}
	}
	return r.attempt(ctx, r.startCopy)
}

// attempt runs the process, started in one way or another.
func (r *runner) attempt(ctx context.Context, start func(context.Context) error) (Status, error) {
	if err := start(ctx); err != nil {
		r.streams.abandon()
		if failed, ok := errors.AsType[*StartError](err); ok {
			return r.status, failed
		}
		return r.status, fail("start sandbox", err)
	}
	return r.follow(ctx)
}

// follow is what is done for a copy that has its plan, to its end.
func (r *runner) follow(ctx context.Context) (Status, error) {
	r.watch.follow(r.process)
	stopKill := context.AfterFunc(ctx, func() { r.process.Kill() })
	startErr := r.receive(ctx)
	if errors.Is(startErr, errNotDirect) {
		<-r.done
		stopKill()
		return r.status, startErr
	}
	if startErr == nil {
		if r.Again {
			Warm(r.Spec)
		}
		if r.Started != nil && r.starting {
			r.Started(Started{Pid: r.process.Pid, Cgroups: r.cgroup.dirs, Owner: r.status.Owner})
		}
		r.streams.run(r.Config)
		r.poststart(ctx)
	}
	r.wait()
	stopKill()
	if startErr != nil {
		r.streams.abandon()
	}
	return r.result(ctx, startErr)
}

// startDirect starts the process without a copy of this program.
func (r *runner) startDirect(ctx context.Context) (err error) {
	r.launched, err = r.launchDirect(ctx)
	return err
}

// startCopy launches a copy and tells it what to do.
func (r *runner) startCopy(context.Context) (err error) {
	maps, owner := newIDMaps(r.Spec)
	if maps != nil {
		r.status.Owner = owner
		maps.network, maps.sysctl = r.plan.takeNetwork()
	}
	if pids := joinedPIDs(r.Spec); maps != nil || pids != "" || r.plan.Outlives {
		r.launched, err = launchIn(r.flags(), maps, pids)
	} else {
		r.launched, err = takeOrLaunch(r.flags())
	}
	if err != nil {
		return err
	}
	if r.bundle != nil {
		err = r.bundle.attach(r.plan, r.process.Pid)
	}
	var given []int
	switch {
	case err != nil:
	case r.RootDir != "":
		given, err = r.giveRoot(maps != nil)
	case maps != nil:
		given, err = r.adopt()
	}
	if err == nil {
		err = r.give(r.plan, r.streams.theirs, slices.Concat(r.extra, given)...)
	}
	closeAll(given)
	if err != nil {
		r.process.Kill()
		unix.Close(r.socket)
		<-r.done
		return err
	}
	r.streams.closeTheirs()
	return nil
}

// flags are the namespaces the copy starts in. That of cgroups comes later where it is
// to begin at a cgroup that the copy has yet to enter.
func (r *runner) flags() uintptr {
	flags := cloneFlags(r.Spec)
	if len(r.plan.Cgroups) > 0 && flags&unix.CLONE_NEWCGROUP != 0 {
		r.plan.NewCgroupNS = true
		flags &^= unix.CLONE_NEWCGROUP
	}
	return flags
}

// receive reads reports until the child executed its program, which closes the socket,
// or failed to.
func (r *runner) receive(ctx context.Context) error {
	if r.executed != nil {
		err := <-r.executed
		if err == nil {
			r.streams.closeTheirs()
		}
		return err
	}
	defer unix.Close(r.socket)
	buf := make([]byte, 64<<10)
	rights := make([]byte, unix.CmsgSpace(4))
	for {
		n, rn, _, _, err := unix.Recvmsg(r.socket, buf, rights, unix.MSG_CMSG_CLOEXEC)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return fail("read reports", err)
		case n == 0:
			return nil
		}
		text := string(buf[1:n])
		if !r.expected(buf[0]) {
			dropFds(rights[:rn])
			continue
		}
		switch buf[0] {
		case reportCreated:
			r.status.Created = append(r.status.Created, text)
		case reportFailure:
			return decodeFailure(text)
		case reportTerminal:
			fds, err := receivedFds(rights[:rn], 1)
			if err != nil {
				return fail("receive terminal", err)
			}
			unix.SetNonblock(fds[0], true)
			r.streams.console = os.NewFile(uintptr(fds[0]), "terminal")
		case reportOwners:
			fds, err := receivedFds(rights[:rn], 1)
			if err != nil {
				return fail("receive listener", err)
			}
			if err := r.startOwners(fds[0], text); err != nil {
				return err
			}
		case reportHooks:
			if err := r.create(ctx); err != nil {
				return err
			}
		case reportStarting:
			r.starting = true
		case reportWaiting:
			r.starting = true
			return nil
		}
	}
}

// expected tells whether a report can come from our child. A container that can trace what is started in there would have
// its socket; with it alone nothing more is to be had than the plan gives anyhow.
func (r *runner) expected(kind byte) bool {
	switch kind {
	case reportFailure:
		return true
	case reportTerminal:
		return !r.starting && r.plan.Terminal && r.streams.console == nil
	case reportOwners:
		return !r.starting && len(r.plan.OwnerFilter) > 0 && r.owners == nil
	case reportHooks:
		return !r.starting && r.plan.RuntimeHooks
	case reportWaiting:
		return !r.starting && r.plan.Waits
	}
	return !r.starting // of an init that has started the program there is only a failure to be told
}

// create does what the child waits for.
func (r *runner) create(ctx context.Context) error {
	err := r.prepare(ctx, r.process.Pid)
	if err == nil && r.bundle != nil {
		err = r.bundle.run(ctx, specs.StateCreating, hookPrestart, hookCreateRuntime)
	}
	if err != nil {
		r.process.Kill()
		return err
	}
	if err := unix.Sendmsg(r.socket, []byte{0}, nil, nil, unix.MSG_NOSIGNAL); err != nil {
		return fail("go on after hooks", err)
	}
	return nil
}

// prepare calls Config.Created.
func (r *runner) prepare(ctx context.Context, pid int) error {
	if r.Created == nil {
		return nil
	}
	if err := r.Created(ctx, pid); err != nil {
		return fail("prepare sandbox", err)
	}
	return nil
}

// poststart runs the hooks that follow the start. If one fails the process is ended.
func (r *runner) poststart(ctx context.Context) {
	if r.bundle == nil {
		return
	}
	if r.hookErr = r.bundle.run(ctx, specs.StateRunning, hookPoststart); r.hookErr != nil {
		r.process.Kill()
	}
}

// wait passes signals on until the process has ended.
func (r *runner) wait() {
	signals := r.Signals
	for {
		select {
		case <-r.done:
			return
		case sig, ok := <-signals:
			if !ok {
				signals = nil
				continue
			}
			r.process.Signal(sig) // it may have ended by now
		}
	}
}

// result is what Run returns, once the process has ended.
func (r *runner) result(ctx context.Context, startErr error) (Status, error) {
	var outErr error
	if r.process != nil && cloneFlags(r.Spec)&unix.CLONE_NEWPID == 0 {
		r.cgroup.kill() // others that it started have not ended with it
	}
	if startErr == nil {
		outErr = r.streams.wait()
	}
	if r.err != nil {
		return r.status, fmt.Errorf("wait for process: %w", r.err)
	}
	r.finish(r.state)
	if r.joined {
		r.owners.linger()
	} else {
		r.status.Recorded = r.owners.end()
	}
	switch {
	case ctx.Err() != nil && r.status.Signal == syscall.SIGKILL:
		return r.status, context.Cause(ctx)
	case startErr != nil:
		return r.status, startErr
	case !r.starting:
		return r.status, fail("start sandbox", fmt.Errorf("it ended too early: %s", r.state))
	case r.hookErr != nil:
		return r.status, r.hookErr
	}
	return r.status, outErr
}

// finish reads the status out of the process's end.
func (r *runner) finish(state *ended) {
	ws := state.status
	r.status.Code = ws.ExitStatus()
	if ws.Signaled() {
		r.status.Signal = ws.Signal()
		r.status.Code = 128 + int(ws.Signal())
	}
	r.status.Usage = state.used()
	r.status.OOMKilled = r.cgroup.oomKilled()
}

// scratchDir is the directory the child mounts over before it leaves the host's root. It
// is always the same and always empty: mounts on it are seen by none but the child.
var scratchDir = sync.OnceValues(func() (string, error) {
	candidates := []string{"/run/nacre/sandbox", filepath.Join(os.TempDir(), "nacre-sandbox-"+strconv.Itoa(userOutside()))}
	if dir := os.Getenv("XDG_RUNTIME_DIR"); dir != "" && userOutside() != 0 {
		candidates[0] = filepath.Join(dir, "nacre/sandbox")
	}
	var errs []error
	for _, dir := range candidates {
		err := os.MkdirAll(dir, 0o700)
		if err == nil {
			return dir, nil
		}
		errs = append(errs, err)
	}
	return "", errors.Join(errs...)
})

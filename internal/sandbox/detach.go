package sandbox

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// Detach is how a sandbox is made that outlives who makes it.
type Detach struct {
	// ID and Bundle are what hooks learn of it.
	ID, Bundle string
	// Socket is a unix socket of type SOCK_SEQPACKET that is listened on: the process waits there for Start. Of Exec it is not used.
	Socket *os.File
	// Stdio are the process's standard streams, as they are; with a terminal they have no effect.
	Stdio [3]*os.File
	// Console is given the master of the terminal, where there is one.
	Console func(master *os.File) error
}

// Detached is a sandbox that waits, or a process that was added to one.
type Detached struct {
	Pid      int
	Cgroups  []string // directories that were made for it, to be removed at its end
	Warnings []string
	// Wait waits for the process's end, and tells its exit code, to who made it alone. Of a process that was added, and whose maker ends
	// without it, the new parent hears, even if that came first.
	Wait func() (code int, err error)
}

// Create makes a sandbox up to where its program would be executed. Its process is not ours any more then: who starts it, signals it,
// and removes its cgroups at its end may be any process of the same user. Of the Config neither the streams nor Init, Signals, Resize
// and Started count. Errors: *StartError; nothing is left then.
func Create(ctx context.Context, c Config, d Detach) (Detached, error) {
	c.Spec = withUsualDevices(c.Spec)
	p, err := newPlan(&c)
	if err == nil {
		p.Scratch, err = scratchDir()
	}
	if err != nil {
		return Detached{}, failPlan("sandbox", err)
	}
	p.Outlives, p.Waits = true, true
	r := runner{Config: &c, plan: p, extra: []int{int(d.Socket.Fd())}}
	if r.bundle, err = givenBundle(c.Spec, p, d); err != nil {
		return Detached{}, fail("sandbox", err)
	}
	p.RuntimeHooks = p.RuntimeHooks || c.Created != nil
	if err = r.makeCgroup(); err == nil {
		err = r.detach(ctx, d, r.startCopy)
	}
	if err != nil {
		if r.launched != nil && r.process != nil && r.bundle != nil {
			r.bundle.poststop(ctx)
		}
		r.cgroup.remove()
		return Detached{}, err
	}
	return Detached{Pid: r.process.Pid, Cgroups: r.cgroup.dirs, Warnings: r.status.Warnings, Wait: r.exit}, nil
}

// withUsualDevices lets a container that is to open few devices open those that every container has, as all runtimes do. They are made, and
// the terminal opened, when the rules hold already.
func withUsualDevices(s *specs.Spec) *specs.Spec {
	if s == nil || s.Linux == nil || deviceRules(s.Linux.Resources) == nil {
		return s
	}
	spec, linux, r := *s, *s.Linux, *s.Linux.Resources
	r.Devices = slices.Concat(r.Devices, usualDeviceRules(&linux))
	spec.Linux, linux.Resources = &linux, &r
	return &spec
}

// ExecDetached is Exec of a process that outlives us. It returns when the program was executed.
func ExecDetached(ctx context.Context, c ExecConfig, d Detach) (Detached, error) {
	p, err := newExecPlan(&c)
	if err != nil {
		return Detached{}, failPlan("exec", err)
	}
	p.Outlives = true
	r := runner{plan: p, joined: true, Config: &Config{Spec: &specs.Spec{Process: c.Process, Linux: &specs.Linux{}}}}
	err = r.detach(ctx, d, func(context.Context) error {
		return r.join(c.Pid, c.Cgroups)
	})
	if err != nil {
		return Detached{}, err
	}
	return Detached{Pid: r.process.Pid, Wait: r.exit}, nil
}

// detach launches the process and leaves it to itself.
func (r *runner) detach(ctx context.Context, d Detach, launch func(context.Context) error) error {
	if err := r.takeStdio(d.Stdio); err != nil {
		return fail("sandbox", err)
	}
	if err := launch(ctx); err != nil {
		r.streams.abandon()
		if failed, ok := errors.AsType[*StartError](err); ok {
			return failed
		}
		return fail("start sandbox", err)
	}
	r.streams.closeTheirs()
	err := r.receive(ctx)
	if err == nil && !r.starting {
		err = fail("start sandbox", errors.New("it ended too early"))
	}
	if console := r.streams.console; console != nil {
		if err == nil && d.Console != nil {
			err = d.Console(console)
		}
		console.Close()
	}
	if err != nil {
		r.process.Kill()
		<-r.done
		r.reap()
	}
	return err
}

// reap waits for a process whose end was left for others to hear of.
func (r *runner) reap() {
	if r.stays && r.err == nil {
		r.state, r.err = r.process.Wait()
	}
}

// exit waits for the process's end.
func (r *runner) exit() (int, error) {
	<-r.done
	r.reap()
	if r.err != nil {
		return 0, r.err
	}
	r.finish(r.state)
	return r.status.Code, nil
}

// takeStdio has the process get streams of ours as they are.
func (r *runner) takeStdio(stdio [3]*os.File) (err error) {
	if r.plan.Terminal {
		return r.streams.openNull(0, 1, 2)
	}
	for fd, f := range stdio {
		if f == nil {
			if err := r.streams.openNull(fd); err != nil {
				return err
			}
			continue
		}
		dup, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 3)
		if err != nil {
			return err
		}
		r.streams.theirs[fd] = os.NewFile(uintptr(dup), f.Name())
		r.plan.OwnStdio[fd] = isPipe(r.streams.theirs[fd])
	}
	return nil
}

// Start has the process that waits at a socket execute its program, and returns when it has. Errors: *StartError.
func Start(ctx context.Context, socket string) error {
	dir, err := unix.Open(filepath.Dir(socket), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fail("start container", err)
	}
	defer unix.Close(dir)
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fail("start container", err)
	}
	if err := unix.Connect(fd, &unix.SockaddrUnix{Name: socketIn(dir, filepath.Base(socket))}); err != nil {
		unix.Close(fd)
		return fail("start container", err)
	}
	r := runner{Config: &Config{}, plan: &plan{}, launched: &launched{socket: fd}}
	err = r.receive(ctx)
	if err == nil && !r.starting {
		err = fail("start container", errors.New("it ended before it was started"))
	}
	return err
}

// ListenForStart makes a socket for Detach.
func ListenForStart(socket string) (*os.File, error) {
	dir, err := unix.Open(filepath.Dir(socket), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: filepath.Dir(socket), Err: err}
	}
	defer unix.Close(dir)
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	f := os.NewFile(uintptr(fd), socket)
	if err = unix.Bind(fd, &unix.SockaddrUnix{Name: socketIn(dir, filepath.Base(socket))}); err == nil {
		err = unix.Listen(fd, 1)
	}
	if err != nil {
		f.Close()
		return nil, &os.PathError{Op: "listen", Path: socket, Err: err}
	}
	return f, nil
}

// Hooks runs the hooks of one kind, as the spec names it, with a state. Errors: *StartError of the first that failed.
func Hooks(ctx context.Context, all *specs.Hooks, kind string, state *specs.State) error {
	list, err := newHooks(all)
	if err != nil || len(list[kind]) == 0 {
		return err
	}
	b := bundle{id: state.ID, dir: state.Bundle, pid: state.Pid, hooks: list, spec: &specs.Spec{Annotations: state.Annotations}}
	if kind == hookPoststop {
		var errs []error
		for _, text := range b.poststop(ctx) {
			errs = append(errs, errors.New(text))
		}
		return errors.Join(errs...)
	}
	return b.run(ctx, state.Status, kind)
}

package sandbox

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"syscall"

	"nacre/internal/rootfs"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// Where no namespace can be made and nothing mounted, the process gets its root by chroot(2). That is no jail: it is
// kept apart from the machine (mostly a container) by its capabilities, and sees its network, host name and processes. What would
// be mounted is put into the root while it runs (rootfs.Place).
//
// Above the process is one more, a copy of this program: all that the process leaves behind becomes its child, and is killed when
// the process has ended, or we have.

// runChroot is Run in a tree.
func runChroot(ctx context.Context, c Config) (Status, error) {
	if err := unsupportedInTree(&c); err != nil {
		return Status{}, fail("chroot", err)
	}
	places := treePlaces(&c)
	p, err := newPlan(stripped(&c))
	if err != nil {
		return Status{}, fail("chroot", err)
	}
	p.Chroot, p.OwnerFilter, p.Mounts, p.Devices, p.NoSetgroups = c.Tree.Dir(), nil, nil, nil, deniesSetgroups()
	r := runner{Config: &c, plan: p}
	err = c.Tree.Place(places)
	if err == nil {
		err = r.inTree(ctx)
	}
	if rerr := c.Tree.Restore(); rerr != nil {
		err = errors.Join(err, rerr)
	}
	return r.status, err
}

// unsupportedInTree names what of a config cannot be done without namespaces.
func unsupportedInTree(c *Config) error {
	switch {
	case c.Spec == nil || c.Spec.Process == nil || c.Spec.Linux == nil:
		return errors.New("the spec has no process or no Linux part")
	case c.Spec.Process.Terminal:
		return errors.New("a terminal takes a mount of devpts, which is not possible here")
	case c.Spec.Hooks != nil:
		return errors.New("hooks are not supported without namespaces")
	case c.Created != nil:
		return errors.New("there are no namespaces to prepare")
	}
	return nil
}

// stripped is a config without what is for mounts and namespaces.
func stripped(c *Config) *Config {
	spec, linux := *c.Spec, *c.Spec.Linux
	linux.Namespaces = []specs.LinuxNamespace{{Type: specs.MountNamespace}} // a plan has one at least; it is not made
	linux.Sysctl, linux.Devices, linux.MaskedPaths, linux.ReadonlyPaths = nil, nil, nil, nil
	process := *spec.Process
	process.Env = withGoroot(process.Env, c.Tree)
	spec.Process, spec.Linux, spec.Mounts, spec.Hostname, spec.Domainname = &process, &linux, nil, "", ""
	return &Config{Spec: &spec}
}

// treePlaces are what every root has, what the caller wants there, and the files.
func treePlaces(c *Config) []rootfs.Place {
	list := []rootfs.Place{
		{Target: "/proc", Dir: true, Mode: 0o555},
		{Target: "/sys", Dir: true, Mode: 0o555},
		{Target: "/dev", Dir: true, Mode: 0o755},
		{Target: "/dev/shm", Dir: true, Mode: 0o1777},
		{Target: "/dev/pts", Dir: true, Mode: 0o755},
		{Target: "/dev/mqueue", Dir: true, Mode: 0o1777},
	}
	for name, to := range map[string]string{"fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2"} {
		list = append(list, rootfs.Place{Target: "/dev/" + name, Link: to})
	}
	list = append(append(list, treeProc()...), treeDevices(c.Tree)...)
	list = append(list, c.Places...)
	for _, f := range c.Files {
		mode := uint32(f.Mode.Perm())
		if mode == 0 {
			mode = 0o644
		}
		list = append(list, rootfs.Place{Target: f.Path, Data: f.Data, Mode: mode, UID: f.UID, GID: f.GID})
	}
	return list
}

// Of what stands for devices that cannot be made.
const (
	zeroSize   = 1 << 30
	randomSize = 1 << 20
)

// treeDevices are the devices every root has; where none can be made, files that are like them for most purposes.
func treeDevices(t *rootfs.WorkTree) []rootfs.Place {
	var list []rootfs.Place
	devices, _ := newDevices(nil)
	if t.TryDevice() == nil {
		for _, d := range devices {
			list = append(list, rootfs.Place{Target: d.Path, Mode: d.Mode, Rdev: d.Rdev})
		}
		return list
	}
	random := make([]byte, randomSize)
	rand.Read(random)
	return []rootfs.Place{
		{Target: "/dev/null", Mode: 0o666},
		{Target: "/dev/zero", Mode: 0o666, Size: zeroSize},
		{Target: "/dev/random", Mode: 0o666, Data: random},
		{Target: "/dev/urandom", Mode: 0o666, Data: random},
	}
}

// inTree runs the process.
func (r *runner) inTree(ctx context.Context) error {
	r.makeCgroup()
	defer r.cgroup.remove()
	if err := r.streams.open(r.Config); err != nil {
		r.streams.abandon()
		return fail("start", err)
	}
	r.plan.OwnStdio = r.streams.own
	above, err := r.startAbove()
	if err != nil {
		r.streams.abandon()
		return fail("start", err)
	}
	var ending sync.Mutex
	gone := false
	stop := context.AfterFunc(ctx, func() {
		ending.Lock()
		defer ending.Unlock()
		if !gone {
			unix.Shutdown(above, unix.SHUT_WR) // it kills all there is, and ends
		}
	})
	startErr := r.receive(ctx)
	if startErr == nil {
		if r.Started != nil && r.starting {
			r.Started(Started{Pid: r.process.Pid, Cgroups: r.cgroup.dirs})
		}
		r.streams.run(r.Config)
	}
	var passing sync.WaitGroup
	passing.Go(func() { r.passSignals(above) })
	ended := readEnd(above)
	<-r.done
	passing.Wait()
	ending.Lock()
	gone = true
	unix.Close(above)
	ending.Unlock()
	if len(ended) != endSize {
		killOrphans()
	}
	if stop(); startErr != nil {
		r.streams.abandon()
	}
	return r.treeResult(ctx, startErr, ended)
}

// treeResult is how it ended.
func (r *runner) treeResult(ctx context.Context, startErr error, end []byte) error {
	var outErr error
	if startErr == nil {
		outErr = r.streams.wait()
	}
	if len(end) == endSize {
		ws := syscall.WaitStatus(binary.NativeEndian.Uint32(end))
		r.status.Code = ws.ExitStatus()
		if ws.Signaled() {
			r.status.Signal = ws.Signal()
			r.status.Code = 128 + int(ws.Signal())
		}
	}
	if r.state != nil {
		r.status.Usage = r.state.used() // its children among it
	}
	r.status.OOMKilled = r.cgroup.oomKilled()
	switch {
	case ctx.Err() != nil && (r.status.Signal == syscall.SIGKILL || len(end) != endSize):
		return context.Cause(ctx)
	case startErr != nil:
		return startErr
	case !r.starting:
		return fail("start", fmt.Errorf("it ended too early: %s", r.state))
	case len(end) != endSize:
		return fail("wait", errors.New("the process above it was killed"))
	}
	return outErr
}

// startAbove starts what is above the process, and gives that its plan. Our end of a socket is returned, over which
// its end is told, and which ends it when it is closed.
func (r *runner) startAbove() (int, error) {
	OwnDescriptors()
	adoptOrphans()
	null, err := devNull()
	if err != nil {
		return -1, err
	}
	plan, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, os.NewSyscallError("socketpair", err)
	}
	end, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, errors.Join(os.NewSyscallError("socketpair", err), unix.Close(plan[0]), unix.Close(plan[1]))
	}
	theirs := []*os.File{null, null, null, os.NewFile(uintptr(plan[1]), "socket"), os.NewFile(uintptr(end[1]), "socket")}
	p, err := os.StartProcess("/proc/self/exe", []string{aboveName}, &os.ProcAttr{
		Env:   []string{"GOGC=off", "GOMAXPROCS=1", "GODEBUG=containermaxprocs=0,updatemaxprocs=0"},
		Files: theirs,
		Dir:   "/",
		Sys:   &syscall.SysProcAttr{Setsid: true}, // what is typed to stop us is not for it
	})
	for _, f := range theirs[3:] {
		f.Close()
	}
	if err != nil {
		return -1, errors.Join(err, unix.Close(plan[0]), unix.Close(end[0]))
	}
	r.launched = &launched{process: startedProcess(p), socket: plan[0], done: make(chan struct{})}
	go func() {
		r.state, r.err = r.process.Wait()
		close(r.done)
	}()
	if err := r.give(r.plan, r.streams.theirs); err != nil {
		unix.Close(r.socket)
		unix.Close(end[0])
		<-r.done
		return -1, err
	}
	r.streams.closeTheirs()
	return end[0], nil
}

// endSize is what is told of an end: the status of wait(2).
const endSize = 4

// readEnd waits for the end.
func readEnd(socket int) []byte {
	buf := make([]byte, endSize)
	for {
		n, err := unix.Read(socket, buf)
		if err == unix.EINTR {
			continue
		}
		return slices.Clone(buf[:max(n, 0)])
	}
}

// WithoutEscape takes what only leads out of a root that is one by chroot(2) alone: to another root in it, with a directory of this
// one open, and to the disks.
func WithoutEscape(c *specs.LinuxCapabilities) {
	for _, set := range []*[]string{&c.Bounding, &c.Effective, &c.Permitted, &c.Inheritable, &c.Ambient} {
		*set = slices.DeleteFunc(slices.Clone(*set), func(name string) bool { return name == "CAP_SYS_CHROOT" || name == "CAP_MKNOD" })
	}
}

// passSignals hands signals to the process above, a byte each, which passes them on.
func (r *runner) passSignals(above int) {
	signals := r.Signals
	for {
		select {
		case <-r.done:
			return
		case sig, ok := <-signals:
			if !ok {
				signals = nil
			} else if n, ok := sig.(syscall.Signal); ok {
				unix.Write(above, []byte{byte(n)})
			}
		}
	}
}

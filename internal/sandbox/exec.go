package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// ExecConfig is what else to run in a sandbox. Pid and Process are needed, the rest may be zero.
type ExecConfig struct {
	// Pid is the sandbox's first process, as we see it.
	Pid int
	// Process says how, as the sandbox's own spec does for the first: arguments, environment, folder, user,
	// capabilities, limits, terminal.
	Process *specs.Process
	// Seccomp is the filter; that of the sandbox's spec, mostly.
	Seccomp *specs.LinuxSeccomp
	// Cgroups are the directories of the sandbox's cgroups (Started.Cgroups), which it becomes a member of.
	Cgroups []string

	// Owners are those of the sandbox's own Config.
	Owners *Owners

	// As in Config.
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	Signals        <-chan os.Signal
	Resize         <-chan Size
	Started        func(Started)
}

// Exec runs a process in the namespaces of one that runs, confined as Process and Seccomp say, and waits for
// its end. It is as Run, and ends with the sandbox.
//
// Nothing of ours can be got at by what runs in the sandbox. What enters it has none of our memory nor of our descriptors,
// is a file that nobody can write to, and cannot be looked into: see entrance. Where that cannot be had a copy of this
// program joins the namespaces, executed from a mount that is read-only and nowhere in the file system.
func Exec(ctx context.Context, c ExecConfig) (Status, error) {
	if ctx.Err() != nil {
		return Status{}, context.Cause(ctx)
	}
	p, err := newExecPlan(&c)
	if err != nil {
		return Status{}, failPlan("exec", err)
	}
	r := runner{plan: p, joined: true, Config: &Config{
		Owners: c.Owners,
		Spec:   &specs.Spec{Process: c.Process, Linux: &specs.Linux{}},
		Stdin:  c.Stdin, Stdout: c.Stdout, Stderr: c.Stderr, Signals: c.Signals, Resize: c.Resize, Started: c.Started,
	}}
	defer r.watch.end()
	if err := r.streams.open(r.Config); err != nil {
		r.streams.abandon()
		return Status{}, fail("exec", err)
	}
	p.OwnStdio = r.streams.own
	if err := r.join(c.Pid, c.Cgroups); err != nil {
		r.streams.abandon()
		if start, ok := errors.AsType[*StartError](err); ok {
			return Status{}, start
		}
		return Status{}, fail("enter the container", err)
	}
	r.streams.closeTheirs()
	return r.follow(ctx)
}

// join starts the process in the sandbox of another.
func (r *runner) join(pid int, cgroups []string) (err error) {
	if enters(r.plan) {
		if err := r.enter(pid, cgroups); !errors.Is(err, errNotDirect) {
			return err
		}
	}
	if r.launched, err = joinProcess(pid, r.plan.Outlives); err != nil {
		return err
	}
	return r.admit(cgroups)
}

// admit makes the copy a member of the cgroups and tells it what to do.
func (r *runner) admit(cgroups []string) error {
	var err error
	for _, dir := range cgroups {
		if err == nil {
			err = writeFile(filepath.Join(dir, "cgroup.procs"), fmt.Sprint(r.process.Pid))
		}
	}
	if err == nil {
		err = r.give(r.plan, r.streams.theirs)
	}
	if err != nil {
		r.process.Kill()
		unix.Close(r.socket)
		<-r.done
	}
	return err
}

// newExecPlan is the plan of a process in namespaces that exist.
func newExecPlan(c *ExecConfig) (p *plan, err error) {
	s := c.Process
	if s == nil {
		return nil, errors.New("no process to run")
	}
	if err := checkArgs(s.Args); err != nil {
		return nil, err
	}
	p = &plan{
		Terminal: s.Terminal, User: newUser(s.User), NoNewPriv: s.NoNewPrivileges, Args: s.Args, Env: s.Env, Cwd: s.Cwd,
		NoSetgroups: deniesSetgroupsIn(c.Pid), Userns: inUserns() || !sameNamespace(c.Pid, "user"),
	}
	if p.Cwd == "" {
		p.Cwd = "/"
	}
	if b := s.ConsoleSize; b != nil {
		p.Size = Size{Width: int(b.Width), Height: int(b.Height)}
	}
	if !path.IsAbs(p.Cwd) {
		return nil, fmt.Errorf("Cwd must be an absolute path: %q", p.Cwd)
	}
	for _, arg := range slices.Concat(p.Args, p.Env, []string{p.Cwd}) {
		if strings.IndexByte(arg, 0) >= 0 {
			return nil, fmt.Errorf("%q has a NUL in it", arg)
		}
	}
	if p.Caps, err = newCapSets(s.Capabilities); err != nil {
		return nil, err
	}
	if p.Rlimits, err = newRlimits(s.Rlimits); err != nil {
		return nil, err
	}
	if err := p.joinOwners(c.Pid); err != nil {
		return nil, err
	}
	if c.Seccomp != nil {
		if p.Filter, err = seccompProgram(c.Seccomp); err != nil {
			return nil, err
		}
		p.FilterFlags, err = seccompFlags(c.Seccomp.Flags)
	}
	return p, err
}

func deniesSetgroupsIn(pid int) bool {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/setgroups", pid))
	return err == nil && strings.TrimSpace(string(text)) == "deny"
}

// sameNamespace tells whether a process is in our namespace of a kind.
func sameNamespace(pid int, kind string) bool {
	ours, err := os.Readlink("/proc/self/ns/" + kind)
	theirs, err2 := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", pid, kind))
	return err == nil && err2 == nil && ours == theirs
}

// joinOwners has chowns recorded as those of the sandbox's first process are, where there is one id. Nobody can become a user there
// that the sandbox's namespace lacks.
func (p *plan) joinOwners(pid int) (err error) {
	if !oneID() {
		return nil
	}
	if ids := countedIDs(pid); !ids[p.User.UID] {
		return fmt.Errorf("user %d is not to be had: where the user namespace has one id (isolation single), a container has one user", p.User.UID)
	}
	if p.User.UID == 0 && sameNamespace(pid, "user") {
		p.OwnerFilter, err = ownerFilter()
	}
	return err
}

// countedIDs are the users of a process's namespace, which has few.
func countedIDs(pid int) map[uint32]bool {
	ids := map[uint32]bool{}
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/uid_map", pid))
	for line := range strings.Lines(string(text)) {
		var first, outside, count uint32
		if _, err := fmt.Sscan(line, &first, &outside, &count); err == nil {
			for i := range min(count, 1<<16) {
				ids[first+i] = true
			}
		}
	}
	return ids
}

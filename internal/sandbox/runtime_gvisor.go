package sandbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// runsc (gVisor) has a kernel of its own in a process of the machine, the sandbox, and lets it at the container's files by another,
// the gofer. What it calls the container's process is the sandbox: it passes signals on to the first process, and ends with its code.

// isGvisor tells whether the runtime is gVisor's, which needs to be told more than others. It goes by the name: a script with
// the name runsc-debug may call it with flags of its own.
func (rt Runtime) isGvisor() bool { return strings.HasPrefix(filepath.Base(rt.Path), "runsc") }

// gvisorFlags make runsc do what is a matter of course elsewhere.
var gvisorFlags = [...]string{
	"--overlay2=none",      // what is written to the root is to be there for cp, diff, commit, and the next start
	"--file-access=shared", // and what cp brings is to be seen
	"--network=host",       // the stack of the container's namespace: what holds for it (ports, names, others in it) holds inside
	"--oci-seccomp",        // the spec's filter is a filter of what the program may call there, too
	"--net-raw",            // whether it may have CAP_NET_RAW is the spec's word
}

// checkGvisor refuses what a container with a kernel of its own cannot share with the machine or with others: it would run, and see nothing of it.
func checkGvisor(s *specs.Spec) error {
	own := map[specs.LinuxNamespaceType]bool{}
	for _, n := range s.Linux.Namespaces {
		own[n.Type] = n.Path == ""
	}
	for _, n := range [...]struct {
		kind specs.LinuxNamespaceType
		what string
	}{{specs.PIDNamespace, "processes"}, {specs.IPCNamespace, "shared memory"}, {specs.UTSNamespace, "a host name"}} {
		if !own[n.kind] {
			return fmt.Errorf("runsc cannot share %s with the machine or with another container (--%s): its containers have a kernel of their own; "+
				"other runtimes can", n.what, n.kind)
		}
	}
	return nil
}

// RootProcess is a process whose root is that of the container as it sees it, of one whose first process is pid: pid itself, but
// for gVisor, where it is the gofer. What the container's kernel mounts by itself (tmpfs, /proc) is not to be seen there.
func (rt Runtime) RootProcess(pid int) (int, error) {
	if !rt.isGvisor() {
		return pid, nil
	}
	files, err := filepath.Glob(filepath.Join(rt.Dir, runtimeState, "*.state"))
	if err != nil {
		return 0, err
	}
	for _, f := range files {
		var state struct{ GoferPid int }
		data, err := os.ReadFile(f)
		if err == nil {
			err = json.Unmarshal(data, &state)
		}
		if err != nil {
			return 0, fmt.Errorf("what runsc knows of the container: %w", err)
		}
		if state.GoferPid > 0 {
			return state.GoferPid, nil
		}
	}
	return 0, errors.New("what runsc knows of the container names no process that has its files")
}

// killInside kills a process that was executed in the container, by its number there: what is seen of it outside, and killed by
// others, is a client of the sandbox.
func (rt Runtime) killInside(pid string) {
	if rt.isGvisor() && pid != "" {
		rt.call(context.Background(), "kill", "--pid", pid, rt.ID, "KILL")
	}
}

// loopbackAlone tells whether a container gets a network namespace of its own: the runtime's to bring up.
func loopbackAlone(s *specs.Spec) bool {
	return slices.ContainsFunc(s.Linux.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == specs.NetworkNamespace && n.Path == "" })
}

// loopbackUpOf is loopbackUp in the network namespace of a process.
func loopbackUpOf(pid int) error {
	name := fmt.Sprintf("/proc/%d/ns/net", pid)
	ns, err := unix.Open(name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: name, Err: err}
	}
	defer unix.Close(ns)
	result := make(chan error)
	onThread(func() {
		err := unix.Setns(ns, unix.CLONE_NEWNET)
		if err == nil {
			err = loopbackUp()
		}
		result <- err
	})
	if err := <-result; err != nil {
		return fmt.Errorf("bring up loopback: %w", err)
	}
	return nil
}

// adoptGofer waits for the end of the gofer, which is left to us as the sandbox is.
func (rt Runtime) adoptGofer() {
	if !rt.isGvisor() {
		return
	}
	if pid, err := rt.RootProcess(0); err == nil {
		adoptProcess(pid)
	}
}

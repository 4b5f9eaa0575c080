package container

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"nacre/internal/network"
	"nacre/internal/sandbox"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// Whose namespace a container has.
const (
	ModeHost      = "host"
	ModePrivate   = "private"
	ModeShareable = "shareable" // of IPC: its own, which others may join
	ModeNone      = "none"      // of IPC: its own, without /dev/shm
	ModeContainer = "container:"
)

// addModes are namespaces that the container has not for itself.
func (p *parts) addModes(ctx context.Context, s *Security) error {
	if s.UTS == ModeHost {
		p.dropNamespace(specs.UTSNamespace)
		p.spec.Hostname, p.spec.Domainname = "", ""
	}
	if s.Cgroupns == ModeHost {
		p.dropNamespace(specs.CgroupNamespace)
	}
	if err := p.addPID(ctx, s.PID); err != nil {
		return fmt.Errorf("--pid=%s: %w", s.PID, err)
	}
	if err := p.addIPC(ctx, s.IPC); err != nil {
		return fmt.Errorf("--ipc=%s: %w", s.IPC, err)
	}
	return nil
}

func (p *parts) dropNamespace(t specs.LinuxNamespaceType) {
	l := p.spec.Linux
	l.Namespaces = slices.DeleteFunc(l.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == t })
}

func (p *parts) joinNamespace(t specs.LinuxNamespaceType, path string) {
	p.dropNamespace(t)
	p.spec.Linux.Namespaces = append(p.spec.Linux.Namespaces, specs.LinuxNamespace{Type: t, Path: path})
}

// addPID: without a process namespace of its own the container's processes do not end with its first. So it has a
// cgroup, by which they are found.
func (p *parts) addPID(ctx context.Context, mode string) error {
	switch {
	case mode == ModeHost:
		p.dropNamespace(specs.PIDNamespace)
	case strings.HasPrefix(mode, ModeContainer):
		pid, err := p.other(ctx, mode, nil)
		if err != nil {
			return err
		}
		p.joinNamespace(specs.PIDNamespace, fmt.Sprintf("/proc/%d/ns/pid", pid))
	default:
		return nil
	}
	p.spec.Linux.CgroupsPath = strings.TrimPrefix(sandbox.CgroupBelow(""), "/")
	return nil
}

// addIPC shares System V and POSIX objects, and with them /dev/shm, where the user did not mount something else there.
func (p *parts) addIPC(ctx context.Context, mode string) error {
	shm := slices.IndexFunc(p.spec.Mounts, func(m specs.Mount) bool { return m.Destination == "/dev/shm" && m.Type == "tmpfs" && m.Source == "shm" })
	switch {
	case mode == ModeNone && shm >= 0:
		p.spec.Mounts = slices.Delete(p.spec.Mounts, shm, shm+1)
	case mode == ModeHost:
		p.dropNamespace(specs.IPCNamespace)
		if shm >= 0 {
			p.spec.Mounts[shm] = specs.Mount{Destination: "/dev/shm", Type: "bind", Source: "/dev/shm", Options: []string{"bind", "nosuid", "noexec", "nodev"}}
		}
	case strings.HasPrefix(mode, ModeContainer):
		pid, err := p.other(ctx, mode, func(c *Container) error {
			if m := c.Config.Security.IPC; m != ModeShareable && m != ModeHost {
				return fmt.Errorf("non-shareable IPC of container %s (hint: use --ipc=shareable for it)", c.ShortID())
			}
			return nil
		})
		if err != nil {
			return err
		}
		p.joinNamespace(specs.IPCNamespace, fmt.Sprintf("/proc/%d/ns/ipc", pid))
		if shm >= 0 {
			p.spec.Mounts[shm] = sandbox.MountOf("/dev/shm", pid, "/dev/shm", "nosuid", "noexec", "nodev")
		}
	}
	return nil
}

// other is the first process of the container that a mode names.
func (p *parts) other(ctx context.Context, mode string, check func(*Container) error) (pid int, err error) {
	c, err := p.c.cs.Find(ctx, strings.TrimPrefix(mode, ModeContainer))
	if err != nil {
		return 0, err
	}
	if check != nil {
		if err := check(c); err != nil {
			return 0, err
		}
	}
	if c.State.Pid == 0 || !c.State.Status.Alive() {
		return 0, fmt.Errorf("container %s is not running", c.ShortID())
	}
	f, err := os.Open(fmt.Sprintf("/proc/%d/ns/ipc", c.State.Pid))
	if errors.Is(err, fs.ErrPermission) {
		return 0, fmt.Errorf("%w: %w", err, network.ErrForeign)
	}
	if err == nil {
		f.Close()
	}
	return c.State.Pid, nil
}

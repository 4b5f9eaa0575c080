package container

import (
	"context"
	"strings"

	"nacre/internal/network"
	"nacre/internal/sandbox"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// Warm prepares for a Run of a container like this in this process, which takes as long as to make the container does. It is
// a guess at the namespaces: where it is wrong nothing is lost but the work. What has mounts of its own is left alone, as those that
// are made meanwhile would not be seen, and so is what shares with others, in whose user namespace it may have to start.
func (c *Config) Warm(ctx context.Context) {
	s := &c.Security
	if len(c.Mounts) > 0 || strings.HasPrefix(c.Network.Mode, network.ModeContainer) || s.Runtime != "" || s.Userns != "" || s.PID != "" || s.UTS == ModeHost || s.Cgroupns == ModeHost || !ownIPC(s.IPC) {
		return
	}
	p := &parts{c: &Container{Config: *c}, spec: &specs.Spec{Process: &specs.Process{}, Linux: &specs.Linux{}}}
	for _, t := range []specs.LinuxNamespaceType{specs.MountNamespace, specs.PIDNamespace, specs.IPCNamespace, specs.UTSNamespace, specs.CgroupNamespace} {
		p.spec.Linux.Namespaces = append(p.spec.Linux.Namespaces, specs.LinuxNamespace{Type: t})
	}
	if c.Network.Mode == network.ModeNone { // others are there before the sandbox
		p.spec.Linux.Namespaces = append(p.spec.Linux.Namespaces, specs.LinuxNamespace{Type: specs.NetworkNamespace})
	}
	if p.addResources(ctx) == nil {
		sandbox.Warm(p.spec)
	}
}

// ownIPC tells whether a mode of --ipc gives the container a namespace.
func ownIPC(mode string) bool {
	return mode == "" || mode == ModePrivate || mode == ModeShareable || mode == ModeNone
}

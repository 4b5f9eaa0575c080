package container

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"nacre/internal/network"
	"nacre/internal/rootfs"
	"nacre/internal/sandbox"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// Confinement is what differs from how every container is confined. The zero value is docker's default.
type Confinement struct {
	// Privileged: every capability and device, no filter, nothing hidden or read-only.
	Privileged bool `json:"privileged,omitempty"`
	// CapAdd and CapDrop are changes to the default capabilities: CAP_NAME, or ALL.
	CapAdd  []string `json:"capAdd,omitempty"`
	CapDrop []string `json:"capDrop,omitempty"`
	// Seccomp is a profile in docker's JSON; empty is the default one, SeccompUnconfined none.
	Seccomp string `json:"seccomp,omitempty"`
	// OpenPaths: no path of /proc and /sys is hidden or read-only.
	OpenPaths bool `json:"openPaths,omitempty"`
	// WritableCgroups: it may divide its own cgroup.
	WritableCgroups bool `json:"writableCgroups,omitempty"`
	// Options are the security options as the user wrote them, to be shown.
	Options []string `json:"options,omitempty"`

	Devices     []Device `json:"devices,omitempty"`
	DeviceRules []string `json:"deviceRules,omitempty"` // "c 1:3 rwm"
	CDI         []string `json:"cdi,omitempty"`         // full names of devices that CDI specs describe

	Groups  []string          `json:"groups,omitempty"` // further groups of the process: names or numbers
	Sysctls map[string]string `json:"sysctls,omitempty"`
	Umask   *uint32           `json:"umask,omitempty"`

	// Namespaces that it has not for itself: ModeHost, ModeContainer and a name; of IPC also ModeShareable, ModeNone.
	IPC      string `json:"ipc,omitempty"`
	PID      string `json:"pid,omitempty"`
	UTS      string `json:"uts,omitempty"`
	Cgroupns string `json:"cgroupns,omitempty"`

	// Runtime is the OCI runtime to run it with, a name or a path; empty: none, this program does it.
	Runtime string `json:"runtime,omitempty"`
}

// SeccompUnconfined is the profile that is none.
const SeccompUnconfined = "unconfined"

// NormalizeCap is the name of a capability as the kernel has it, or ALL: net_admin is CAP_NET_ADMIN.
func NormalizeCap(name string) (string, error) {
	n := strings.ToUpper(name)
	if n == "ALL" {
		return n, nil
	}
	if !strings.HasPrefix(n, "CAP_") {
		n = "CAP_" + n
	}
	if !sandbox.KnownCapability(n) {
		return "", fmt.Errorf("unknown capability %q", name)
	}
	return n, nil
}

// capabilities are those of the container; nil is the default. What is added by name stays where it, or all, are dropped; of
// all that are added, those dropped by name are left out. That is docker's rule, but for ALL added and dropped, which is none.
func (s *Security) capabilities() ([]string, error) {
	if !s.Privileged && len(s.CapAdd)+len(s.CapDrop) == 0 {
		return nil, nil
	}
	all, err := sandbox.AllCapabilities()
	if err != nil {
		return nil, err
	}
	if s.Privileged {
		return all, nil
	}
	caps := sandbox.DefaultCapabilities()
	every := slices.Contains(s.CapAdd, "ALL")
	if every {
		caps = all
	}
	drop := slices.Contains(s.CapDrop, "ALL")
	caps = slices.DeleteFunc(caps, func(c string) bool { return drop || slices.Contains(s.CapDrop, c) })
	for _, c := range s.CapAdd {
		switch {
		case c == "ALL" || slices.Contains(caps, c), every && slices.Contains(s.CapDrop, c):
		case !slices.Contains(all, c):
			return nil, fmt.Errorf("--cap-add %s: this process has no such capability to give", c)
		default:
			caps = append(caps, c)
		}
	}
	return append([]string{}, caps...), nil
}

// addSecurity is confinement that differs from the default.
func (p *parts) addSecurity(ctx context.Context) error {
	s := &p.c.Config.Security
	p.spec.Process.NoNewPrivileges = s.NoNewPrivileges
	for _, add := range []func(context.Context, *Security) error{p.addModes, p.addGroups, p.addDevices, p.addFilter} {
		if err := add(ctx, s); err != nil {
			return err
		}
	}
	l := p.spec.Linux
	if s.OpenPaths || s.Privileged {
		l.MaskedPaths, l.ReadonlyPaths = nil, nil
	}
	if s.Privileged || s.WritableCgroups {
		p.writable(s.Privileged)
	}
	if s.Umask != nil {
		p.spec.Process.User.Umask = s.Umask
	}
	return p.addSysctls(s.Sysctls)
}

// writable lets cgroups be written to, and with all of it /sys, too.
func (p *parts) writable(all bool) {
	for i, m := range p.spec.Mounts {
		if m.Type == "cgroup" || m.Type == "sysfs" && all {
			p.spec.Mounts[i].Options = slices.DeleteFunc(slices.Clone(m.Options), func(o string) bool { return o == "ro" })
		}
	}
}

// addFilter is the seccomp profile where it is not the default, which the spec has already.
func (p *parts) addFilter(_ context.Context, s *Security) (err error) {
	switch {
	case s.Seccomp == SeccompUnconfined || s.Seccomp == "" && s.Privileged:
		p.spec.Linux.Seccomp = nil
	case s.Seccomp != "":
		p.spec.Linux.Seccomp, err = sandbox.LoadSeccomp(s.Seccomp, p.spec.Process.Capabilities)
	}
	return err
}

// addGroups looks up the further groups in the image.
func (p *parts) addGroups(_ context.Context, s *Security) error {
	if len(s.Groups) == 0 {
		return nil
	}
	more, err := rootfs.LookupGroups(p.lower, s.Groups)
	if err != nil {
		return err
	}
	u := &p.spec.Process.User
	for _, g := range more {
		if !slices.Contains(u.AdditionalGids, g) {
			u.AdditionalGids = append(u.AdditionalGids, g)
		}
	}
	return nil
}

// addSysctls sets what belongs to the container's own namespaces.
func (p *parts) addSysctls(set map[string]string) error {
	if len(set) == 0 {
		return nil
	}
	all := maps.Clone(p.spec.Linux.Sysctl)
	if all == nil {
		all = map[string]string{}
	}
	// A network of its own is made before the container, and has a path, as another's does.
	ownNetwork := !strings.HasPrefix(p.c.Config.Network.Mode, network.ModeContainer)
	own := func(t specs.LinuxNamespaceType) bool {
		return slices.ContainsFunc(p.spec.Linux.Namespaces, func(n specs.LinuxNamespace) bool {
			return n.Type == t && (n.Path == "" || t == specs.NetworkNamespace && ownNetwork)
		})
	}
	for key, value := range set {
		kind, err := SysctlNamespace(key)
		if err != nil {
			return err
		}
		if !own(kind) {
			return fmt.Errorf("--sysctl %s: the container has no %s namespace of its own, so this would be set for others", key, kind)
		}
		all[key] = value
	}
	p.spec.Linux.Sysctl = all
	return nil
}

// errSysctl: a setting is of the whole machine.
var errSysctl = errors.New("it is a setting of the whole machine, not of a container")

// SysctlNamespace tells of which namespace a kernel setting is.
func SysctlNamespace(key string) (specs.LinuxNamespaceType, error) {
	k := strings.ReplaceAll(key, "/", ".")
	ipc := []string{"kernel.msgmax", "kernel.msgmnb", "kernel.msgmni", "kernel.sem", "kernel.shmall", "kernel.shmmax", "kernel.shmmni", "kernel.shm_rmid_forced"}
	switch {
	case strings.Contains(k, "..") || strings.ContainsRune(k, 0):
		return "", fmt.Errorf("--sysctl %s: no such setting", key)
	case slices.Contains(ipc, k), strings.HasPrefix(k, "fs.mqueue."):
		return specs.IPCNamespace, nil
	case strings.HasPrefix(k, "net."):
		return specs.NetworkNamespace, nil
	case k == "kernel.domainname":
		return specs.UTSNamespace, nil
	case k == "kernel.hostname":
		return "", fmt.Errorf("--sysctl %s: use --hostname", key)
	}
	return "", fmt.Errorf("--sysctl %s: %w", key, errSysctl)
}

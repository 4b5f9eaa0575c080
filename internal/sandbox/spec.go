package sandbox

import (
	"slices"
	"strconv"

	"github.com/moby/profiles/seccomp"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// SpecOptions are what differs from run to run. The zero value, with Args, is a root
// process without a network.
type SpecOptions struct {
	Args     []string
	Env      []string
	Cwd      string // empty is /
	User     specs.User
	Hostname string // empty keeps the host's name, in a namespace of its own
	Terminal bool
	// HostNetwork shares the host's network; otherwise there is loopback and nothing else.
	HostNetwork bool
	// ReadonlyRoot lets nothing be written to the root.
	ReadonlyRoot bool
	// Capabilities of the process; nil is DefaultCapabilities. The seccomp profile follows them.
	Capabilities []string
	ShmSize      int64 // bytes of /dev/shm; 0 is 64 MiB
}

// DefaultSpec is a spec with Docker's defaults: namespaces, mounts, capabilities,
// seccomp profile, masked and read-only paths.
func DefaultSpec(o SpecOptions) *specs.Spec {
	if o.Cwd == "" {
		o.Cwd = "/"
	}
	if o.Capabilities == nil {
		o.Capabilities = DefaultCapabilities()
	}
	if o.ShmSize == 0 {
		o.ShmSize = 64 << 20
	}
	s := &specs.Spec{
		Version:  specs.Version,
		Hostname: o.Hostname,
		Root:     &specs.Root{Readonly: o.ReadonlyRoot},
		Process: &specs.Process{
			Args: o.Args, Env: o.Env, Cwd: o.Cwd, User: o.User, Terminal: o.Terminal,
			Capabilities: capabilitiesFor(o.User, o.Capabilities),
		},
		Mounts: defaultMounts(o),
		Linux: &specs.Linux{
			Namespaces: []specs.LinuxNamespace{
				{Type: specs.MountNamespace}, {Type: specs.PIDNamespace}, {Type: specs.IPCNamespace},
				{Type: specs.UTSNamespace}, {Type: specs.CgroupNamespace},
			},
			MaskedPaths: MaskedPaths(), ReadonlyPaths: ReadonlyPaths(),
		},
	}
	if !o.HostNetwork {
		s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.NetworkNamespace})
		// In a network of its own a process may use low ports and ping without being root.
		s.Linux.Sysctl = map[string]string{
			"net.ipv4.ip_unprivileged_port_start": "0",
			"net.ipv4.ping_group_range":           "0 2147483647",
		}
	}
	s.Linux.Seccomp = defaultSeccomp(s)
	return s
}

// MaskedPaths are what DefaultSpec hides.
func MaskedPaths() []string { return slices.Clone(maskedPaths()) }

// ReadonlyPaths are what DefaultSpec lets be read and not written.
func ReadonlyPaths() []string {
	return []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"}
}

// capabilitiesFor gives other users than root no more than the bounding set: what
// execve would leave them anyhow.
func capabilitiesFor(u specs.User, caps []string) *specs.LinuxCapabilities {
	if u.UID != 0 {
		return &specs.LinuxCapabilities{Bounding: caps}
	}
	return &specs.LinuxCapabilities{Bounding: caps, Effective: caps, Permitted: caps}
}

// defaultSeccomp is Docker's profile for the capabilities of s and this kernel.
func defaultSeccomp(s *specs.Spec) *specs.LinuxSeccomp {
	profile, err := seccomp.GetDefaultProfile(s)
	if err != nil {
		// The kernel's version is not to be understood. Nothing is allowed then: what
		// is started fails, which is better than starting it without a filter.
		return &specs.LinuxSeccomp{DefaultAction: specs.ActErrno}
	}
	return profile
}

func defaultMounts(o SpecOptions) []specs.Mount {
	return []specs.Mount{
		{Destination: "/proc", Type: "proc", Source: "proc", Options: []string{"nosuid", "noexec", "nodev"}},
		{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "strictatime", "mode=755", "size=65536k"}},
		{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"}},
		{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: []string{"nosuid", "noexec", "nodev", "ro"}},
		{Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup", Options: []string{"ro", "nosuid", "noexec", "nodev"}},
		{Destination: "/dev/mqueue", Type: "mqueue", Source: "mqueue", Options: []string{"nosuid", "noexec", "nodev"}},
		{Destination: "/dev/shm", Type: "tmpfs", Source: "shm", Options: []string{"nosuid", "noexec", "nodev", "mode=1777", "size=" + strconv.FormatInt(o.ShmSize, 10)}},
	}
}

package sandbox

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"nacre/internal/rootfs"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// plan is everything the started copy of this program needs to know, worked out as far
// as it can be beforehand: that copy shall only make system calls.
type plan struct {
	Root         rootfs.Mount
	Chroot       string // a directory that is the root, where nothing can be mounted: Root and all about mounts are empty then
	Scratch      string // an empty directory, which is mounted over
	ReadonlyRoot bool
	AllDevices   bool // no rule keeps the process from devices
	Userns       bool // in a user namespace: see adaptToUserns
	NoSetgroups  bool // groups stay as they are
	RootGiven    bool // the root comes with the plan as a mount, and so do, by index, these of Mounts:
	Given        []int

	Join        []join   // namespaces to enter
	Cgroups     []string // cgroup.procs files to be entered
	NewCgroupNS bool
	SetOOMScore bool
	OOMScore    int
	Hostname    string
	Domain      string
	Loopback    bool // bring it up
	Sysctl      []keyValue
	Mounts      []mount
	Trees       []Tree
	Devices     []device
	Masked      []string
	Readonly    []string
	Terminal    bool
	Size        Size
	OwnStdio    [3]bool // pipes that are made over to the user
	Rlimits     []rlimit
	User        user
	Caps        capSets
	NoNewPriv   bool
	Filter      []byte
	FilterFlags uint
	OwnerFilter []byte // see owners.go

	Init      bool // an init starts the program: see Config
	Args, Env []string
	Cwd       string

	RuntimeHooks bool // hooks or Config.Created are waited for before leaving the host's root
	Outlives     bool // it does not end with who starts it
	Waits        bool // for Start, before the program is executed

	// Of hooks; all empty without.
	Config                  []byte // the bundle's config.json; Scratch is the bundle then
	CreateHooks, StartHooks []hook
	CreateState, StartState []byte // what they read
}

// lower has a name of its own only to be short.
type lower = rootfs.Lower

type join struct {
	Flag int
	Path string
}

type keyValue struct{ Key, Value string }

type rlimit struct {
	Resource   int
	Soft, Hard uint64
}

type user struct {
	UID, GID uint32
	Groups   []uint32
	Umask    uint32
}

// device is a node to be made in /dev.
type device struct {
	Path     string
	Mode     uint32 // with S_IFCHR, S_IFBLK or S_IFIFO
	Rdev     uint64
	UID, GID uint32
}

// checkArgs tells of a process that cannot be: an empty name is that of a program that is not there, as for others who look for it.
func checkArgs(args []string) error {
	switch {
	case len(args) == 0:
		return errors.New("no command to run")
	case args[0] == "":
		return &StartError{Code: CodeNotFound, Op: `exec ""`, Err: errors.New("executable file not found in $PATH")}
	}
	return nil
}

// failPlan is fail for what was found while planning, which may know its code.
func failPlan(op string, err error) *StartError {
	if start, ok := errors.AsType[*StartError](err); ok {
		return start
	}
	return fail(op, err)
}

// newPlan checks a config and translates it. What it does not find supported is an error.
func newPlan(c *Config) (*plan, error) {
	s := c.Spec
	if s == nil || s.Process == nil || s.Linux == nil {
		return nil, errors.New("the spec has no process or no Linux part")
	}
	if err := checkArgs(s.Process.Args); err != nil {
		return nil, err
	}
	if err := unsupported(s); err != nil {
		return nil, err
	}
	p := &plan{
		Root:         c.Root,
		Init:         c.Init,
		RootGiven:    c.RootDir != "",
		Trees:        c.Trees,
		ReadonlyRoot: s.Root != nil && s.Root.Readonly,
		AllDevices:   allDevices(s.Linux.Resources) || deviceRules(s.Linux.Resources) != nil,
		Hostname:     s.Hostname,
		Domain:       s.Domainname,
		Masked:       s.Linux.MaskedPaths,
		Readonly:     s.Linux.ReadonlyPaths,
		Terminal:     s.Process.Terminal,
		User:         newUser(s.Process.User),
		NoNewPriv:    s.Process.NoNewPrivileges,
		Args:         s.Process.Args,
		Env:          s.Process.Env,
		Cwd:          s.Process.Cwd,
	}
	if score := s.Process.OOMScoreAdj; score != nil {
		p.SetOOMScore, p.OOMScore = true, *score
	}
	if b := s.Process.ConsoleSize; b != nil {
		p.Size = Size{Width: int(b.Width), Height: int(b.Height)}
	}
	if !path.IsAbs(p.Cwd) {
		return nil, fmt.Errorf("working directory %q is not absolute", p.Cwd)
	}
	return p, p.addParts(c)
}

// addParts adds what is translated by functions that may fail.
func (p *plan) addParts(c *Config) (err error) {
	s := c.Spec
	for _, arg := range slices.Concat(p.Args, p.Env, []string{p.Cwd, p.Hostname, p.Domain}) {
		if strings.IndexByte(arg, 0) >= 0 {
			return fmt.Errorf("%q has a NUL in it", arg)
		}
	}
	if p.Caps, err = newCapSets(s.Process.Capabilities); err != nil {
		return err
	}
	if p.Rlimits, err = newRlimits(s.Process.Rlimits); err != nil {
		return err
	}
	if p.Devices, err = newDevices(s.Linux.Devices); err != nil {
		return err
	}
	if p.Mounts, err = newMounts(s, c.Files, p.AllDevices); err != nil {
		return err
	}
	if s.Linux.Seccomp != nil {
		if p.Filter, err = seccompProgram(s.Linux.Seccomp); err != nil {
			return err
		}
		if p.FilterFlags, err = seccompFlags(s.Linux.Seccomp.Flags); err != nil {
			return err
		}
	}
	for key, value := range s.Linux.Sysctl {
		p.Sysctl = append(p.Sysctl, keyValue{key, value})
	}
	slices.SortFunc(p.Sysctl, func(a, b keyValue) int { return strings.Compare(a.Key, b.Key) })
	if err := p.adaptToUserns(s); err != nil {
		return err
	}
	return p.addNamespaces(s)
}

func (p *plan) addNamespaces(s *specs.Spec) error {
	for _, ns := range s.Linux.Namespaces {
		switch {
		case ns.Path != "" && ns.Type == specs.PIDNamespace: // it begins there
		case ns.Path != "":
			p.Join = append(p.Join, join{namespaceFlag(ns.Type), ns.Path})
		case ns.Type == specs.NetworkNamespace:
			p.Loopback = true
		}
	}
	flags := cloneFlags(s)
	if flags&unix.CLONE_NEWNS == 0 {
		return errors.New("a mount namespace is needed")
	}
	joined := slices.ContainsFunc(p.Join, func(j join) bool { return j.Flag == unix.CLONE_NEWUTS })
	if (p.Hostname != "" || p.Domain != "") && flags&unix.CLONE_NEWUTS == 0 && !joined {
		return errors.New("a host name needs an uts namespace")
	}
	return nil
}

// namespaceFlag is a namespace's CLONE_ flag; 0 for those that are not supported.
func namespaceFlag(t specs.LinuxNamespaceType) int {
	switch t {
	case specs.MountNamespace:
		return unix.CLONE_NEWNS
	case specs.PIDNamespace:
		return unix.CLONE_NEWPID
	case specs.IPCNamespace:
		return unix.CLONE_NEWIPC
	case specs.UTSNamespace:
		return unix.CLONE_NEWUTS
	case specs.NetworkNamespace:
		return unix.CLONE_NEWNET
	case specs.CgroupNamespace:
		return unix.CLONE_NEWCGROUP
	}
	return 0
}

// cloneFlags are the namespaces to be made.
func cloneFlags(s *specs.Spec) (flags uintptr) {
	for _, ns := range s.Linux.Namespaces {
		if ns.Path == "" {
			flags |= uintptr(namespaceFlag(ns.Type))
		}
	}
	return flags
}

// joinedPIDs is the process namespace to begin in; empty: another than those of others.
func joinedPIDs(s *specs.Spec) string {
	for _, ns := range s.Linux.Namespaces {
		if ns.Type == specs.PIDNamespace {
			return ns.Path
		}
	}
	return ""
}

// unsupported names the first part of a spec that would be passed over otherwise.
func unsupported(s *specs.Spec) error {
	l, p := s.Linux, s.Process
	for _, ns := range l.Namespaces {
		if ns.Type == specs.UserNamespace && ns.Path == "" && len(l.UIDMappings) > 0 && len(l.GIDMappings) > 0 {
			continue // made with the maps
		}
		if namespaceFlag(ns.Type) == 0 {
			return fmt.Errorf("%s namespaces are not supported", ns.Type)
		}
		if ns.Path != "" && ns.Type == specs.MountNamespace {
			return fmt.Errorf("entering a %s namespace is not supported", ns.Type)
		}
	}
	for _, part := range []struct {
		name string
		has  bool
	}{
		{"seccomp listeners", l.Seccomp != nil && l.Seccomp.ListenerPath != ""},
		{"rootfs propagation " + l.RootfsPropagation, !slices.Contains([]string{"", "private", "rprivate", "slave", "rslave"}, l.RootfsPropagation)},
		{"AppArmor profiles", p.ApparmorProfile != ""},
		{"SELinux labels", p.SelinuxLabel != "" || l.MountLabel != ""},
		{"network devices", len(l.NetDevices) > 0},
		{"Intel RDT", l.IntelRdt != nil},
		{"memory policies", l.MemoryPolicy != nil},
		{"personalities", l.Personality != nil},
		{"time offsets", len(l.TimeOffsets) > 0},
		{"schedulers", p.Scheduler != nil},
		{"I/O priorities", p.IOPriority != nil},
		{"CPU affinities", p.ExecCPUAffinity != nil},
	} {
		if part.has {
			return fmt.Errorf("%s are not supported", part.name)
		}
	}
	return nil
}

func newUser(u specs.User) user {
	out := user{UID: u.UID, GID: u.GID, Groups: u.AdditionalGids, Umask: 0o022}
	if u.Umask != nil {
		out.Umask = *u.Umask
	}
	return out
}

func newRlimits(list []specs.POSIXRlimit) ([]rlimit, error) {
	var out []rlimit
	for _, l := range list {
		n := slices.Index(strings.Fields(rlimitNames), strings.TrimPrefix(l.Type, "RLIMIT_"))
		if n < 0 {
			return nil, fmt.Errorf("unknown resource limit %q", l.Type)
		}
		if l.Soft > l.Hard {
			return nil, fmt.Errorf("resource limit %s: soft limit %d is above hard limit %d", l.Type, l.Soft, l.Hard)
		}
		out = append(out, rlimit{n, l.Soft, l.Hard})
	}
	return out, nil
}

// rlimitNames are the limits by number (include/uapi/asm-generic/resource.h).
const rlimitNames = "CPU FSIZE DATA STACK CORE RSS NPROC NOFILE MEMLOCK AS LOCKS SIGPENDING MSGQUEUE NICE RTPRIO RTTIME"

// allDevices tells whether the device rules, of which the last that matches counts,
// end in one that allows all.
func allDevices(r *specs.LinuxResources) bool {
	if r == nil || len(r.Devices) == 0 {
		return false
	}
	last := r.Devices[len(r.Devices)-1]
	return last.Allow && (last.Type == "" || last.Type == "a") && last.Major == nil && last.Minor == nil
}

// newDevices are the nodes every container has, and those of the spec.
func newDevices(list []specs.LinuxDevice) ([]device, error) {
	var out []device
	for name, minor := range map[string]uint32{"null": 3, "zero": 5, "full": 7, "random": 8, "urandom": 9} {
		out = append(out, device{Path: "/dev/" + name, Mode: unix.S_IFCHR | 0o666, Rdev: unix.Mkdev(1, minor)})
	}
	out = append(out, device{Path: "/dev/tty", Mode: unix.S_IFCHR | 0o666, Rdev: unix.Mkdev(5, 0)})
	for _, d := range list {
		types := map[string]uint32{"c": unix.S_IFCHR, "u": unix.S_IFCHR, "b": unix.S_IFBLK, "p": unix.S_IFIFO}
		mode, ok := types[d.Type]
		if !ok || !path.IsAbs(d.Path) {
			return nil, fmt.Errorf("device %q of type %q is not supported", d.Path, d.Type)
		}
		if path.Clean(d.Path) == "/dev/ptmx" { // a link to that of the container's own terminals, always
			continue
		}
		node := device{Path: path.Clean(d.Path), Mode: mode | 0o666, Rdev: unix.Mkdev(uint32(d.Major), uint32(d.Minor))}
		if d.FileMode != nil {
			node.Mode = mode | uint32(d.FileMode.Perm())
		}
		if d.UID != nil {
			node.UID = *d.UID
		}
		if d.GID != nil {
			node.GID = *d.GID
		}
		out = slices.DeleteFunc(out, func(o device) bool { return o.Path == node.Path })
		out = append(out, node)
	}
	slices.SortFunc(out, func(a, b device) int { return strings.Compare(a.Path, b.Path) })
	return out, nil
}

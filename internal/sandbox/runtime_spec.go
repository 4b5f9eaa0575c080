package sandbox

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// runtimeVersion is the version of the spec that configs for other runtimes say they have: older ones refuse what is newer, and nothing in
// them is.
const runtimeVersion = "1.0.2"

// initPath is where this program is in a container whose first process it is to be, run by another runtime.
const initPath = "/.nacre-init"

// runtimeSpec is c's spec in a form that any runtime takes. The warnings say what is left out.
func runtimeSpec(c *Config) (*specs.Spec, []string, error) {
	if c.Spec == nil || c.Spec.Process == nil || c.Spec.Linux == nil {
		return nil, nil, errors.New("the spec has no process or no Linux part")
	}
	if len(c.Spec.Linux.UIDMappings) > 0 {
		return nil, nil, errors.New("a user namespace of the container's own is not supported with another OCI runtime")
	}
	s, process, linux := *c.Spec, *c.Spec.Process, *c.Spec.Linux
	s.Version, s.Process, s.Linux = runtimeVersion, &process, &linux
	s.Mounts = slices.Clone(s.Mounts)
	linux.Sysctl = maps.Clone(linux.Sysctl)
	if linux.Sysctl == nil {
		linux.Sysctl = map[string]string{}
	}
	if s.Domainname != "" { // which runc has known only since 1.2; this all do
		linux.Sysctl["kernel.domainname"], s.Domainname = s.Domainname, ""
	}
	if c.Init {
		process.Args = append([]string{initPath}, process.Args...)
		s.Mounts = append(s.Mounts, specs.Mount{Destination: initPath, Type: selfType, Options: []string{"ro", "private"}})
	}
	linux.RootfsPropagation = rootPropagation(&s)
	if !inUserns() {
		if linux.CgroupsPath == "" {
			linux.CgroupsPath = CgroupBelow("")
		}
		linux.Resources = withDeviceRules(&linux)
		return &s, nil, nil
	}
	if uid := process.User.UID; oneID() && !countedIDs(os.Getpid())[uid] {
		return nil, nil, fmt.Errorf("another OCI runtime cannot run it as user %d: where the user namespace has one id (isolation single), "+
			"that is root's; without --runtime it can, and so it can for users who have ids in /etc/subuid and /etc/subgid", uid)
	}
	return &s, adaptSpec(&s), nil
}

// withDeviceRules says which devices may be opened where nobody said so yet: those that are there. Our own sandbox has no need for it.
func withDeviceRules(l *specs.Linux) *specs.LinuxResources {
	var r specs.LinuxResources
	if l.Resources != nil {
		r = *l.Resources
	}
	if len(r.Devices) == 0 {
		r.Devices = append([]specs.LinuxDeviceCgroup{{Allow: false, Access: "rwm"}}, usualDeviceRules(l)...)
	}
	return &r
}

// usualDeviceRules are for the devices that every container has, and those of the spec. Nodes of others may be made, and not be opened.
func usualDeviceRules(l *specs.Linux) (rules []specs.LinuxDeviceCgroup) {
	allow := func(kind string, major, minor int64, access string) {
		d := specs.LinuxDeviceCgroup{Allow: true, Type: kind, Access: access}
		if major >= 0 {
			d.Major = &major
		}
		if minor >= 0 {
			d.Minor = &minor
		}
		rules = append(rules, d)
	}
	allow("c", -1, -1, "m")
	allow("b", -1, -1, "m")
	for _, d := range [][2]int64{{1, 3}, {1, 5}, {1, 7}, {1, 8}, {1, 9}, {5, 0}, {5, 2}, {136, -1}} {
		allow("c", d[0], d[1], "rwm")
	}
	for _, d := range l.Devices {
		if d.Type != "p" {
			allow(d.Type, d.Major, d.Minor, "rwm")
		}
	}
	return rules
}

// rootPropagation is what the root must have for mounts to exchange anything with the machine.
func rootPropagation(s *specs.Spec) string {
	out := s.Linux.RootfsPropagation
	for _, m := range s.Mounts {
		for _, o := range m.Options {
			switch {
			case o == "shared" || o == "rshared":
				return "shared"
			case (o == "slave" || o == "rslave") && out == "":
				out = "rslave"
			}
		}
	}
	return out
}

// adaptSpec changes what cannot be done in a user namespace of ours, as adaptToUserns does for our own sandbox.
func adaptSpec(s *specs.Spec) (warnings []string) {
	ownNetwork := cloneFlags(s)&namespaceBit(specs.NetworkNamespace) != 0
	gids := countIDs("/proc/self/gid_map")
	s.Mounts = slices.DeleteFunc(s.Mounts, func(m specs.Mount) bool { return m.Type == "cgroup" && !unifiedOnly() })
	for i := range s.Mounts {
		m := &s.Mounts[i]
		switch {
		case m.Type == "sysfs" && !ownNetwork:
			m.Type, m.Source = "bind", "/sys"
			m.Options = []string{"rbind", "nosuid", "noexec", "nodev", "rro"}
		case m.Type == "devpts" && gids <= ttyGroup:
			m.Options = slices.DeleteFunc(slices.Clone(m.Options), func(o string) bool { return o == "gid="+strconv.Itoa(ttyGroup) })
		}
	}
	const pings = "net.ipv4.ping_group_range"
	if value, has := s.Linux.Sysctl[pings]; has {
		s.Linux.Sysctl[pings] = clampRange(value, gids)
	}
	if hasLimits(s.Linux) && (!unifiedOnly() || !canDelegate()) {
		warnings = limitWarnings([]string{"what limits the container"}, []error{errNotDelegated})
		s.Linux.Resources, s.Linux.CgroupsPath = nil, ""
	}
	return warnings
}

func canDelegate() bool {
	_, err := delegated(cgroupRoot, ownCgroup(), writable)
	return err == nil
}

func namespaceBit(t specs.LinuxNamespaceType) uintptr { return uintptr(namespaceFlag(t)) }

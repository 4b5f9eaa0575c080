package build

import (
	"slices"

	"nacre/internal/sandbox"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// insecure gives the process of a spec what the host's root has within its namespaces:
// every capability and device, no filter, nothing hidden (RUN --security=insecure).
func insecure(s *specs.Spec) error {
	all, err := sandbox.AllCapabilities()
	if err != nil {
		return err
	}
	s.Process.Capabilities = &specs.LinuxCapabilities{Bounding: all, Effective: all, Permitted: all, Inheritable: all}
	l := s.Linux
	l.Seccomp, l.MaskedPaths, l.ReadonlyPaths = nil, nil, nil
	if l.Resources == nil {
		l.Resources = &specs.LinuxResources{}
	}
	l.Resources.Devices = append(l.Resources.Devices, specs.LinuxDeviceCgroup{Allow: true, Access: "rwm"})
	for i, m := range s.Mounts {
		if m.Type == "sysfs" || m.Type == "cgroup" {
			s.Mounts[i].Options = slices.DeleteFunc(slices.Clone(m.Options), func(o string) bool { return o == "ro" })
		}
	}
	return nil
}

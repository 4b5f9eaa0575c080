package build

import (
	"maps"
	"slices"
	"strings"

	"nacre/internal/sandbox"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// Limits are what a step may use at most. The zero value is no limit.
type Limits struct {
	ShmSize      int64 // bytes of /dev/shm; 0: 64 MiB
	Ulimits      map[string]Ulimit
	Memory       int64 // bytes; 0: not limited
	MemorySwap   int64 // bytes of memory and swap together; 0: twice Memory; -1: not limited
	CPUShares    uint64
	CPUPeriod    uint64 // microseconds; 0: the kernel's
	CPUQuota     int64  // microseconds in each period
	CPUs, Mems   string // lists: 0-3,5
	CgroupParent string // see sandbox.CgroupBelow
	// NoNewPrivileges: setuid programs give nothing.
	NoNewPrivileges bool
}

// Ulimit is a limit of setrlimit(2). It is known by its name without RLIMIT_, in small
// letters: nofile.
type Ulimit struct{ Soft, Hard uint64 }

// apply gives spec the limits but for that of /dev/shm.
func (l Limits) apply(spec *specs.Spec) {
	for _, name := range slices.Sorted(maps.Keys(l.Ulimits)) {
		u := l.Ulimits[name]
		spec.Process.Rlimits = append(spec.Process.Rlimits, specs.POSIXRlimit{Type: "RLIMIT_" + strings.ToUpper(name), Soft: u.Soft, Hard: u.Hard})
	}
	spec.Process.NoNewPrivileges = l.NoNewPrivileges
	if l.CgroupParent != "" {
		spec.Linux.CgroupsPath = sandbox.CgroupBelow(l.CgroupParent)
	}
	r := &specs.LinuxResources{}
	if l.Memory > 0 {
		swap := l.MemorySwap
		if swap == 0 {
			swap = 2 * l.Memory
		}
		r.Memory = &specs.LinuxMemory{Limit: &l.Memory, Swap: &swap}
	}
	cpu := specs.LinuxCPU{Cpus: l.CPUs, Mems: l.Mems}
	if l.CPUShares > 0 {
		cpu.Shares = &l.CPUShares
	}
	if l.CPUPeriod > 0 {
		cpu.Period = &l.CPUPeriod
	}
	if l.CPUQuota != 0 {
		cpu.Quota = &l.CPUQuota
	}
	if cpu != (specs.LinuxCPU{}) {
		r.CPU = &cpu
	}
	if r.Memory != nil || r.CPU != nil {
		spec.Linux.Resources = r
	}
}

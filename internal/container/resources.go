package container

import (
	"context"
	"maps"
	"slices"
	"strings"

	"nacre/internal/sandbox"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// addResources is what the container may use at most.
func (p *parts) addResources(context.Context) error {
	r := p.c.Config.Resources
	for _, name := range slices.Sorted(maps.Keys(r.Ulimits)) {
		u := r.Ulimits[name]
		p.spec.Process.Rlimits = append(p.spec.Process.Rlimits, specs.POSIXRlimit{Type: "RLIMIT_" + strings.ToUpper(name), Soft: u.Soft, Hard: u.Hard})
	}
	if r.OOMScoreAdj != 0 {
		p.spec.Process.OOMScoreAdj = &r.OOMScoreAdj
	}
	if r.CgroupParent != "" {
		p.spec.Linux.CgroupsPath = sandbox.CgroupBelow(r.CgroupParent)
	}
	limits, err := r.limits()
	if limits != nil {
		l := p.resources()
		l.Memory, l.CPU, l.Pids, l.BlockIO = limits.Memory, limits.CPU, limits.Pids, limits.BlockIO
	}
	return err
}

// limits are those that cgroups hold, and that can be changed while the container runs; nil is none.
//
// Errors: a block device that is to be limited is not there.
func (r Resources) limits() (l *specs.LinuxResources, err error) {
	l = &specs.LinuxResources{Memory: r.memory(), CPU: r.cpu()}
	if r.PidsLimit != 0 {
		l.Pids = &specs.LinuxPids{Limit: &r.PidsLimit}
	}
	if l.BlockIO, err = r.blockIO(); err != nil {
		return nil, err
	}
	if l.Memory == nil && l.CPU == nil && l.Pids == nil && l.BlockIO == nil {
		return nil, nil
	}
	return l, nil
}

func (r Resources) memory() *specs.LinuxMemory {
	var m specs.LinuxMemory
	if r.Memory > 0 {
		swap := r.MemorySwap
		if swap == 0 {
			swap = 2 * r.Memory // docker's default
		}
		m.Limit, m.Swap = &r.Memory, &swap
	}
	if r.MemoryReservation > 0 {
		m.Reservation = &r.MemoryReservation
	}
	if r.Swappiness != nil {
		swappiness := uint64(*r.Swappiness)
		m.Swappiness = &swappiness
	}
	if r.OOMKillDisable {
		m.DisableOOMKiller = &r.OOMKillDisable
	}
	if m == (specs.LinuxMemory{}) {
		return nil
	}
	return &m
}

func (r Resources) cpu() *specs.LinuxCPU {
	c := specs.LinuxCPU{Cpus: r.CpusetCpus, Mems: r.CpusetMems}
	if r.CPUShares > 0 {
		c.Shares = &r.CPUShares
	}
	if r.CPUPeriod > 0 {
		c.Period = &r.CPUPeriod
	}
	if r.CPUQuota != 0 {
		c.Quota = &r.CPUQuota
	}
	if c == (specs.LinuxCPU{}) {
		return nil
	}
	return &c
}

package sandbox

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// limit is what one controller is told: file and value, by version, in this order.
type limit struct {
	controller    string
	name          string // where it is not the controller's
	first, second [][2]string
	attach        func(dir string) error // what version 2 has in place of files; nil: nothing
	needed        bool                   // the process does not run without
}

// what is how people call it.
func (l limit) what() string {
	switch {
	case l.name != "":
		return l.name
	case len(l.first)+len(l.second) == 0:
		return l.controller + " limit of the parent cgroup"
	}
	return l.controller + " limit"
}

func (l limit) write(dir string, v2 bool) error {
	files := l.first
	if v2 {
		files = l.second
	}
	if v2 && l.attach != nil {
		return l.attach(dir)
	}
	for _, f := range files {
		if err := writeFile(filepath.Join(dir, f[0]), f[1]); err != nil {
			return err
		}
	}
	return nil
}

// limits translates the spec for both versions.
func limits(l *specs.Linux) (out []limit) {
	if r := l.Resources; r != nil {
		out = resourceLimits(r)
	}
	if l.CgroupsPath == "" {
		return out
	}
	// Where the spec says which cgroup, it is to be that of each controller that may limit.
	for _, c := range []string{"memory", "cpu", "cpuset", "pids"} {
		if !slices.ContainsFunc(out, func(l limit) bool { return l.controller == c }) {
			out = append(out, limit{controller: c})
		}
	}
	return out
}

func resourceLimits(r *specs.LinuxResources) (out []limit) {
	if m := r.Memory; m != nil {
		out = append(out, memoryLimit(m), swapLimit(m), swappinessLimit(m), oomLimit(m))
	}
	if c := r.CPU; c != nil {
		out = append(out, cpuLimit(c))
		if c.Cpus != "" || c.Mems != "" {
			l := limit{controller: "cpuset"}
			l.both("cpuset.cpus", "cpuset.cpus", c.Cpus)
			l.both("cpuset.mems", "cpuset.mems", c.Mems)
			out = append(out, l)
		}
	}
	if p := r.Pids; p != nil && p.Limit != nil {
		l := limit{controller: "pids"}
		value := "max"
		if *p.Limit > 0 {
			value = strconv.FormatInt(*p.Limit, 10)
		}
		l.both("pids.max", "pids.max", value)
		out = append(out, l)
	}
	if b := r.BlockIO; b != nil {
		out = append(out, blockLimits(b)...)
	}
	if rules := deviceRules(r); rules != nil {
		out = append(out, devicesLimit(rules))
	}
	return slices.DeleteFunc(out, func(l limit) bool { return len(l.first) == 0 && len(l.second) == 0 })
}

// both adds a value that both versions write alike; empty says nothing.
func (l *limit) both(first, second, value string) {
	if value != "" {
		l.first = append(l.first, [2]string{first, value})
		l.second = append(l.second, [2]string{second, value})
	}
}

func memoryLimit(m *specs.LinuxMemory) limit {
	l := limit{controller: "memory"}
	if m.Limit != nil {
		l.first = append(l.first, [2]string{"memory.limit_in_bytes", strconv.FormatInt(*m.Limit, 10)})
		l.second = append(l.second, [2]string{"memory.max", orMax(*m.Limit)})
	}
	if m.Reservation != nil {
		l.first = append(l.first, [2]string{"memory.soft_limit_in_bytes", strconv.FormatInt(*m.Reservation, 10)})
		l.second = append(l.second, [2]string{"memory.low", orMax(*m.Reservation)})
	}
	return l
}

const swapName = "swap limit"

// swapLimit is of memory and swap together; version 2 counts swap alone. It stands apart as not all
// kernels have it.
func swapLimit(m *specs.LinuxMemory) limit {
	l := limit{controller: "memory", name: swapName}
	if m.Swap != nil {
		l.first = append(l.first, [2]string{"memory.memsw.limit_in_bytes", strconv.FormatInt(*m.Swap, 10)})
		swap := *m.Swap
		if swap >= 0 && m.Limit != nil && *m.Limit >= 0 {
			swap = max(swap-*m.Limit, 0)
		}
		l.second = append(l.second, [2]string{"memory.swap.max", orMax(swap)})
	}
	return l
}

func orMax(n int64) string {
	if n < 0 {
		return "max"
	}
	return strconv.FormatInt(n, 10)
}

func cpuLimit(c *specs.LinuxCPU) limit {
	l := limit{controller: "cpu"}
	if c.Shares != nil && *c.Shares > 0 {
		l.first = append(l.first, [2]string{"cpu.shares", strconv.FormatUint(*c.Shares, 10)})
		// 2…262144 to 1…10000, as in all runtimes.
		weight := 1 + (min(max(*c.Shares, 2), 262144)-2)*9999/262142
		l.second = append(l.second, [2]string{"cpu.weight", strconv.FormatUint(weight, 10)})
	}
	period := uint64(100_000)
	if c.Period != nil && *c.Period > 0 {
		period = *c.Period
		l.first = append(l.first, [2]string{"cpu.cfs_period_us", strconv.FormatUint(period, 10)})
	}
	if c.Quota != nil && *c.Quota != 0 {
		l.first = append(l.first, [2]string{"cpu.cfs_quota_us", strconv.FormatInt(*c.Quota, 10)})
		quota := "max"
		if *c.Quota > 0 {
			quota = strconv.FormatInt(*c.Quota, 10)
		}
		l.second = append(l.second, [2]string{"cpu.max", fmt.Sprintf("%s %d", quota, period)})
	}
	return l
}

// swappinessLimit: version 2 has nothing of the kind.
func swappinessLimit(m *specs.LinuxMemory) limit {
	l := limit{controller: "memory", name: "swappiness"}
	if m.Swappiness != nil {
		l.first = append(l.first, [2]string{"memory.swappiness", strconv.FormatUint(*m.Swappiness, 10)})
		l.attach = onlyFirst
	}
	return l
}

// oomLimit has processes wait for memory in place of being killed: version 1 alone can.
func oomLimit(m *specs.LinuxMemory) limit {
	l := limit{controller: "memory", name: "keeping the kernel from killing it"}
	if m.DisableOOMKiller != nil && *m.DisableOOMKiller {
		l.first = append(l.first, [2]string{"memory.oom_control", "1"})
		l.attach = onlyFirst
	}
	return l
}

var errOnlyFirst = errors.New("cgroups of version 2 have no such setting")

func onlyFirst(string) error { return errOnlyFirst }

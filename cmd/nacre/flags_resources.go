package main

import (
	"errors"
	"fmt"

	"nacre/internal/build"
	"nacre/internal/container"
	"nacre/internal/image"

	"github.com/spf13/pflag"
)

// resourceFlags are the flags of run and create that limit a container.
type resourceFlags struct {
	ulimits                     []string
	shm, memory, swap, soft     string
	cpus, cpuset, mems, parent  string
	shares, period, quota, pids int64
	oomScore                    int
	swappiness                  int64
	noKill                      bool
	weight                      uint16
	block                       blockFlags
}

func (f *resourceFlags) register(fl *pflag.FlagSet) {
	listVar(fl, &f.ulimits, "ulimit", "", "NAME=SOFT[:HARD], such as nofile=1024:4096; -1 is unlimited; may be repeated")
	fl.StringVar(&f.shm, "shm-size", "", "size of /dev/shm, such as 128m (default 64m)")
	fl.StringVarP(&f.memory, "memory", "m", "", "memory that it may use, such as 512m")
	fl.StringVar(&f.swap, "memory-swap", "", "memory and swap that it may use together; -1 is unlimited (default: twice --memory)")
	fl.StringVar(&f.soft, "memory-reservation", "", "memory it is left with when the machine has little")
	fl.StringVar(&f.cpus, "cpus", "", "processors that it may keep busy, such as 1.5")
	fl.Int64VarP(&f.shares, "cpu-shares", "c", 0, "weight where processors are short (1024 is usual)")
	fl.Int64Var(&f.period, "cpu-period", 0, "period of --cpu-quota, in microseconds (default 100000)")
	fl.Int64Var(&f.quota, "cpu-quota", 0, "processor time in each period, in microseconds")
	fl.StringVar(&f.cpuset, "cpuset-cpus", "", "processors it may use, such as 0-3,5")
	fl.StringVar(&f.mems, "cpuset-mems", "", "memory nodes it may use, such as 0,1")
	fl.Int64Var(&f.pids, "pids-limit", 0, "processes and threads it may have (-1: no limit)")
	fl.StringVar(&f.parent, "cgroup-parent", "", "cgroup that its own is made in")
	fl.Int64Var(&f.swappiness, "memory-swappiness", -1, "how readily its memory is swapped out, 0 to 100 (cgroups of version 1)")
	fl.BoolVar(&f.noKill, "oom-kill-disable", false, "have it wait for memory in place of being killed; needs --memory (cgroups of version 1)")
	fl.Uint16Var(&f.weight, "blkio-weight", 0, "weight of what it reads and writes, 10 to 1000")
	f.block.register(fl)
	fl.IntVar(&f.oomScore, "oom-score-adj", 0, "how soon the kernel ends it when memory is short (-1000 to 1000)")
}

func (f *resourceFlags) apply(cfg *container.Config, _ image.Config) error {
	// The same flags of build, with the same checks.
	same := limitFlags{
		ulimits: f.ulimits, shm: f.shm, memory: f.memory, swap: f.swap, cpus: f.cpus, shares: f.shares,
		period: f.period, quota: f.quota, cpuset: f.cpuset, mems: f.mems, parent: f.parent,
	}
	var o build.Options
	if err := same.apply(&o); err != nil {
		return err
	}
	soft, err := parseSize("memory-reservation", f.soft)
	if err != nil {
		return err
	}
	l := o.Limits
	if soft > 0 && l.Memory > 0 && soft > l.Memory {
		return errors.New("--memory-reservation is above --memory")
	}
	if f.pids < -1 {
		return fmt.Errorf("--pids-limit=%d: want a number, or -1", f.pids)
	}
	if f.oomScore < -1000 || f.oomScore > 1000 {
		return fmt.Errorf("--oom-score-adj=%d: want -1000 to 1000", f.oomScore)
	}
	switch {
	case f.swappiness < -1 || f.swappiness > 100:
		return fmt.Errorf("--memory-swappiness=%d: want 0 to 100", f.swappiness)
	case f.noKill && l.Memory == 0:
		return errors.New("--oom-kill-disable needs --memory: it could use up the machine's")
	case f.weight != 0 && (f.weight < 10 || f.weight > 1000):
		return fmt.Errorf("--blkio-weight=%d: want 10 to 1000", f.weight)
	}
	cfg.Resources = container.Resources{
		OOMKillDisable: f.noKill, BlkioWeight: f.weight,
		Memory: l.Memory, MemorySwap: l.MemorySwap, MemoryReservation: soft, CPUShares: l.CPUShares, CPUPeriod: l.CPUPeriod, CPUQuota: l.CPUQuota,
		CpusetCpus: l.CPUs, CpusetMems: l.Mems, PidsLimit: f.pids, ShmSize: l.ShmSize, CgroupParent: l.CgroupParent, OOMScoreAdj: f.oomScore,
	}
	if f.swappiness >= 0 {
		cfg.Resources.Swappiness = &f.swappiness
	}
	if err := checkCPUs(f.cpus, f.cpuset, f.mems); err != nil {
		return err
	}
	if err := f.block.apply(&cfg.Resources); err != nil {
		return err
	}
	for name, u := range l.Ulimits {
		if cfg.Resources.Ulimits == nil {
			cfg.Resources.Ulimits = map[string]container.Ulimit{}
		}
		cfg.Resources.Ulimits[name] = container.Ulimit(u)
	}
	return nil
}

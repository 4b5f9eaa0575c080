package main

import (
	"errors"
	"fmt"

	"nacre/internal/build"
	"nacre/internal/container"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// updateFlags are the flags of update.
type updateFlags struct {
	memory, swap, soft          string
	cpus, cpuset, mems, restart string
	shares, period, quota, pids int64
	weight                      uint16
}

func (f *updateFlags) register(fl *pflag.FlagSet) {
	fl.StringVarP(&f.memory, "memory", "m", "", "memory that it may use, such as 512m")
	fl.StringVar(&f.swap, "memory-swap", "", "memory and swap that it may use together; -1 is unlimited")
	fl.StringVar(&f.soft, "memory-reservation", "", "memory it is left with when the machine has little")
	fl.StringVar(&f.cpus, "cpus", "", "processors that it may keep busy, such as 1.5")
	fl.Int64VarP(&f.shares, "cpu-shares", "c", 0, "weight where processors are short (1024 is usual)")
	fl.Int64Var(&f.period, "cpu-period", 0, "period of --cpu-quota, in microseconds")
	fl.Int64Var(&f.quota, "cpu-quota", 0, "processor time in each period, in microseconds")
	fl.StringVar(&f.cpuset, "cpuset-cpus", "", "processors it may use, such as 0-3,5")
	fl.StringVar(&f.mems, "cpuset-mems", "", "memory nodes it may use, such as 0,1")
	fl.Int64Var(&f.pids, "pids-limit", 0, "processes and threads it may have (-1: no limit)")
	fl.Uint16Var(&f.weight, "blkio-weight", 0, "weight of what it reads and writes, 10 to 1000")
	refuse(fl, false, noRealTime, "cpu-rt-period", "cpu-rt-runtime")
	refuse(fl, false, noKernelMemory, "kernel-memory")
	fl.StringVar(&f.restart, "restart", "", "when to start again what ended: no, on-failure[:MAX], always or unless-stopped")
}

func updateCommand(a *app) *cobra.Command {
	var f updateFlags
	cmd := &cobra.Command{
		Use:   "update [OPTIONS] CONTAINER [CONTAINER...]",
		Short: "Change the limits and the restart policy of containers, while they run",
		Long: `Change what containers may use, and when they are started again. What no flag names stays as it is. One that runs
is limited from now on, and all are at their next start.`,
		Example: `  nacre update --memory 1g --cpus 2 web
  nacre update --restart unless-stopped web db`,
		Args:              minArgs(1, "update needs at least one container"),
		ValidArgsFunction: a.completeContainers(nil),
		RunE: func(cmd *cobra.Command, args []string) error {
			given := false
			cmd.Flags().Visit(func(fl *pflag.Flag) { given = given || cmd.InheritedFlags().Lookup(fl.Name) == nil })
			if !given {
				return errors.New("you must provide one or more flags when using this command") // docker's words
			}
			u, err := f.update()
			if err != nil {
				return err
			}
			return a.eachContainer(cmd.Context(), args, true, func(c *container.Container) error {
				warnings, err := c.Update(cmd.Context(), u)
				a.warnAll(warnings)
				if err != nil {
					return fmt.Errorf("Cannot update container %s: %w", c.ID, err) //lint:ignore ST1005 docker's words
				}
				return nil
			})
		},
	}
	f.register(cmd.Flags())
	return cmd
}

// update is what the flags say, each checked for itself. What goes with what depends on the container.
func (f *updateFlags) update() (u container.Update, err error) {
	same := limitFlags{memory: f.memory, swap: f.swap, cpus: f.cpus, shares: f.shares, period: f.period, quota: f.quota, cpuset: f.cpuset, mems: f.mems}
	var l build.Limits
	if err := same.parseMemory(&l); err != nil {
		return u, err
	}
	if err := same.applyCPU(&l); err != nil {
		return u, err
	}
	if err := checkCPUs(f.cpus, f.cpuset, f.mems); err != nil {
		return u, err
	}
	soft, err := parseSize("memory-reservation", f.soft)
	if err != nil {
		return u, err
	}
	switch {
	case f.pids < -1:
		return u, fmt.Errorf("--pids-limit=%d: want a number, or -1", f.pids)
	case f.weight != 0 && (f.weight < 10 || f.weight > 1000):
		return u, fmt.Errorf("--blkio-weight=%d: want 10 to 1000", f.weight)
	}
	u.Resources = container.Resources{
		Memory: l.Memory, MemorySwap: l.MemorySwap, MemoryReservation: soft, CPUShares: l.CPUShares, CPUPeriod: l.CPUPeriod, CPUQuota: l.CPUQuota,
		CpusetCpus: l.CPUs, CpusetMems: l.Mems, PidsLimit: f.pids, BlkioWeight: f.weight,
	}
	if f.restart != "" {
		p, err := parseRestart(f.restart)
		if err != nil {
			return u, err
		}
		u.Restart = &p
	}
	return u, nil
}

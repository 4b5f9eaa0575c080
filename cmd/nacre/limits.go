package main

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"

	"nacre/internal/build"

	"github.com/docker/go-units"
	"github.com/spf13/pflag"
)

// limitFlags are the flags of build that limit RUN steps, as docker has them.
type limitFlags struct {
	ulimits                     []string
	shm, memory, swap, cpus     string
	shares, period, quota       int64
	cpuset, mems, parent        string
	builder                     string
	security                    []string
	load, keep, force, compress bool
}

func (f *limitFlags) register(fl *pflag.FlagSet) {
	listVar(fl, &f.ulimits, "ulimit", "", "NAME=SOFT[:HARD] for RUN steps, such as nofile=1024:4096; -1 is unlimited; may be repeated")
	fl.StringVar(&f.shm, "shm-size", "", "size of /dev/shm of RUN steps, such as 128m (default 64m)")
	fl.StringVarP(&f.memory, "memory", "m", "", "memory that a RUN step may use, such as 512m")
	fl.StringVar(&f.swap, "memory-swap", "", "memory and swap that a RUN step may use together; -1 is unlimited (default: twice --memory)")
	fl.StringVar(&f.cpus, "cpus", "", "processors that a RUN step may keep busy, such as 1.5")
	fl.Int64VarP(&f.shares, "cpu-shares", "c", 0, "weight of a RUN step where processors are short (1024 is usual)")
	fl.Int64Var(&f.period, "cpu-period", 0, "period of --cpu-quota, in microseconds (default 100000)")
	fl.Int64Var(&f.quota, "cpu-quota", 0, "processor time of a RUN step in each period, in microseconds")
	fl.StringVar(&f.cpuset, "cpuset-cpus", "", "processors RUN steps may use, such as 0-3,5")
	fl.StringVar(&f.mems, "cpuset-mems", "", "memory nodes RUN steps may use, such as 0,1")
	fl.StringVar(&f.parent, "cgroup-parent", "", "cgroup that those of RUN steps are made in")
	f.registerAccepted(fl)
}

// registerAccepted are flags of docker that ask for what is so in any case.
func (f *limitFlags) registerAccepted(fl *pflag.FlagSet) {
	fl.BoolVar(&f.load, "load", false, "keep the image in the store, also with outputs that are files (without these it always is)")
	fl.StringVar(&f.builder, "builder", "", "accepted for docker's sake: there is one builder")
	fl.BoolVar(&f.keep, "rm", true, "accepted for docker's sake: nothing is left behind in any case")
	fl.BoolVar(&f.force, "force-rm", false, "accepted for docker's sake: nothing is left behind in any case")
	fl.BoolVar(&f.compress, "compress", false, "accepted for docker's sake: a context is sent nowhere")
	listVar(fl, &f.security, "security-opt", "", "no-new-privileges for RUN steps")
	for _, name := range []string{"builder", "rm", "force-rm", "compress", "security-opt"} {
		fl.MarkHidden(name)
	}
}

// apply checks the flags and gives o what they say.
func (f *limitFlags) apply(o *build.Options) (err error) {
	l := &o.Limits
	if err := f.applySecurity(l); err != nil {
		return err
	}
	if l.Ulimits, err = parseUlimits(f.ulimits); err != nil {
		return err
	}
	if l.ShmSize, err = parseSize("shm-size", f.shm); err != nil {
		return err
	}
	if err := f.applyMemory(l); err != nil {
		return err
	}
	if strings.ContainsRune(f.parent, 0) {
		return errors.New("--cgroup-parent: it has a NUL in it")
	}
	l.CgroupParent = f.parent
	return f.applyCPU(l)
}

// applySecurity takes the options that hold here, or can; others would be passed over.
func (f *limitFlags) applySecurity(l *build.Limits) error {
	for _, s := range f.security {
		switch s {
		case "no-new-privileges", "no-new-privileges=true", "no-new-privileges:true":
			l.NoNewPrivileges = true
		case "no-new-privileges=false", "no-new-privileges:false", "seccomp=builtin", "apparmor=unconfined", "label=disable", "label:disable":
		default:
			return &hintError{fmt.Errorf("--security-opt %s is not supported", s),
				"RUN --security=insecure takes all confinement from one step, where --allow security.insecure lets it"}
		}
	}
	return nil
}

// minMemory is the least that docker takes: with less not even a shell starts.
const minMemory = 6 << 20

func (f *limitFlags) applyMemory(l *build.Limits) error {
	if err := f.parseMemory(l); err != nil {
		return err
	}
	switch {
	case l.MemorySwap > 0 && l.Memory == 0:
		return errors.New("--memory-swap needs --memory")
	case l.MemorySwap > 0 && l.MemorySwap < l.Memory:
		return fmt.Errorf("--memory-swap=%s: it counts memory, too, so want --memory=%s at least", f.swap, f.memory)
	}
	return nil
}

// parseMemory reads what is said of memory, each for itself.
func (f *limitFlags) parseMemory(l *build.Limits) (err error) {
	if l.Memory, err = parseSize("memory", f.memory); err != nil {
		return err
	}
	if l.Memory > 0 && l.Memory < minMemory {
		return fmt.Errorf("--memory=%s: want 6m at least", f.memory)
	}
	if f.swap == "-1" {
		l.MemorySwap = -1
	} else if l.MemorySwap, err = parseSize("memory-swap", f.swap); err != nil {
		return err
	}
	if l.Memory > math.MaxInt64/2 {
		return fmt.Errorf("--memory=%s: too large", f.memory)
	}
	return nil
}

// parseSize reads 64m; empty is 0.
func parseSize(flag, s string) (int64, error) {
	if s == "" {
		return 0, nil
	}
	n, err := units.RAMInBytes(s)
	if err != nil || n < 0 {
		return 0, fmt.Errorf("--%s=%s: want a size, such as 64m", flag, s)
	}
	return n, nil
}

// cfsPeriod is the kernel's period of processor time, in microseconds.
const cfsPeriod = 100_000

func (f *limitFlags) applyCPU(l *build.Limits) error {
	switch {
	case f.shares < 0:
		return fmt.Errorf("--cpu-shares=%d: want 2 or more", f.shares)
	case f.period != 0 && (f.period < 1000 || f.period > 1_000_000):
		return fmt.Errorf("--cpu-period=%d: want 1000 to 1000000 microseconds", f.period)
	case f.quota > 0 && f.quota < 1000:
		return fmt.Errorf("--cpu-quota=%d: want 1000 microseconds at least", f.quota)
	case f.cpus != "" && (f.period != 0 || f.quota != 0):
		return errors.New("--cpus is a --cpu-period and a --cpu-quota: give it or these")
	}
	l.CPUShares, l.CPUPeriod, l.CPUQuota = uint64(f.shares), uint64(f.period), max(f.quota, 0)
	if f.cpus != "" {
		n, err := strconv.ParseFloat(f.cpus, 64)
		if err != nil || !(n >= 0.01 && n <= 1<<20) {
			return fmt.Errorf("--cpus=%s: want a number, 0.01 or more", f.cpus)
		}
		l.CPUPeriod, l.CPUQuota = cfsPeriod, int64(n*cfsPeriod)
	}
	for flag, list := range map[string]string{"cpuset-cpus": f.cpuset, "cpuset-mems": f.mems} {
		if err := checkList(list); err != nil {
			return fmt.Errorf("--%s=%s: %w", flag, list, err)
		}
	}
	l.CPUs, l.Mems = f.cpuset, f.mems
	return nil
}

// checkList tells whether the kernel would read s as a list: 0-3,5.
func checkList(s string) error {
	if s == "" {
		return nil
	}
	for part := range strings.SplitSeq(s, ",") {
		first, last, isRange := strings.Cut(part, "-")
		a, err := strconv.ParseUint(first, 10, 16)
		b := a
		if err == nil && isRange {
			b, err = strconv.ParseUint(last, 10, 16)
		}
		if err != nil || b < a {
			return errors.New("want a list such as 0-3,5")
		}
	}
	return nil
}

// parseUlimits reads --ulimit flags; of several for one name the last counts.
func parseUlimits(flags []string) (map[string]build.Ulimit, error) {
	if len(flags) == 0 {
		return nil, nil
	}
	out := map[string]build.Ulimit{}
	for _, s := range flags {
		u, err := units.ParseUlimit(s)
		if err == nil && min(u.Soft, u.Hard) < -1 {
			err = errors.New("a limit is -1 or more")
		}
		if err != nil {
			return nil, fmt.Errorf("--ulimit %s: %w; want NAME=SOFT[:HARD], such as nofile=1024:4096", s, err)
		}
		out[u.Name] = build.Ulimit{Soft: uint64(u.Soft), Hard: uint64(u.Hard)} // -1 is RLIM_INFINITY
	}
	return out, nil
}

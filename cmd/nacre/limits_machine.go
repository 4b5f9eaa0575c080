package main

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
)

// Where the kernel says which processors and which memory nodes there are (Documentation/ABI/stable/sysfs-devices-*).
const (
	onlineCPUs  = "/sys/devices/system/cpu/online"
	onlineNodes = "/sys/devices/system/node/online"
)

// online is what this one has, in the kernel's lists: 0-3,5. Empty: nobody knows.
type online struct{ cpus, nodes string }

// checkCPUs tells of limits that ask for more than the machine has, in docker's words. The flags have been read before, and found to
// be well formed.
func checkCPUs(cpus, cpuset, mems string) error {
	if cpus == "" && cpuset == "" && mems == "" {
		return nil
	}
	return online{readOnline(onlineCPUs), readOnline(onlineNodes)}.check(cpus, cpuset, mems)
}

func (m online) check(cpus, cpuset, mems string) error {
	if cpus != "" {
		have := len(listMembers(m.cpus))
		if have == 0 {
			have = runtime.NumCPU()
		}
		if n, err := strconv.ParseFloat(cpus, 64); err == nil && n > float64(have) {
			return fmt.Errorf("--cpus=%s: Range of CPUs is from 0.01 to %d.00, as there are only %d CPUs available", cpus, have, have)
		}
	}
	for _, l := range []struct{ flag, what, wanted, online string }{
		{"cpuset-cpus", "CPUs", cpuset, m.cpus}, {"cpuset-mems", "memory nodes", mems, m.nodes},
	} {
		have := listMembers(l.online)
		if len(have) == 0 {
			continue // nobody knows
		}
		for n := range listMembers(l.wanted) {
			if !have[n] {
				return fmt.Errorf("--%s=%s: Requested %s are not available - requested %s, available: %s", l.flag, l.wanted, l.what, l.wanted, l.online)
			}
		}
	}
	return nil
}

func readOnline(file string) string {
	data, _ := os.ReadFile(file)
	return strings.TrimSpace(string(data))
}

// listMembers are the numbers of a list of the kernel's: 0-3,5. What is no list has none.
func listMembers(list string) map[uint64]bool {
	out := map[uint64]bool{}
	if checkList(list) != nil || list == "" {
		return out
	}
	for part := range strings.SplitSeq(list, ",") {
		first, last, isRange := strings.Cut(part, "-")
		a, _ := strconv.ParseUint(first, 10, 16)
		b := a
		if isRange {
			b, _ = strconv.ParseUint(last, 10, 16)
		}
		for n := a; n <= b; n++ {
			out[n] = true
		}
	}
	return out
}

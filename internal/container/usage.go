package container

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"nacre/internal/network"
)

// Usage is what the processes of a container use, or have used.
type Usage struct {
	CPU            time.Duration
	Memory         int64 // bytes
	Limit          int64 // of memory: the container's, or all the machine has
	Pids           int
	Read, Written  int64 // bytes, of disks
	Received, Sent int64 // bytes, by a network of its own
	// FromProcesses: there is no cgroup to ask. These are sums over the processes there are, memory they share
	// counted for each.
	FromProcesses bool
}

// Usage measures a container that runs. Errors: ErrNotRunning.
func (c *Container) Usage(ctx context.Context) (Usage, error) {
	pids, err := c.Processes(ctx)
	if err != nil {
		return Usage{}, err
	}
	u := Usage{Limit: machineMemory(), FromProcesses: true, Pids: len(pids)}
	for _, pid := range pids {
		p, err := ReadProc(pid)
		if err != nil {
			continue
		}
		u.CPU += p.User + p.Sys
		u.Memory += p.Memory
		io := fields(filepath.Join("/proc", strconv.Itoa(pid), "io"))
		u.Read += io["read_bytes:"]
		u.Written += io["write_bytes:"]
	}
	for _, dir := range c.State.Cgroups {
		u.cgroup(dir)
	}
	if l := c.Config.Resources.Memory; l > 0 {
		u.Limit = min(u.Limit, l)
	}
	if c.Config.Network.Mode != network.ModeHost {
		u.network(pids[0])
	}
	return u, nil
}

// cgroup takes what a cgroup of the container knows, of either version.
func (u *Usage) cgroup(dir string) {
	if n, ok := number(dir, "cpuacct.usage"); ok {
		u.CPU = time.Duration(n)
		u.FromProcesses = false
	} else if n, ok := fields(filepath.Join(dir, "cpu.stat"))["usage_usec"]; ok {
		u.CPU = time.Duration(n) * time.Microsecond
		u.FromProcesses = false
	}
	for _, file := range []string{"memory.usage_in_bytes", "memory.current"} {
		if n, ok := number(dir, file); ok {
			stat := fields(filepath.Join(dir, "memory.stat"))
			// What could be given back at once is not counted, as in docker.
			cached := stat["total_inactive_file"] + stat["inactive_file"]
			if stat["total_inactive_file"] > 0 {
				cached = stat["total_inactive_file"]
			}
			u.Memory = n - min(cached, n)
			u.FromProcesses = false
		}
	}
	for _, file := range []string{"memory.limit_in_bytes", "memory.max"} {
		if n, ok := number(dir, file); ok && n > 0 {
			u.Limit = min(u.Limit, n)
		}
	}
	if n, ok := number(dir, "pids.current"); ok {
		u.Pids = int(n)
	}
}

// network sums the interfaces of a process's network, without the one to itself.
func (u *Usage) network(pid int) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/dev", pid))
	if err != nil {
		return
	}
	for line := range strings.Lines(string(data)) {
		name, rest, ok := strings.Cut(line, ":")
		f := strings.Fields(rest)
		if !ok || len(f) < 9 || strings.TrimSpace(name) == "lo" {
			continue
		}
		in, _ := strconv.ParseInt(f[0], 10, 64)
		out, _ := strconv.ParseInt(f[8], 10, 64)
		u.Received += in
		u.Sent += out
	}
}

// number reads a file that is a number; "max" is none.
func number(dir, name string) (int64, bool) {
	data, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		return 0, false
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(data)), 10, 64)
	return n, err == nil
}

// fields reads a file of names with numbers, one a line.
func fields(name string) map[string]int64 {
	out := map[string]int64{}
	data, err := os.ReadFile(name)
	if err != nil {
		return out
	}
	for line := range strings.Lines(string(data)) {
		if f := strings.Fields(line); len(f) >= 2 {
			if n, err := strconv.ParseInt(f[1], 10, 64); err == nil {
				out[f[0]] = n
			}
		}
	}
	return out
}

func machineMemory() int64 { return fields("/proc/meminfo")["MemTotal:"] << 10 }

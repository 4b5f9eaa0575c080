package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// cost of one command and, where it has one, of its daemon meanwhile.
type cost struct {
	wall    time.Duration
	disk    time.Duration // until all of it is on disk, too
	cpu     time.Duration // of all processes
	rss     int64         // largest resident memory of any one process, in bytes
	written int64         // bytes given to the page cache of a disk, by all processes
}

// and is the cost of two commands, one after the other.
func (c cost) and(d cost) cost {
	return cost{c.wall + d.wall, c.disk + d.disk, c.cpu + d.cpu, max(c.rss, d.rss), c.written + d.written}
}

// measure runs a command to its end, with a daemon (0: none) that works for it.
//
// What the command and the children that were waited for used is added by the kernel to their
// parent's, which is this process: processor time as resource usage, bytes written in
// /proc/self/io. A daemon and its children are read from /proc before and after.
func measure(cmd *exec.Cmd, daemon int) (cost, error) {
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	before, own := usageOf(tree(daemon)), written(os.Getpid())
	forgetPeaks(tree(daemon))
	begin := time.Now()
	err := cmd.Run()
	wall := time.Since(begin)
	if err != nil {
		return cost{}, fmt.Errorf("%s: %w\n%s", strings.Join(cmd.Args, " "), err, tail(out.Bytes(), 2000))
	}
	s := cmd.ProcessState
	c := cost{wall: wall, cpu: s.UserTime() + s.SystemTime(), rss: s.SysUsage().(*syscall.Rusage).Maxrss << 10, written: written(os.Getpid()) - own}
	after := usageOf(tree(daemon))
	c.cpu += after.cpu - before.cpu
	c.written += after.written - before.written
	c.rss = max(c.rss, after.rss)
	settle()
	c.disk = time.Since(begin)
	return c, nil
}

// place is the folder all stores are in.
var place string

// settle waits until what went before is on disk, so that nobody pays for another's writes.
func settle() {
	if scale < 0.1 {
		return // only tried
	}
	f, err := os.Open(place)
	if err != nil {
		return
	}
	defer f.Close()
	_ = unix.Syncfs(int(f.Fd())) // figures are worse for it if it fails, no more
}

// usageOf sums what processes used so far; rss is the largest of any.
func usageOf(pids []int) (c cost) {
	for _, pid := range pids {
		c.cpu += cpuTime(pid)
		c.written += written(pid)
		c.rss = max(c.rss, peak(pid))
	}
	return c
}

// tree is a process and all its descendants; none of 0.
func tree(pid int) []int {
	if pid == 0 {
		return nil
	}
	pids := []int{pid}
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, t := range tasks {
		data, _ := os.ReadFile(t)
		for _, f := range strings.Fields(string(data)) {
			if child, err := strconv.Atoi(f); err == nil {
				pids = append(pids, tree(child)...)
			}
		}
	}
	return pids
}

// cpuTime is what a process and its ended children used (proc(5), stat, fields 14 to 17).
func cpuTime(pid int) (sum time.Duration) {
	const tick = 10 * time.Millisecond // USER_HZ is 100 on every Linux there is
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(data[bytes.LastIndexByte(data, ')')+1:])) // the name may hold anything
	if len(fields) < 15 {
		return 0
	}
	for _, f := range fields[11:15] {
		n, _ := strconv.ParseInt(f, 10, 64)
		sum += time.Duration(n) * tick
	}
	return sum
}

// peak is the largest resident memory a process has had.
func peak(pid int) int64 { return procValue(pid, "status", "VmHWM:") << 10 }

// written is how many bytes a process and its ended children made dirty on disks.
func written(pid int) int64 { return procValue(pid, "io", "write_bytes:") }

func procValue(pid int, file, key string) int64 {
	data, _ := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, file))
	for line := range strings.Lines(string(data)) {
		if f := strings.Fields(line); len(f) >= 2 && f[0] == key {
			n, _ := strconv.ParseInt(f[1], 10, 64)
			return n
		}
	}
	return 0
}

// forgetPeaks has the kernel count the largest memory of processes anew.
func forgetPeaks(pids []int) {
	for _, pid := range pids {
		_ = os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", pid), []byte("5"), 0)
	}
}

func quiet(argv ...string) error {
	out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w\n%s", strings.Join(argv, " "), err, tail(out, 2000))
	}
	return nil
}

func output(argv ...string) string {
	out, err := exec.Command(argv[0], argv[1:]...).Output()
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(out))
}

func tail(b []byte, n int) []byte { return b[max(0, len(b)-n):] }

// median of one figure over all rounds.
func median[T ~int64](costs []cost, figure func(cost) T) T {
	var v []T
	for _, c := range costs {
		v = append(v, figure(c))
	}
	slices.Sort(v)
	if n := len(v); n%2 == 0 {
		return (v[n/2-1] + v[n/2]) / 2
	}
	return v[len(v)/2]
}

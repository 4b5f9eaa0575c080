package container

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Processes lists the processes of a container that runs, as we see them, lowest first: those of its process namespace
// and of the namespaces within. Errors: ErrNotRunning.
func (c *Container) Processes(ctx context.Context) ([]int, error) {
	live, err := c.Live()
	if err != nil {
		return nil, err
	}
	// Those of the user who asks cannot read the namespaces of another user namespace; all can read who is whose child.
	parents := map[int]int{}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	own, _ := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", live.Pid))
	inside := map[int]bool{live.Pid: true}
	for _, e := range entries {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		st, err := ReadProc(pid)
		if err != nil {
			continue // ended meanwhile
		}
		parents[pid] = st.Parent
		if ns, err := os.Readlink("/proc/" + e.Name() + "/ns/pid"); err == nil && own != "" && ns == own {
			inside[pid] = true
		}
	}
	for pid := range parents {
		for p, n := pid, 0; p > 1 && n < 1<<16; p, n = parents[p], n+1 {
			if inside[p] {
				inside[pid] = true
				break
			}
		}
	}
	var pids []int
	for pid := range inside {
		if _, ok := parents[pid]; ok {
			pids = append(pids, pid)
		}
	}
	if len(pids) == 0 {
		return nil, fmt.Errorf("container %s %w", c.ID, ErrNotRunning)
	}
	slices.Sort(pids)
	return pids, nil
}

// Proc is what /proc says of a process (proc_pid_stat(5)).
type Proc struct {
	Pid, Parent int
	UID         int
	Name        string // of the program
	Args        []string
	State       byte
	TTY         int // device number of its terminal; 0: none
	User, Sys   time.Duration
	Start       time.Duration // since the machine started
	Memory      int64         // resident bytes
	Threads     int
}

// ticks are the units of time in /proc, a second; user space is told 100 on all Linux there is.
const ticks = 100

// errProc: /proc is not as it should be.
var errProc = errors.New("unexpected content")

// ReadProc reads about one process.
func ReadProc(pid int) (Proc, error) {
	dir := filepath.Join("/proc", strconv.Itoa(pid))
	data, err := os.ReadFile(filepath.Join(dir, "stat"))
	if err != nil {
		return Proc{}, err
	}
	p, err := parseStat(string(data))
	if err != nil {
		return p, fmt.Errorf("%s/stat: %w", dir, err)
	}
	if status, err := os.ReadFile(filepath.Join(dir, "status")); err == nil {
		for line := range strings.Lines(string(status)) {
			if rest, ok := strings.CutPrefix(line, "Uid:"); ok {
				if f := strings.Fields(rest); len(f) > 1 {
					p.UID, _ = strconv.Atoi(f[1])
				}
			}
		}
	}
	if line, err := os.ReadFile(filepath.Join(dir, "cmdline")); err == nil && len(line) > 0 {
		p.Args = strings.Split(strings.TrimRight(string(line), "\x00"), "\x00")
	}
	return p, nil
}

// parseStat reads /proc/PID/stat. The name, in parentheses, may have anything in it.
func parseStat(s string) (p Proc, err error) {
	open, end := strings.IndexByte(s, '('), strings.LastIndexByte(s, ')')
	if open < 1 || end < open {
		return p, errProc
	}
	f := strings.Fields(s[end+1:])
	if len(f) < 22 {
		return p, errProc
	}
	p.Name, p.State = s[open+1:end], f[0][0]
	var numbers [22]int64
	for i := 1; i < 22; i++ {
		numbers[i], _ = strconv.ParseInt(f[i], 10, 64)
	}
	p.Pid, err = strconv.Atoi(strings.TrimSpace(s[:open]))
	p.Parent, p.TTY, p.Threads = int(numbers[1]), int(numbers[4]), int(numbers[17])
	p.User, p.Sys, p.Start = jiffies(numbers[11]), jiffies(numbers[12]), jiffies(numbers[19])
	p.Memory = numbers[21] * int64(os.Getpagesize())
	return p, err
}

func jiffies(n int64) time.Duration { return time.Duration(n) * time.Second / ticks }

package e2e

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// traces are what the containers of a store have of the machine while they run, apart from all others' there.
type traces struct {
	pids    []int    // monitors, or commands in the foreground, and first processes
	netns   []string // as /proc/<pid>/ns/net reads
	cgroups []string
	devices []net.Interface // the host's ends of their cables
}

func (t *traces) add(u traces) {
	t.pids, t.netns = append(t.pids, u.pids...), append(t.netns, u.netns...)
	t.cgroups, t.devices = append(t.cgroups, u.cgroups...), append(t.devices, u.devices...)
}

// traces looks at all containers that run.
func (s *store) traces(t *testing.T) (all traces) {
	t.Helper()
	files, _ := filepath.Glob(s.root + "/containers/*/state.json")
	for _, name := range files {
		one, err := s.traceOf(t, name)
		if err != nil {
			t.Fatal(err)
		}
		all.add(one)
	}
	return all
}

// traceOf looks at the container whose state is in a file.
func (s *store) traceOf(t *testing.T, name string) (one traces, err error) {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		return one, err
	}
	var st struct {
		Pid, Monitor int
		Cgroups      []string
		Freezer      string
	}
	if err := json.Unmarshal(data, &st); err != nil || st.Pid == 0 {
		return one, fmt.Errorf("%s: %v %s", name, err, data)
	}
	one.pids, one.cgroups = []int{st.Pid, st.Monitor}, st.Cgroups
	if st.Freezer != "" {
		one.cgroups = append(one.cgroups, st.Freezer)
	}
	ours, _ := os.Readlink("/proc/self/ns/net")
	if ns, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", st.Pid)); err == nil && ns != ours {
		one.netns = []string{ns}
	}
	r := s.run(t, "inspect", "-f", "{{.NetworkSettings.IPAddress}}", filepath.Base(filepath.Dir(name)))
	if addr, err := netip.ParseAddr(strings.TrimSpace(r.stdout)); err == nil && addr.Is4() {
		if dev, err := net.InterfaceByName(fmt.Sprintf("nv%x", addr.As4())); err == nil {
			one.devices = []net.Interface{*dev}
		}
	}
	return one, nil
}

// left fails where anything of a store's containers is left: a process, a mount, a file; and of those that were seen
// before also a process of another name, a network namespace, a device, or a cgroup.
func (s *store) left(t *testing.T, seen traces) {
	t.Helper()
	until(t, "the end of all processes", func() bool {
		return len(processes(s.root)) == 0 && !slices.ContainsFunc(seen.pids, s.lives)
	})
	if m := mounts(s.root); len(m) > 0 {
		t.Errorf("mounts: %v", m)
	}
	for _, dir := range []string{"containers", "owners", "locks", "tmp"} {
		if l := listing(t, filepath.Join(s.root, dir)); strings.Count(l, "\n") > 1 {
			t.Errorf("%s has\n%s", dir, l)
		}
	}
	for _, dir := range seen.cgroups {
		if _, err := os.Stat(dir); err == nil {
			t.Errorf("cgroup %s is left", dir)
		}
	}
	until(t, "the end of all network namespaces", func() bool { return !slices.ContainsFunc(seen.netns, netnsLives) })
	until(t, "the end of all devices", func() bool {
		return !slices.ContainsFunc(seen.devices, func(d net.Interface) bool {
			now, err := net.InterfaceByName(d.Name)
			return err == nil && now.Index == d.Index // addresses are given again, indexes are not
		})
	})
}

// lives tells whether a process runs that is still the one that was seen: numbers are used again.
func (s *store) lives(pid int) bool {
	dir := fmt.Sprintf("/proc/%d/", pid)
	exe, _ := os.Readlink(dir + "exe")
	cmd, _ := os.ReadFile(dir + "cmdline")
	root, _ := os.Readlink(dir + "root")
	return exe == nacre && strings.Contains(string(cmd), s.root) || root == "/" && strings.HasPrefix(string(cmd), "sleep\x0010000")
}

// netnsLives looks for processes in a network namespace.
func netnsLives(ns string) bool {
	links, _ := filepath.Glob("/proc/[0-9]*/ns/net")
	return slices.ContainsFunc(links, func(link string) bool {
		have, err := os.Readlink(link)
		return err == nil && have == ns
	})
}

// cgroupsOf are the cgroups that processes made, which their names begin with.
func cgroupsOf(pids map[int]bool) (found []string) {
	filepath.WalkDir("/sys/fs/cgroup", func(name string, d fs.DirEntry, err error) error {
		if rest, ok := strings.CutPrefix(filepath.Base(name), "nacre-"); ok && err == nil && d.IsDir() {
			first, _, _ := strings.Cut(rest, "-")
			if pid, err := strconv.Atoi(first); err == nil && pids[pid] {
				found = append(found, name)
			}
		}
		return nil
	})
	return found
}

// killAll ends all processes that have to do with a directory, which no other test knows.
func killAll(dir string) {
	for range 500 { // 5 s
		left := processes(dir)
		if len(left) == 0 {
			return
		}
		for _, line := range left {
			number, _, _ := strings.Cut(line, " ")
			if pid, err := strconv.Atoi(number); err == nil {
				syscall.Kill(pid, syscall.SIGKILL)
			}
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// memoryLimits tells whether this machine lets limits of memory be set, by setting one.
func memoryLimits() bool {
	for _, way := range []struct{ parent, file string }{
		{"/sys/fs/cgroup/memory", "memory.limit_in_bytes"}, {"/sys/fs/cgroup", "memory.max"}, {"/sys/fs/cgroup/unified", "memory.max"},
	} {
		dir := fmt.Sprintf("%s/nacre-e2e-%d", way.parent, os.Getpid())
		if os.Mkdir(dir, 0o755) != nil {
			continue
		}
		err := os.WriteFile(filepath.Join(dir, way.file), []byte("16777216"), 0)
		os.Remove(dir)
		if err == nil {
			return true
		}
	}
	return false
}

// kill ends a process at once.
func kill(t *testing.T, pid string) {
	t.Helper()
	n, err := strconv.Atoi(pid)
	if err == nil {
		err = syscall.Kill(n, syscall.SIGKILL)
	}
	if err != nil {
		t.Fatalf("kill %s: %v", pid, err)
	}
}

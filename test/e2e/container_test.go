package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// left fails where anything of a store's containers is left.
func (s *store) left(t *testing.T) {
	t.Helper()
	until(t, "the end of all processes", func() bool { return len(processes(s.root)) == 0 })
	if m := mounts(s.root); len(m) > 0 {
		t.Errorf("mounts: %v", m)
	}
	for _, dir := range []string{"containers", "owners", "locks", "tmp"} {
		if l := listing(t, filepath.Join(s.root, dir)); strings.Count(l, "\n") > 1 {
			t.Errorf("%s has\n%s", dir, l)
		}
	}
	cgroups, _ := filepath.Glob("/sys/fs/cgroup/*/nacre-*")
	for _, dir := range cgroups {
		if procs, err := os.ReadFile(dir + "/cgroup.procs"); err == nil && len(procs) == 0 && strings.Contains(dir, "/freezer/") {
			t.Errorf("cgroup %s is left", dir)
		}
	}
}

// TestManyContainers has many at once, ends them all in different ways, and looks for what is left.
func TestManyContainers(t *testing.T) {
	n, sequence := 12, 20
	if full {
		n, sequence = 200, 1000
	}
	s := newBusybox(t)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			if r := s.run(t, "run", "-d", "--init", "--network", "none", "--name", fmt.Sprintf("many%d", i), "busybox", "sleep", "10000"); r.code != 0 {
				t.Error(r)
			}
		})
	}
	wg.Wait()
	if ids := strings.Fields(s.ok(t, "ps", "-q")); len(ids) != n {
		t.Errorf("%d run, of %d", len(ids), n)
	}
	args := []string{"stop"}
	for i := range n / 2 {
		args = append(args, fmt.Sprintf("many%d", i))
	}
	s.ok(t, args...)
	if ids := strings.Fields(s.ok(t, "ps", "-q")); len(ids) != n-n/2 {
		t.Errorf("%d run after the others were stopped", len(ids))
	}
	s.ok(t, append([]string{"rm", "-f"}, strings.Fields(s.ok(t, "ps", "-aq"))...)...)
	s.left(t)
	for range sequence {
		s.ok(t, "run", "--rm", "--network", "none", "busybox", "true")
	}
	s.left(t)
	s.check(t)
}

// TestContainerOutOfMemory reaches the memory limit: it is told by ps and inspect.
func TestContainerOutOfMemory(t *testing.T) {
	s := newBusybox(t)
	r := s.run(t, "run", "--name", "big", "--memory", "16m", "--memory-swap", "16m", "--network", "none", "busybox", "sh", "-c", "tail -c 200m /dev/zero; exit $?")
	if strings.Contains(r.stderr, "is not applied") {
		t.Logf("limits cannot be set here: %v", r)
		return
	}
	if r.code != 137 {
		t.Errorf("exit code 137 is wanted: %v", r)
	}
	if got := s.ok(t, "inspect", "-f", "{{.State.OOMKilled}}", "big"); got != "true" {
		t.Errorf("OOMKilled: %s", got)
	}
	if got := s.ok(t, "ps", "-a", "--format", "{{.Status}}"); !strings.Contains(got, "(out of memory)") {
		t.Errorf("status: %s", got)
	}
}

// TestContainerForkBomb lets a fork bomb loose within a limit, and stops it.
func TestContainerForkBomb(t *testing.T) {
	s := newBusybox(t)
	r := s.run(t, "run", "-d", "--name", "bomb", "--pids-limit", "32", "--network", "none", "busybox", "sh", "-c", "f() { f | f & }; f; sleep 10000")
	if r.code != 0 || strings.Contains(r.stderr, "is not applied") {
		t.Fatal(r)
	}
	until(t, "the limit", func() bool { return strings.Contains(s.run(t, "logs", "bomb").stderr, "fork") })
	if got := s.ok(t, "ps", "--format", "{{.Names}} {{.State}}"); got != "bomb running" {
		t.Errorf("ps: %s", got)
	}
	s.ok(t, "rm", "-f", "bomb")
	s.left(t)
}

// TestContainerDiskFull fills the disk by what a container writes: it goes on, ends, and its end is kept. What
// was lost of its log is said.
func TestContainerDiskFull(t *testing.T) {
	s := newTmpfs(t, "24m")
	s.importBase(t, "busybox", `CMD ["sh"]`)
	s.ok(t, "run", "-d", "--name", "loud", "--log-opt", "max-size=-1", "--network", "none", "busybox", "sh", "-c",
		"yes 0123456789012345678901234567890123456789 | head -c 30m; rm -f /fill; exit 3")
	until(t, "its end", func() bool { return s.run(t, "ps", "-q").stdout == "" })
	if got := s.ok(t, "wait", "loud"); got != "3" {
		t.Errorf("exit code %s", got)
	}
	r := s.run(t, "logs", "-n", "1", "loud")
	if r.code != 0 || !strings.Contains(r.stderr, "the log of loud is not whole: ") || !strings.Contains(r.stderr, "no space left") {
		t.Error(r)
	}
	s.fails(t, 125, []string{"(?i)no space left"}, "run", "-d", "--name", "late", "--network", "none", "busybox", "true")
	s.ok(t, "rm", "loud")
	s.ok(t, "run", "--rm", "--network", "none", "busybox", "true")
	s.check(t)
}

// TestContainerHostileOutput reads little of much, closes early, and writes without end.
func TestContainerHostileOutput(t *testing.T) {
	s := newBusybox(t)
	// A line without end, in the background: the log is bounded, and so is the monitor.
	s.ok(t, "run", "-d", "--name", "line", "--log-opt", "max-size=1m", "--log-opt", "max-file=2", "--network", "none", "busybox", "sh", "-c", "head -c 50m /dev/zero")
	if got := s.ok(t, "wait", "line"); got != "0" {
		t.Errorf("exit code %s", got)
	}
	if n := len(s.ok(t, "logs", "line")); n == 0 || n > 3<<20 {
		t.Errorf("%d bytes of the line are left", n)
	}
	// A reader that has seen enough ends a container in the foreground by SIGPIPE.
	cmd := s.cmd("run", "--rm", "--network", "none", "busybox", "yes")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	out.Read(make([]byte, 100))
	out.Close()
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	select {
	case <-done:
	case <-time.After(60 * time.Second):
		cmd.Process.Kill()
		t.Error("it went on writing to nobody")
	}
	// Who is attached and reads nothing does not hold it up for good.
	s.ok(t, "run", "-d", "--name", "slow", "--network", "none", "busybox", "sh", "-c", "sleep 1; head -c 20m /dev/zero; exit 5")
	viewer := s.cmd("attach", "slow")
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	viewer.Stdout = w
	if err := viewer.Start(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	if got := s.ok(t, "wait", "slow"); got != "5" {
		t.Errorf("exit code %s", got)
	}
	r.Close()
	viewer.Process.Kill()
	viewer.Wait()
	s.ok(t, "rm", "line", "slow")
	s.left(t)
}

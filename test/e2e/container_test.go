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

// TestManyContainers has many at once, ends them all in different ways, and looks for what is left.
func TestManyContainers(t *testing.T) {
	t.Parallel()
	s := newBusybox(t)
	s.manyAtOnce(t, pick(12, 200), 4)
	s.manyInSequence(t, pick(20, 1000))
	s.check(t)
}

// TestManyContainersRootless is the same as an ordinary user, to whom each costs more: a namespace, and a program for its network.
func TestManyContainersRootless(t *testing.T) {
	t.Parallel()
	s, _ := newUserStore(t, "nacre-test")
	s.importBase(t, "busybox", `CMD ["sh"]`)
	s.manyAtOnce(t, pick(4, 40), 0)
	s.manyInSequence(t, pick(4, 100))
	s.check(t)
}

// manyAtOnce has n containers at once. As root so many of them have devices on a bridge, at least, and one is paused.
func (s *store) manyAtOnce(t *testing.T, n, bridged int) {
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			network := pick("none", "private")
			if i < 4 {
				network = "private"
			}
			if r := s.run(t, "run", "-d", "--init", "--network", network, "--pids-limit", "100", "--name", fmt.Sprintf("many%d", i), "busybox", "sleep", "10000"); r.code != 0 {
				t.Error(r)
			}
		})
	}
	wg.Wait()
	if ids := strings.Fields(s.ok(t, "ps", "-q")); len(ids) != n {
		t.Errorf("%d run, of %d", len(ids), n)
	}
	if bridged > 0 {
		s.ok(t, "pause", "many0")
	}
	seen := s.traces(t)
	if len(seen.netns) < n || len(seen.devices) < bridged {
		t.Errorf("%d network namespaces and %d devices were seen of %d containers", len(seen.netns), len(seen.devices), n)
	}
	args := []string{"stop"}
	for i := range n / 2 {
		args = append(args, fmt.Sprintf("many%d", i))
	}
	s.ok(t, args...)
	if ids := strings.Fields(s.ok(t, "ps", "-q")); len(ids) != n-n/2 {
		t.Errorf("%d run after the others were stopped", len(ids))
	}
	running := s.monitors(t)
	killed := min(3, len(running)/2) // as if memory had run out
	for _, pid := range running[:killed] {
		kill(t, fmt.Sprint(pid))
	}
	until(t, "ps to know", func() bool { return len(strings.Fields(s.ok(t, "ps", "-q"))) == n-n/2-killed })
	s.ok(t, append([]string{"rm", "-f"}, strings.Fields(s.ok(t, "ps", "-aq"))...)...)
	s.left(t, seen)
}

// manyInSequence runs one container after the other.
func (s *store) manyInSequence(t *testing.T, sequence int) {
	pids := map[int]bool{}
	for i := range sequence {
		network := "none"
		if i%10 == 0 {
			network = "private"
		}
		r := s.run(t, "run", "--rm", "--network", network, "--pids-limit", "100", "busybox", "true")
		if r.code != 0 {
			t.Fatal(r)
		}
		pids[r.pid] = true
	}
	s.left(t, traces{})
	if dirs := cgroupsOf(pids); len(dirs) > 0 {
		t.Errorf("cgroups are left: %q", dirs)
	}
}

// TestContainerOutOfMemory reaches the memory limit: it is told by ps and inspect. Where no limit can be set, that is told.
func TestContainerOutOfMemory(t *testing.T) {
	t.Parallel()
	s := newBusybox(t)
	limited := []string{"run", "--name", "big", "--memory", "16m", "--memory-swap", "16m", "--network", "none", "busybox", "sh", "-c"}
	r := s.run(t, append(limited, "tail -c 64m /dev/zero >/dev/null")...)
	if !memoryLimits() {
		if r.code != 0 || !strings.Contains(r.stderr, "memory limit is not applied") {
			t.Errorf("no limit can be set, and nobody says so: %v", r)
		}
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
	seen := s.traces(t)
	if got := s.ok(t, "ps", "--format", "{{.Names}} {{.State}}"); got != "bomb running" {
		t.Errorf("ps: %s", got)
	}
	s.ok(t, "rm", "-f", "bomb")
	s.left(t, seen)
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
	// The log left some room. Without any, what takes some fails and what gives some does not.
	fill(t, filepath.Dir(s.root))
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
	case <-time.After(patience):
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
	s.left(t, traces{})
}

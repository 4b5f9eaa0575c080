package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// monitorOf waits for the process that looks after a container.
func (s *store) monitorOf(t *testing.T, id string) (pid string) {
	t.Helper()
	until(t, "the monitor", func() bool {
		list := processes("nacre: monitor\x00" + s.root + "\x00" + id)
		if len(list) > 0 {
			pid, _, _ = strings.Cut(list[0], " ")
		}
		return len(list) > 0
	})
	return pid
}

// status waits until ps says of a container what is wanted, and returns that.
func (s *store) status(t *testing.T, name, want string) (got string) {
	t.Helper()
	until(t, name+" to be "+want, func() bool {
		got = s.ok(t, "ps", "-a", "--filter", "name="+name, "--format", "{{.Status}}")
		return regexp.MustCompile("^(" + want + ")$").MatchString(got)
	})
	return got
}

// removed removes a container, which must not run, and looks for what is left of it.
func (s *store) removed(t *testing.T, name string, seen traces) {
	t.Helper()
	if got := s.ok(t, "inspect", "-f", "{{.State.Running}} {{.State.Pid}}", name); got != "false 0" {
		t.Errorf("%s: running, pid: %s", name, got)
	}
	s.check(t)
	s.ok(t, "rm", "-f", name)
	s.left(t, seen)
	s.swept(t)
}

const killedStatus = `Exited \(137\) .* \(its monitor was killed\)`

// TestMonitorKilled kills monitors in each state that a container may be in.
func TestMonitorKilled(t *testing.T) {
	t.Parallel()
	s := newBusybox(t)
	for _, c := range []struct {
		state string
		run   []string
		then  []string // before it is killed
	}{
		{state: "Up .*", run: []string{"busybox", "sleep", "10000"}},
		{state: `Up .* \(Paused\)`, run: []string{"busybox", "sleep", "10000"}, then: []string{"pause", "victim"}},
		{state: `Restarting \(3\) .*`, run: []string{"--restart", "always", "busybox", "sh", "-c", "exit 3"}},
		{state: "Up .*", run: []string{"busybox", "sh", "-c", "trap '' TERM; while :; do sleep 1; done"}, then: []string{"stop", "-t", "1000", "victim"}},
	} {
		t.Run(c.state, func(t *testing.T) {
			id := s.ok(t, append([]string{"run", "-d", "--name", "victim", "--pids-limit", "50"}, c.run...)...)
			var then *server
			if c.then != nil {
				then = s.start(t, c.then...)
			}
			if c.then != nil && c.then[0] == "pause" {
				<-then.waited
			}
			s.status(t, "victim", c.state)
			seen := traces{}
			if !strings.HasPrefix(c.state, "Restarting") {
				seen = s.traces(t)
			}
			kill(t, s.monitorOf(t, id))
			s.status(t, "victim", killedStatus)
			if got := s.ok(t, "inspect", "-f", "{{.State.Status}} {{.State.ExitCode}} {{.State.OOMKilled}} {{.State.Error}}", "victim"); got != "exited 137 false its monitor was killed" {
				t.Error(got)
			}
			if got := s.ok(t, "wait", "victim"); got != "137" {
				t.Errorf("wait says %s", got)
			}
			if then != nil { // whoever waited for its end hears of it
				<-then.waited
			}
			s.removed(t, "victim", seen)
		})
	}
}

// TestMonitorKilledStarting kills monitors at random moments of a start.
func TestMonitorKilledStarting(t *testing.T) {
	t.Parallel()
	s := newBusybox(t)
	s.ok(t, "create", "--name", "timed", "busybox", "sleep", "10000")
	begin := time.Now()
	s.ok(t, "start", "timed")
	moment := moments(t, time.Since(begin))
	s.ok(t, "rm", "-f", "timed")
	said := map[string]int{}
	for range pick(8, 60) {
		s.ok(t, "create", "--name", "victim", "--pids-limit", "50", "busybox", "sleep", "10000")
		cmd := s.cmd("start", "victim")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		pid := monitorBy(t, cmd.Process.Pid)
		time.Sleep(moment())
		kill(t, pid)
		err := cmd.Wait()
		got := s.status(t, "victim", "Created|"+killedStatus)
		if err == nil && got == "Created" {
			t.Errorf("it was said to be started, and never was")
		}
		got, _, _ = strings.Cut(got, " ")
		said[got]++
		s.removed(t, "victim", traces{})
		s.noCgroups(t, pid)
	}
	t.Logf("what ps said: %v", said)
}

// monitorBy waits for the monitor that a process starts, and looks as often as it can.
func monitorBy(t *testing.T, pid int) (child string) {
	t.Helper()
	for end := time.Now().Add(patience); child == ""; time.Sleep(time.Millisecond) {
		files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
		for _, name := range files {
			data, _ := os.ReadFile(name)
			for _, pid := range strings.Fields(string(data)) {
				if line, _ := os.ReadFile("/proc/" + pid + "/cmdline"); strings.HasPrefix(string(line), "nacre: monitor\x00") {
					child = pid
				}
			}
		}
		if time.Now().After(end) {
			t.Fatalf("process %d starts no monitor", pid)
		}
	}
	return child
}

// swept lets commands clean up after those that were killed, and looks for what is left.
func (s *store) swept(t *testing.T) {
	t.Helper()
	until(t, "what was left to be removed", func() bool {
		s.ok(t, "ps", "-aq")
		left := 0
		for _, dir := range []string{"tmp", "owners"} {
			names, _ := os.ReadDir(filepath.Join(s.root, dir))
			left += len(names)
		}
		return left == 0
	})
	s.left(t, traces{})
}

// noCgroups waits for the cgroups of a process that was killed to be gone: its guard removes them.
func (s *store) noCgroups(t *testing.T, pid string) {
	t.Helper()
	n, err := strconv.Atoi(pid)
	if err != nil {
		t.Fatal(err)
	}
	until(t, "the cgroups of "+pid+" to be gone", func() bool { return len(cgroupsOf(map[int]bool{n: true})) == 0 })
}

// TestKilledRunning kills run and rm at random moments. What is there is right, can be removed, and leaves nothing.
func TestKilledRunning(t *testing.T) {
	t.Parallel()
	s := newBusybox(t)
	run := []string{"run", "--name", "victim", "--pids-limit", "50", "--network", "private", "-v", "/anonymous", "busybox", "sh", "-c", "echo x >/f; echo y >/anonymous/g"}
	begin := time.Now()
	s.ok(t, run...)
	took := time.Since(begin)
	begin = time.Now()
	s.ok(t, "rm", "-v", "victim")
	ofRun, ofRemove := moments(t, took), moments(t, time.Since(begin))
	for i := range pick(10, 100) {
		args := run
		if i%2 == 0 {
			args = append([]string{"run", "--rm"}, run[1:]...)
		}
		cmd := s.cmd(args...)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(ofRun())
		cmd.Process.Kill()
		cmd.Wait()
		s.noCgroups(t, strconv.Itoa(cmd.Process.Pid))
		if i%2 == 0 { // by whoever looks next, once all of its processes are gone
			s.status(t, "victim", "")
		} else if s.status(t, "victim", `|Created|Exited \(0\) .*|`+killedStatus) != "" {
			s.killed(t, ofRemove(), "rm", "-v", "victim")
			if s.status(t, "victim", `|Created|Exited .*`) != "" {
				s.removed(t, "victim", traces{})
			}
		}
		s.swept(t)
	}
	s.ok(t, "volume", "prune", "-f")
	if left := s.ok(t, "volume", "ls", "-q"); left != "" {
		t.Errorf("volumes are left: %s", left)
	}
	s.check(t)
}

// TestContainerStubborn stops a container that hears nothing.
func TestContainerStubborn(t *testing.T) {
	t.Parallel()
	s := newBusybox(t)
	s.ok(t, "run", "-d", "--name", "deaf", "--network", "none", "busybox", "sh", "-c", "trap '' TERM; while :; do sleep 1; done")
	s.ok(t, "stop", "-t", "1", "deaf")
	if got := s.status(t, "deaf", "Exited .*"); !strings.HasPrefix(got, "Exited (137) ") || strings.Contains(got, "monitor") {
		t.Error(got)
	}
	if got := s.ok(t, "inspect", "-f", "{{.State.ExitCode}} {{.State.OOMKilled}} {{.State.Error}}", "deaf"); got != "137 false " {
		t.Errorf("%q", got)
	}
	s.removed(t, "deaf", traces{})
}

// TestDetachedHoldsNothing: who started a container in the background and waits for the end of its output, as a shell does by
// $(…), does not wait for the container.
func TestDetachedHoldsNothing(t *testing.T) {
	t.Parallel()
	s := newBusybox(t)
	for i, more := range [][]string{{"--network", "none"}, {"-p", "127.0.0.1::80", "--init", "--memory", "64m"}, {"--userns", "auto", "-i"}, {"-t", "--health-cmd", "true", "--health-interval", "1s"}} {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		pipe, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", w.Fd()))
		if err != nil {
			t.Fatal(err)
		}
		cmd := s.cmd(append(append([]string{"run", "-d", "--name", fmt.Sprint("one", i)}, more...), "busybox", "sleep", "10000")...)
		cmd.Stdout, cmd.Stderr = w, w
		if err := cmd.Run(); err != nil {
			t.Fatal(err)
		}
		links, _ := filepath.Glob("/proc/[0-9]*/fd/*")
		for _, link := range links {
			if to, err := os.Readlink(link); err == nil && to == pipe && !strings.HasPrefix(link, fmt.Sprintf("/proc/%d/", os.Getpid())) {
				line, _ := os.ReadFile(filepath.Dir(link) + "/../cmdline")
				t.Errorf("%v: the output of run is held open by %q", more, line)
			}
		}
		r.Close()
		w.Close()
	}
	s.ok(t, append([]string{"rm", "-f"}, strings.Fields(s.ok(t, "ps", "-aq"))...)...)
	s.left(t, traces{})
}

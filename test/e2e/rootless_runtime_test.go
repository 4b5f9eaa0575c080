package e2e

import (
	"os"
	"strings"
	"testing"
)

// TestRootlessRuntime: crun and runc run the containers of an ordinary user, who has no /usr/sbin in PATH, and what they cannot is said.
func TestRootlessRuntime(t *testing.T) {
	t.Parallel()
	for _, u := range ordinaryUsers {
		for _, runtime := range ociRuntimes[1:] {
			t.Run(u.name+"/"+runtime, func(t *testing.T) {
				t.Parallel()
				s, home := newUserStore(t, u.name)
				s.importBase(t, "busybox", `CMD ["sh"]`)
				s.env = append(s.env, "PATH=/usr/bin:/bin")
				s.by(runtime)
				s.rootlessUsers(t, u.isolation)
				s.rootlessFolder(t, u.name, home)
				s.rootlessDetached(t)
			})
		}
	}
}

func (s *store) rootlessUsers(t *testing.T, isolation string) {
	run := []string{"run", "--rm", "--network", "none"}
	if out := s.ok(t, append(run, "busybox", "sh", "-c", "id -u; ls /sys/class/net; head -c 3 /dev/zero | wc -c")...); out != "0\nlo\n3" {
		t.Errorf("it says %q", out)
	}
	if r := s.run(t, append(run, "busybox", "mount", "-t", "tmpfs", "x", "/mnt")...); r.code == 0 {
		t.Errorf("it can mount: %v", r)
	}
	other := append(run, "-u", "33:33", "busybox", "id", "-u")
	if isolation == "single" {
		s.fails(t, 125, []string{`cannot run it as user 33: .* without --runtime it can, .* /etc/subuid`}, other...)
	} else if out := s.ok(t, other...); out != "33" {
		t.Errorf("id -u: %q", out)
	}
	r := s.run(t, append(run, "-m", "100m", "busybox", "sh", "-c", "exit 7")...)
	if r.code != 7 {
		t.Errorf("exit code 7 is wanted: %v", r)
	}
	if !delegable() && !strings.Contains(r.stderr, "what limits the container is not applied: no cgroup is delegated") {
		t.Errorf("no limit can be set, and nobody says so: %v", r)
	}
}

// rootlessFolder: what a container writes to a directory of the user's is the user's.
func (s *store) rootlessFolder(t *testing.T, user, home string) {
	if err := os.Mkdir(home+"/shared", 0o777); err != nil {
		t.Fatal(err)
	}
	os.Chmod(home+"/shared", 0o777)
	s.ok(t, "run", "--rm", "-v", home+"/shared:/s", "busybox", "touch", "/s/f")
	if got := tool(t, "stat", "-c", "%U", home+"/shared/f"); got != user {
		t.Errorf("the file is %s's, wanted %s's", got, user)
	}
}

// rootlessDetached: one in the background is looked into, stopped, started again, and dies with its monitor.
func (s *store) rootlessDetached(t *testing.T) {
	id := s.ok(t, "run", "-d", "--init", "--name", "web", "--network", "none", "busybox", "sh", "-c",
		`trap "exit 3" TERM; echo up; while :; do sleep 0.05; done`)
	until(t, "its output", func() bool { return s.ok(t, "logs", "web") == "up" })
	if r := s.run(t, "exec", "web", "sh", "-c", "id -u; exit 4"); r.code != 4 || r.stdout != "0\n" {
		t.Errorf("exec: %v", r)
	}
	if !delegable() {
		s.fails(t, 1, []string{`cannot be paused here: it has no cgroup, which systemd-run --user .* can give`}, "pause", "web")
	}
	s.ok(t, "stop", "web")
	if got := s.ok(t, "wait", "web"); got != "3" {
		t.Errorf("stopped, it ends with %s", got)
	}
	s.ok(t, "start", "web")
	pid := s.ok(t, "inspect", "-f", "{{.State.Pid}}", "web")
	kill(t, s.monitorOf(t, id))
	s.status(t, "web", killedStatus)
	until(t, "the container's end", func() bool { return !processRuns(pid) })
	s.ok(t, "rm", "web")
	s.check(t)
}

// processRuns tells whether a process is there, and not only the record of its end.
func processRuns(pid string) bool {
	stat, err := os.ReadFile("/proc/" + pid + "/stat")
	return err == nil && !strings.Contains(string(stat), ") Z ")
}

// delegable tells whether an ordinary user may have cgroups on this machine: those of version 2, by themselves.
func delegable() bool {
	_, err := os.Stat("/sys/fs/cgroup/cgroup.controllers")
	return err == nil
}

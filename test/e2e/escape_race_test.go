package e2e

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// swapping is a folder whose name d is at one time a folder, at the other a link to the world's, and back, as fast as the
// kernel can. Both have a file passwd.
const swapping = `mkdir -p %[1]s/d && echo inner >%[1]s/d/passwd && ln -s %[2]s %[1]s/l`

// raceRounds is how often each thing is tried against it.
const raceRounds = 8

// leaks asserts that nothing in there is what only the machine has.
func (w *world) leaks(t *testing.T, what string, data []byte) {
	t.Helper()
	if bytes.Contains(data, []byte(w.text)) {
		t.Errorf("%s: the secret is in there", what)
	}
}

// hits does something until it has hit the world, or fails.
func hits(t *testing.T, what string, try func() bool) {
	t.Helper()
	for range 200_000 {
		if try() {
			return
		}
	}
	t.Errorf("%s would not be seen to lead out", what)
}

// TestEscapeRaces: what is done to files of a container that exchanges them meanwhile is done to files of the container
// (CVE-2018-15664, CVE-2021-30465).
func TestEscapeRaces(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	tool(t, "cp", w.secret, w.dir+"/passwd")
	s := newStore(t)
	w.image(t, s)
	s.ok(t, "run", "-d", "--name", "race", "--network", "none", "-v", "shared:/v", "tricks", "sh", "-c",
		fmt.Sprintf(swapping, "/tmp", w.dir)+" && "+fmt.Sprintf(swapping, "/v", w.dir)+" && (/escape swap /v/d /v/l & /escape swap /tmp/d /tmp/l)")
	t.Cleanup(func() { s.run(t, "rm", "-f", "race") })
	until(t, "it to begin", func() bool { return strings.Count(s.ok(t, "logs", "race"), "ready") == 2 })
	same := unchanged(t, w.dir)
	here := t.TempDir()
	os.WriteFile(here+"/payload", []byte("payload\n"), 0o644)

	t.Run("cp", func(t *testing.T) {
		for i := range raceRounds {
			for _, args := range [][]string{
				{"race:/tmp/d/passwd", here + "/out"}, {"race:/tmp/d", fmt.Sprint(here, "/tree", i)}, {"-L", "race:/tmp/d", fmt.Sprint(here, "/followed", i)},
				{here + "/payload", "race:/tmp/d/passwd"}, {here + "/payload", "race:/tmp/d/new"}, {here, "race:/tmp/d"},
			} {
				s.run(t, append([]string{"cp"}, args...)...)
			}
		}
		w.leaks(t, "cp", []byte(tool(t, "sh", "-c", `find "$0" -type f -exec cat {} +`, here)))
		same("cp")
	})
	t.Run("commit, export, diff", func(t *testing.T) {
		tar := filepath.Join(here, "exported")
		for range raceRounds {
			if r := s.run(t, "export", "-o", tar, "race"); r.code == 0 {
				data, err := os.ReadFile(tar)
				if err != nil {
					t.Fatal(err)
				}
				w.leaks(t, "export", data)
			}
			if r := s.run(t, "commit", "-p=false", "race", "committed"); r.code == 0 {
				w.leaks(t, "commit", []byte(s.run(t, "run", "--rm", "--network", "none", "committed", "sh", "-c", "find /tmp /v -type f -exec cat {} +").stdout))
			}
			s.run(t, "diff", "race")
		}
		same("commit")
	})
	t.Run("mounts", func(t *testing.T) {
		for range raceRounds {
			for _, flags := range [][]string{
				{"-v", "shared:/v", "-v", here + ":/v/d/x"}, {"--mount", "src=shared,dst=/s,volume-subpath=d"}, {"-v", "shared:/v", "--tmpfs", "/v/d"},
				{"-v", "shared:/v", "-v", here + "/payload:/v/d/made", "--init"},
			} {
				r := s.run(t, slices.Concat([]string{"run", "--rm", "--network", "none"}, flags, w.env("tricks", "sh", "-c", "/escape secret; cat /s/* /v/d/* 2>/dev/null"))...)
				w.leaks(t, "mounts", []byte(r.stdout))
				if strings.Contains(r.stdout, "read at") {
					t.Errorf("%v", r)
				}
			}
		}
		same("mounts")
	})
	// Who goes there by its path is led out, for reading and for writing.
	inside := "/proc/" + s.ok(t, "container", "inspect", "-f", "{{.State.Pid}}", "race") + "/root/tmp/d"
	hits(t, "reading by path", func() bool {
		data, err := os.ReadFile(inside + "/passwd")
		return err == nil && strings.HasPrefix(string(data), w.text)
	})
	hits(t, "writing by path", func() bool {
		os.WriteFile(inside+"/naive", nil, 0o644)
		_, err := os.Stat(w.dir + "/naive")
		return err == nil
	})
}

// TestEscapeContextRace: a context that somebody changes while it is read is nothing but what is in it.
func TestEscapeContextRace(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	tool(t, "cp", w.secret, w.dir+"/passwd")
	s := newBusybox(t)
	dir := writeFiles(t, map[string]string{"0": "FROM busybox\nCOPY d /all/d\n", "1": "FROM busybox\nCOPY d/passwd /all/\n", "2": "FROM busybox\nADD . /all\n"})
	tool(t, "sh", "-c", fmt.Sprintf(swapping, dir, w.dir))
	swap := exec.Command(w.program, "swap", dir+"/d", dir+"/l")
	if err := swap.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { swap.Process.Kill(); swap.Wait() })
	built := 0
	for i := range 3 * raceRounds {
		if r := s.run(t, "build", "-q", "--no-cache", "-t", "copied", "-f", fmt.Sprint(dir, "/", i%3), dir); r.code == 0 {
			built++
			w.leaks(t, "build", []byte(s.ok(t, "run", "--rm", "--network", "none", "copied", "sh", "-c", "find /all -type f -exec cat {} +")))
		}
	}
	if built == 0 {
		t.Error("nothing was built")
	}
	t.Logf("%d of %d builds went well", built, 3*raceRounds)
	hits(t, "reading by path", func() bool {
		data, err := os.ReadFile(dir + "/d/passwd")
		return err == nil && strings.HasPrefix(string(data), w.text)
	})
}

// TestEscapeKernelFiles: what covers files of /proc, and what is written there, is the kernel's, also where a volume is the
// container's /dev or /proc and its files are links that somebody exchanges (CVE-2025-31133, CVE-2025-52565, CVE-2025-52881).
func TestEscapeKernelFiles(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := newStore(t)
	w.image(t, s)
	same := unchanged(t, w.dir)
	s.ok(t, "run", "-d", "--name", "race", "--network", "none", "-v", "devs:/v", "tricks", "sh", "-c",
		"for n in null console tty full ptmx; do touch /v/$n; ln -s /proc/sys/kernel/core_pattern /v/$n.l; done; mkdir /v/pts; for n in console tty full ptmx; do /escape swap /v/$n /v/$n.l & done; /escape swap /v/null /v/null.l")
	t.Cleanup(func() { s.run(t, "rm", "-f", "race") })
	until(t, "it to begin", func() bool { return strings.Count(s.ok(t, "logs", "race"), "ready") == 5 })
	ran := 0
	for range 2 * raceRounds {
		for _, flags := range [][]string{{}, {"-t"}} {
			r := s.run(t, slices.Concat([]string{"run", "--rm", "--network", "none", "-v", "devs:/dev"}, flags,
				w.env("tricks", "/escape", "try", "write /proc/sys/kernel/core_pattern", "write /proc/sys/kernel/panic", "read /proc/keys", "read /proc/timer_list", "read /proc/interrupts"))...)
			if r.code == 0 {
				ran++
				noneThrough(t, strings.ReplaceAll(r.stdout, "\r", ""), "write /proc/sys/kernel/core_pattern", "write /proc/sys/kernel/panic", "read /proc/keys", "read /proc/timer_list", "read /proc/interrupts")
			}
		}
	}
	if ran == 0 {
		t.Error("nothing was run")
	}
	// Settings of the container's own network are written to the kernel or not at all.
	s.ok(t, "run", "--rm", "--network", "none", "-v", "proc:/v", "busybox", "sh", "-c",
		"mkdir -p /v/sys/net/ipv4 /v/sys/kernel /v/self; for n in ip_unprivileged_port_start ping_group_range; do ln -s "+w.dir+"/secret /v/sys/net/ipv4/$n; done; ln -s ../../../../.."+w.secret+" /v/sys/kernel/msgmax; ln -s "+w.secret+" /v/self/oom_score_adj; ln -s "+w.program+" /v/self/exe")
	for _, flags := range [][]string{{}, {"--sysctl", "kernel.msgmax=5000"}, {"--oom-score-adj", "500", "--init"}} {
		if r := s.run(t, slices.Concat([]string{"run", "--rm", "--network", "none", "-v", "proc:/proc"}, flags, []string{"busybox", "true"})...); r.code == 0 {
			t.Errorf("%v", r)
		}
	}
	same("settings")
	// A runtime that goes by paths covers a file with a setting, and writes to what a link leads to.
	out := tool(t, "unshare", "--mount", "sh", "-c", `cd "$0" && ln -s /proc/sys/kernel/core_pattern null && touch keys && mount --bind null keys && cat keys; umount keys; rm null keys`, w.dir)
	if want := tool(t, "cat", "/proc/sys/kernel/core_pattern"); out != want {
		t.Errorf("it would not be seen: %q, not %q", out, want)
	}
	os.Symlink(w.secret, w.dir+"/link")
	os.WriteFile(w.dir+"/link", []byte("5000"), 0)
	if data, _ := os.ReadFile(w.secret); string(data) != "5000" {
		t.Errorf("it would not be seen: %q", data)
	}
}

// TestEscapeHelpers: a container that shares its processes with another, or in which something is executed, sees nothing of
// the helper that becomes its program, even where it may trace all processes of its user namespace (CVE-2016-9962).
// It runs by itself: the moment that is looked for is short.
func TestEscapeHelpers(t *testing.T) {
	w := newWorld(t)
	s := newStore(t)
	w.image(t, s)
	l := w.leaked(s)
	for name, flags := range map[string][]string{"plain": nil, "tracer": {"--userns", "auto", "--cap-add", "SYS_PTRACE"}} {
		s.ok(t, slices.Concat([]string{"run", "-d", "--name", name, "--network", "none"}, flags, []string{"tricks", "/escape", "watch", "/bin/busybox"})...)
		t.Cleanup(func() { s.run(t, "rm", "-f", name) })
		until(t, "it to begin", func() bool { return strings.Contains(s.ok(t, "logs", name), "ready") })
	}
	for range 10 {
		l.ok(t, "run", "--rm", "--network", "none", "--pid", "container:plain", "busybox", "true")
		for _, name := range []string{"plain", "tracer"} {
			l.ok(t, "exec", name, "true")
			l.ok(t, "exec", "-t", name, "true")
			l.ok(t, "exec", "-u", "1000", name, "true")
			l.fails(t, 127, nil, "exec", name, "nothere")
			l.fails(t, 126, nil, "exec", name, "/")
			l.fails(t, 127, nil, "exec", "-w", "/nothere", name, "true")
		}
	}
	for _, name := range []string{"plain", "tracer"} {
		if out := s.ok(t, "logs", name); strings.Contains(out, "caught") {
			t.Errorf("%s: %s", name, out)
		}
	}
	// What goes into the user namespace by itself and executes something only then is seen, however short it is there, and with
	// what of the machine's it has open.
	pid := s.ok(t, "container", "inspect", "-f", "{{.State.Pid}}", "tracer")
	inside := []string{"/usr/bin/nsenter", "--target", pid, "--user", "--pid"}
	until(t, "a helper to be seen", func() bool {
		tool(t, append(inside, "true")...)
		return strings.Contains(s.ok(t, "logs", "tracer"), "caught /")
	})
	for _, dir := range []string{"/", w.dir} {
		control := exec.Command(w.program, slices.Concat([]string{"leak", dir}, inside, []string{"sleep", "1000"})...)
		control.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		if err := control.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { syscall.Kill(-control.Process.Pid, syscall.SIGKILL); control.Wait() })
		until(t, "it to be seen with "+dir, func() bool { return strings.Contains(s.ok(t, "logs", "tracer"), "7=foreign:"+dir+" ") })
	}
}

package e2e

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"
)

// TestRunCode: the exit code of run is that of the process, or says why there was none.
func TestRunCode(t *testing.T) {
	t.Parallel()
	s := newBusybox(t)
	for _, c := range []struct {
		code int
		args []string
	}{
		{0, []string{"busybox", "true"}},
		{7, []string{"busybox", "sh", "-c", "exit 7"}},
		{125, []string{"--network", "nope", "busybox", "true"}},
		{125, []string{"no-such-image", "true"}},
		{126, []string{"busybox", "/etc/passwd"}},
		{126, []string{"busybox", "/etc"}},
		{127, []string{"busybox", "no-such-program"}},
		{127, []string{"busybox", "/no/such/program"}},
	} {
		r := s.run(t, append([]string{"run", "--rm", "--network", "none"}, c.args...)...)
		if r.code != c.code {
			t.Errorf("exit code %d is wanted: %v", c.code, r)
		}
		if c.code > 7 && !strings.Contains(r.stderr, "error: ") {
			t.Errorf("it does not say why: %v", r)
		}
	}
}

// TestRunSignals: what nacre is told, the process is told.
func TestRunSignals(t *testing.T) {
	t.Parallel()
	s := newBusybox(t)
	for sig, want := range map[syscall.Signal]int{syscall.SIGTERM: 15, syscall.SIGINT: 2, syscall.SIGHUP: 1, syscall.SIGUSR1: 10, syscall.SIGQUIT: 3} {
		srv := s.start(t, "run", "--rm", "--network", "none", "busybox", "sh", "-c",
			`for s in 1 2 3 10 15; do trap "echo got $s; exit $s" $s; done; echo ready; while :; do sleep 0.05; done`)
		srv.waitFor(t, "ready")
		if code := srv.stop(sig); code != want || !strings.Contains(srv.out.String(), "got") {
			t.Errorf("%v: exit code %d, output %q", sig, code, srv.out)
		}
	}
	// SIGKILL from outside of the process itself.
	srv := s.start(t, "run", "--rm", "--network", "none", "busybox", "sh", "-c", "echo ready; sleep 60")
	srv.waitFor(t, "ready")
	syscall.Kill(srv.child(t), syscall.SIGKILL)
	select {
	case <-srv.waited:
		if code := srv.cmd.ProcessState.ExitCode(); code != 137 {
			t.Errorf("killed, it ends with %d", code)
		}
	case <-time.After(patience):
		t.Error("its end is not noticed")
	}
}

// ociRuntimes are whom containers are run by: our own sandbox, and what scripts/setup tools installs.
var ociRuntimes = []string{"nacre", "crun", "runc"}

// by has containers run by a runtime.
func (s *store) by(runtime string) {
	if runtime != "nacre" {
		s.env = append(s.env, "NACRE_RUNTIME="+runtime)
	}
}

// TestRunFlags: -e, -w, -u, -v, --entrypoint, -i and what a container is, whoever runs it.
func TestRunFlags(t *testing.T) {
	t.Parallel()
	os.Setenv("NACRE_E2E_HANDED_ON", "by name")
	for _, runtime := range ociRuntimes {
		t.Run(runtime, func(t *testing.T) {
			t.Parallel()
			s := newBusybox(t)
			s.by(runtime)
			s.runFlags(t)
		})
	}
}

func (s *store) runFlags(t *testing.T) {
	dir := t.TempDir()
	os.WriteFile(filepath.Join(dir, "in"), []byte("from outside\n"), 0o644)
	for _, c := range []struct {
		name string
		args []string
		want string
	}{
		{"environment", []string{"-e", "A=1", "-e", "NACRE_E2E_HANDED_ON", "busybox", "sh", "-c", "echo $A $NACRE_E2E_HANDED_ON $PATH"},
			"1 by name /usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
		{"folder", []string{"-w", "/var/www", "busybox", "pwd"}, "/var/www"},
		{"folder made", []string{"-w", "/not/there", "busybox", "pwd"}, "/not/there"},
		{"user by name", []string{"-u", "www-data", "busybox", "id"}, "uid=33(www-data) gid=33(www-data) groups=33(www-data),100(users)"},
		{"user by number", []string{"-u", "1234:5", "busybox", "sh", "-c", "id -u; id -g"}, "1234\n5"},
		{"home", []string{"-u", "www-data", "busybox", "sh", "-c", "echo $HOME"}, "/var/www"},
		{"entrypoint", []string{"--entrypoint", "echo", "busybox", "a", "b"}, "a b"},
		{"volume", []string{"-v", dir + ":/data", "busybox", "sh", "-c", "cat /data/in; echo from inside > /data/out"}, "from outside"},
		{"volume read-only", []string{"-v", dir + ":/data:ro", "busybox", "sh", "-c", "touch /data/x 2>/dev/null || echo no"}, "no"},
		{"name", []string{"--name", "me", "busybox", "echo", "named"}, "named"},
		{"first process", []string{"busybox", "sh", "-c", "echo $$"}, "1"},
		{"alone", []string{"busybox", "sh", "-c", "set -- /proc/[0-9]*; echo $#; ls /sys/class/net"}, "1\nlo"},
		{"no disks", []string{"busybox", "sh", "-c", "mknod /x b " + disk(t) + "; head -c 1 /x >/dev/null 2>&1 || echo no"}, "no"},
		{"no mounting", []string{"busybox", "sh", "-c", "mount -t tmpfs x /tmp 2>/dev/null || echo no"}, "no"},
		{"devices", []string{"busybox", "sh", "-c", "echo x > /dev/null && head -c 4 /dev/zero | wc -c && ls /dev/pts /dev/shm >/dev/null && readlink /dev/fd"}, "4\n/proc/self/fd"},
		{"capabilities", []string{"busybox", "sh", "-c", "grep CapBnd /proc/self/status"}, "CapBnd:\t00000000a80425fb"},
		{"seccomp", []string{"busybox", "sh", "-c", "grep -w Seccomp: /proc/self/status"}, "Seccomp:\t2"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := s.ok(t, append([]string{"run", "--rm", "--network", "none"}, c.args...)...)
			if got != c.want {
				t.Errorf("it says %q, wanted %q", got, c.want)
			}
		})
	}
	if got, err := os.ReadFile(filepath.Join(dir, "out")); string(got) != "from inside\n" {
		t.Errorf("the volume holds %q, %v", got, err)
	}
	if r := s.runIn(t, "one\ntwo\n", "run", "--rm", "-i", "--network", "none", "busybox", "sed", "s/o/0/g"); r.stdout != "0ne\ntw0\n" {
		t.Errorf("-i: %v", r)
	}
	if r := s.runIn(t, "one\n", "run", "--rm", "--network", "none", "busybox", "cat"); r.stdout != "" || r.code != 0 {
		t.Errorf("without -i standard input is empty: %v", r)
	}
	r := s.run(t, "run", "--rm", "--network", "none", "busybox", "sh", "-c", "echo out; echo err >&2")
	if r.stdout != "out\n" || r.stderr != "err\n" {
		t.Errorf("streams: %v", r)
	}
	// Two megabytes both ways, unbroken.
	long := strings.Repeat("0123456789abcde\n", 1<<17)
	if r := s.runIn(t, long, "run", "--rm", "-i", "--network", "none", "busybox", "cat"); r.stdout != long {
		t.Errorf("of %d bytes %d came back", len(long), len(r.stdout))
	}
	// What a container writes is gone with it.
	s.ok(t, "run", "--rm", "--network", "none", "busybox", "touch", "/written")
	if r := s.run(t, "run", "--rm", "--network", "none", "busybox", "ls", "/written"); r.code == 0 {
		t.Errorf("the image was written to: %v", r)
	}
}

// TestRunTerminal: with -t the process has a terminal of the size of ours.
func TestRunTerminal(t *testing.T) {
	t.Parallel()
	s := newBusybox(t)
	cmd := s.cmd("run", "--rm", "-it", "--network", "none", "busybox", "sh")
	tty, err := pty.StartWithSize(cmd, &pty.Winsize{Rows: 40, Cols: 132})
	if err != nil {
		t.Fatal(err)
	}
	defer tty.Close()
	var out lockedBuffer
	read := make(chan struct{})
	go func() { io.Copy(&out, tty); close(read) }()
	wait := func(text string) {
		t.Helper()
		if !within(patience, func() bool { return strings.Contains(out.String(), text) }) {
			t.Fatalf("%q is not shown: %q", text, out.String())
		}
	}
	io.WriteString(tty, "stty size; tty; echo ter''minal\n")
	wait("40 132")
	wait("terminal")
	pty.Setsize(tty, &pty.Winsize{Rows: 25, Cols: 90})
	io.WriteString(tty, "until test \"$(stty size)\" = '25 90'; do :; done; echo re''sized\n")
	wait("resized")
	sleep := fmt.Sprintf("5%d", os.Getpid()) // seconds, like no one else's
	io.WriteString(tty, "sleep "+sleep+"\n")
	until(t, "it to sleep", func() bool { return len(processes("sleep\x00"+sleep)) > 0 })
	tty.Write([]byte{3}) // ^C goes to sleep, not to nacre
	io.WriteString(tty, "echo still''here; exit 5\n")
	wait("stillhere")
	err = cmd.Wait()
	if cmd.ProcessState.ExitCode() != 5 {
		t.Errorf("it ends with %v: %q", err, out.String())
	}
	tty.Close()
	<-read
	if bytes.Contains([]byte(out.String()), []byte("panic")) {
		t.Errorf("%q", out.String())
	}
}

// disk is the major and minor number of a block device this machine has.
func disk(t testing.TB) string {
	t.Helper()
	data, err := os.ReadFile("/proc/partitions")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		if f := strings.Fields(line); len(f) == 4 && f[0] != "major" {
			return f[0] + " " + f[1]
		}
	}
	t.Fatal("no block device to try")
	return ""
}

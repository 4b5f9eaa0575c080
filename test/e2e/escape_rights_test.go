package e2e

import (
	"archive/tar"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"
)

// TestEscapeKeyring: the keys of who starts a container are not the container's, and those of the container go with it. It
// has no filter here, which would refuse to look at all.
func TestEscapeKeyring(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := newStore(t)
	w.image(t, s)
	name := filepath.Base(w.dir)
	l := &store{root: s.root, wrap: []string{w.program, "keyring", name}}
	free := []string{"--security-opt", "seccomp=unconfined", "--network", "none"}
	l.ok(t, slices.Concat([]string{"run", "-d", "--name", "web"}, free, []string{"tricks", "/escape", "keep", name + "-left"})...)
	t.Cleanup(func() { s.run(t, "rm", "-f", "web") })
	for _, args := range [][]string{
		slices.Concat([]string{"run", "--rm"}, free, []string{"tricks"}), slices.Concat([]string{"run", "--rm", "--init"}, free, []string{"tricks"}),
		slices.Concat([]string{"run", "--rm", "--userns", "auto"}, free, []string{"tricks"}), {"exec", "web"},
	} {
		if r := l.run(t, append(args, "/escape", "key", name)...); r.code == 0 || strings.Contains(r.stdout, "escape-secret") {
			t.Errorf("%v", r)
		}
	}
	if out, err := exec.Command(w.program, "keyring", name, w.program, "key", name).Output(); err != nil || !strings.Contains(string(out), "escape-secret") {
		t.Errorf("it would not be seen: %v %s", err, out)
	}
	known := func() bool { return strings.Contains(tool(t, "cat", "/proc/keys"), name+"-left") }
	until(t, "the container's key", known)
	s.ok(t, "rm", "-f", "web")
	until(t, "the key to go", func() bool { return !known() })
}

// typed runs a command on a new terminal, and tells what is waiting there to be read when it has ended, as a shell would.
func typed(t *testing.T, cmd *exec.Cmd) string {
	t.Helper()
	master, slave, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer master.Close()
	defer slave.Close()
	settings, err := unix.IoctlGetTermios(int(slave.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	settings.Lflag &^= unix.ICANON | unix.ECHO
	settings.Cc[unix.VMIN], settings.Cc[unix.VTIME] = 0, 0
	if err := unix.IoctlSetTermios(int(slave.Fd()), unix.TCSETS, settings); err != nil {
		t.Fatal(err)
	}
	go func() { // what it writes
		for buf := make([]byte, 4096); ; {
			if _, err := master.Read(buf); err != nil {
				return
			}
		}
	}()
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Run(); err != nil {
		t.Errorf("%q: %v", cmd.Args, err)
	}
	if err := unix.IoctlSetTermios(int(slave.Fd()), unix.TCSETS, settings); err != nil { // as it was left it may wait
		t.Fatal(err)
	}
	buf := make([]byte, 100)
	n, err := unix.Read(int(slave.Fd()), buf)
	if err != nil {
		t.Fatal(err)
	}
	return string(buf[:n])
}

// TestEscapeTerminal: a container cannot type on the terminal it was started from, whatever its rights.
func TestEscapeTerminal(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := newStore(t)
	w.image(t, s)
	s.ok(t, "run", "-d", "--name", "web", "--network", "none", "tricks", "sleep", "1000")
	t.Cleanup(func() { s.run(t, "rm", "-f", "web") })
	for _, args := range [][]string{
		{"run", "--rm", "tricks"}, {"run", "--rm", "-i", "tricks"}, {"run", "--rm", "-it", "tricks"}, {"run", "--rm", "-i", "--privileged", "tricks"},
		{"run", "--rm", "-it", "--privileged", "--init", "tricks"}, {"exec", "-i", "web"}, {"exec", "-it", "--privileged", "web"},
	} {
		args = append(args, "/escape", "sti", "rm -rf /\n")
		if got := typed(t, s.cmd(args...)); got != "" {
			t.Errorf("%q: %q is typed", args, got)
		}
	}
	if got := typed(t, exec.Command(w.program, "sti", "x")); !strings.HasPrefix(got, "x") {
		t.Errorf("it would not be seen: %q", got)
	}
}

// TestEscapeSetuid: a program with a setuid bit that a container makes is for nobody on the machine to execute, and in a
// container that may get no new rights it gives none.
func TestEscapeSetuid(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := newStore(t)
	w.image(t, s)
	if out, err := setupUsers(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	somebody := func(argv ...string) (string, error) {
		out, err := exec.Command("setpriv", append([]string{"--reuid", "nacre-one", "--regid", "nogroup", "--clear-groups", "env"}, argv...)...).CombinedOutput() // setpriv itself has rights until it executes something
		return strings.TrimSpace(string(out)), err
	}
	make := []string{"tricks", "sh", "-c", "cp /escape /vol/suid; cp /escape /suid; chmod 4755 /vol/suid /suid; chmod 755 /vol; stat -c %a /vol/suid"}
	for name, flags := range map[string][]string{"default": {}, "userns": {"--userns", "auto"}} {
		if out := s.ok(t, slices.Concat([]string{"run", "--name", name, "--network", "none", "-v", name + ":/vol"}, flags, make)...); out != "4755" {
			t.Errorf("%s: %s", name, out)
		}
		file := s.root + "/volumes/" + name + "/_data/suid"
		if out, err := somebody(file, "id"); err == nil || !strings.Contains(out, "Permission denied") && !strings.Contains(out, "permission denied") {
			t.Errorf("%s: %v %s", name, err, out)
		}
		// Where it can be reached it works: the bit and the owner are there.
		open := filepath.Join(filepath.Dir(nacre), name+"-suid")
		tool(t, "cp", "-p", file, open)
		if out, err := somebody(open, "id"); err != nil || !strings.HasSuffix(out, " 0") {
			t.Errorf("it would not be seen: %v %s", err, out)
		}
		os.Remove(open)
	}
	found := tool(t, "sh", "-c", `find "$0" -perm -4000 -type f`, s.root)
	if len(strings.Fields(found)) < 4 {
		t.Errorf("only these have the bit: %s", found)
	}
	for _, file := range strings.Fields(found) {
		if out, err := somebody(file, "id"); err == nil {
			t.Errorf("%s: %s", file, out)
		}
	}
	// Inside it is as everywhere, unless the container said no to it, or to devices and programs of a tmpfs.
	run := func(flags ...string) string {
		return s.ok(t, slices.Concat([]string{"run", "--rm", "--network", "none", "-u", "1000", "-v", "default:/vol"}, flags, []string{"tricks", "/vol/suid", "id"})...)
	}
	if got := run(); got != "1000 0" {
		t.Errorf("a setuid program has users %q", got)
	}
	if got := run("--security-opt", "no-new-privileges"); got != "1000 1000" {
		t.Errorf("without new privileges it has users %q", got)
	}
	s.fails(t, 126, nil, "run", "--rm", "--network", "none", "--tmpfs", "/t", "tricks", "sh", "-c", "cp /escape /t/x; chmod 4755 /t/x; /t/x id; exit $?")
	// Who copies a file out owns it, and does not lend that to everybody.
	s.ok(t, "cp", "default:/suid", w.dir+"/copied")
	if got := tool(t, "stat", "-c", "%a", w.dir+"/copied"); got != "755" {
		t.Errorf("copied out it has mode %s", got)
	}
}

// TestEscapeFileCapabilities: nor is a program copied out that has capabilities of its own, which an image gave it.
func TestEscapeFileCapabilities(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := newStore(t)
	e := file("tool", "#!/bin/sh\n")
	e.Mode, e.Format = 0o755, tar.FormatPAX
	e.PAXRecords = map[string]string{"SCHILY.xattr.security.capability": "\x01\x00\x00\x02\x00\x20\x20\x00" + strings.Repeat("\x00", 12)} // cap_net_raw, cap_sys_admin
	s.ok(t, "import", "-c", path, hostileRoot(t, e), "capable")
	s.ok(t, "create", "--name", "it", "capable", "sh")
	for _, args := range [][]string{{"it:/tool"}, {"-a", "it:/tool"}} {
		s.ok(t, append(append([]string{"cp"}, args...), w.dir+"/copied")...)
		if out := tool(t, "getcap", w.dir+"/copied"); out != "" {
			t.Errorf("cp %q: %s", args, out)
		}
	}
	if stream := s.run(t, "cp", "it:/tool", "-"); !strings.Contains(stream.stdout, "SCHILY.xattr.security.capability=") {
		t.Errorf("it would not be seen: %q", stream.stdout)
	}
}

// TestEscapePidHost: who sees the machine's processes may not look into them, unless the container has all rights.
func TestEscapePidHost(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := newStore(t)
	w.image(t, s)
	run := func(flags ...string) string {
		return s.ok(t, slices.Concat([]string{"run", "--rm", "--network", "none", "--pid", "host"}, w.env(flags...), []string{"tricks", "/escape", "try", "secret", "ptrace", "read its memory", "take its file", "setns by pidfd"})...)
	}
	noneThrough(t, run(), "secret", "ptrace", "read its memory", "take its file", "setns by pidfd")
	for name, what := range outcomes(t, run("--privileged")) {
		if !strings.HasPrefix(what, "through: ") {
			t.Errorf("%s would not be seen: %s", name, what)
		}
	}
}

// TestEscapeNetwork: the machine's sockets without a name in the file system are in its network alone, and raw ones take a
// capability that every container has unless it is dropped.
func TestEscapeNetwork(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := newStore(t)
	w.image(t, s)
	for _, c := range []struct {
		through bool
		trick   string
		flags   []string
	}{
		{false, "abstract socket", []string{"--network", "none"}}, {false, "abstract socket", []string{"--network", "private"}}, {true, "abstract socket", []string{"--network", "host"}},
		{true, "raw socket", nil}, {true, "packet socket", nil}, {false, "raw socket", []string{"--cap-drop", "NET_RAW"}}, {false, "packet socket", []string{"--cap-drop", "NET_RAW"}},
		{false, "raw socket", []string{"-u", "1000"}}, {false, "network settings", []string{"--network", "private"}}, {true, "network settings", []string{"--cap-add", "NET_ADMIN"}},
	} {
		out := s.ok(t, slices.Concat([]string{"run", "--rm"}, w.env(c.flags...), []string{"tricks", "/escape", "one", c.trick})...)
		if got := outcomes(t, out)[c.trick]; strings.HasPrefix(got, "through: ") != c.through {
			t.Errorf("%s with %q: %s", c.trick, c.flags, got)
		}
	}
}

// TestEscapeHandles: a file of the machine's is opened by its number with a capability that no container has by default.
func TestEscapeHandles(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := newStore(t)
	w.image(t, s)
	for _, flags := range [][]string{{}, {"--cap-add", "DAC_READ_SEARCH"}} {
		out := s.ok(t, slices.Concat([]string{"run", "--rm", "--network", "none", "-v", "vol:/vol"}, w.env(flags...), []string{"tricks", "/escape", "one", "open_by_handle_at"})...)
		if through := strings.Contains(out, ": through: "); through != (len(flags) > 0) {
			t.Errorf("%q: %s", flags, out)
		}
	}
}

// TestContainerEndCodes: the exit code says which signal ended a container, also when docker's commands sent it.
func TestContainerEndCodes(t *testing.T) {
	t.Parallel()
	s := newBusybox(t)
	ignores := `trap "" TERM; touch /ready; while :; do sleep 0.05; done`
	heeds := `trap "exit 5" TERM; touch /ready; while :; do sleep 0.05; done`
	dies := `touch /ready; exec sleep 1000`
	for i, c := range []struct {
		flags   []string
		program string
		end     []string
		code    string
	}{
		{nil, dies, []string{"kill"}, "137"},
		{[]string{"--init"}, dies, []string{"kill", "-s", "TERM"}, "143"},
		{[]string{"--init"}, dies, []string{"stop"}, "143"},
		{nil, heeds, []string{"stop"}, "5"},
		{nil, ignores, []string{"stop", "-t", "0"}, "137"},
		{[]string{"--init", "--stop-signal", "INT"}, dies, []string{"stop"}, "130"},
		{nil, dies, []string{"rm", "-f"}, ""},
	} {
		name := fmt.Sprint("end", i)
		s.ok(t, slices.Concat([]string{"run", "-d", "--network", "none", "--name", name}, c.flags, []string{"busybox", "sh", "-c", c.program})...)
		until(t, "it to begin", func() bool { return s.run(t, "exec", name, "test", "-e", "/ready").code == 0 })
		s.ok(t, append(slices.Clone(c.end), name)...)
		if c.code == "" {
			continue
		}
		if got := s.ok(t, "wait", name); got != c.code {
			t.Errorf("%q of %q: wait says %s", c.end, c.program, got)
		}
		if got := s.ok(t, "container", "inspect", "-f", "{{.State.ExitCode}} {{.State.Status}}", name); got != c.code+" exited" {
			t.Errorf("%q of %q: inspect says %s", c.end, c.program, got)
		}
		s.ok(t, "rm", name)
	}
}

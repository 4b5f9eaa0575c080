package e2e

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// escapeProgram is test/escape, which tries known ways out of a container.
var escapeProgram = sync.OnceValues(func() (string, error) {
	file := filepath.Join(filepath.Dir(nacre), "escape")
	build := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", file, "nacre/test/escape")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w\n%s", err, out)
	}
	return file, nil
})

// world is what there is to be had outside of a container.
type world struct {
	program string // test/escape
	dir     string // a folder that is nobody's but root's
	secret  string // a file in it
	text    string // which says this
	facts   []string
}

// newWorld makes things outside for the tricks to get at.
func newWorld(t *testing.T) *world {
	t.Helper()
	program, err := escapeProgram()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "nacre-outside-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	w := &world{program: program, dir: dir, secret: filepath.Join(dir, "secret"), text: "escape-secret of " + filepath.Base(dir)}
	if err := os.WriteFile(w.secret, []byte(w.text+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	sleep := exec.Command("sleep", "1000")
	if err := sleep.Start(); err != nil {
		t.Fatal(err)
	}
	name := fmt.Sprintf("nacre-escape-%d", sleep.Process.Pid)
	listener, err := net.Listen("unix", "@"+name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		listener.Close()
		sleep.Process.Kill()
		sleep.Wait()
	})
	handle, _, err := unix.NameToHandleAt(unix.AT_FDCWD, w.secret, 0)
	if err != nil {
		t.Fatal(err)
	}
	w.facts = []string{
		"ESCAPE_SECRET=" + w.secret, fmt.Sprint("ESCAPE_PID=", sleep.Process.Pid), "ESCAPE_SOCKET=" + name, "ESCAPE_DISK=" + openDisk(t, dir),
		fmt.Sprintf("ESCAPE_HANDLE=%d %s", handle.Type(), hex.EncodeToString(handle.Bytes())),
	}
	return w
}

// openDisk is the number of a block device that root may open here: not every machine lets it have its disk.
func openDisk(t *testing.T, dir string) string {
	for _, numbers := range []string{disk(t), "7 0"} {
		var major, minor uint32
		fmt.Sscan(numbers, &major, &minor)
		name := filepath.Join(dir, "disk")
		if err := unix.Mknod(name, unix.S_IFBLK|0o600, int(unix.Mkdev(major, minor))); err != nil {
			t.Fatal(err)
		}
		f, err := os.Open(name)
		os.Remove(name)
		if err == nil {
			f.Close()
			return numbers
		}
	}
	t.Fatal("there is no block device that root may open")
	return ""
}

// env are the facts as flags of run, with more flags.
func (w *world) env(more ...string) []string {
	var args []string
	for _, f := range w.facts {
		args = append(args, "-e", f)
	}
	return append(args, more...)
}

// image builds the image tricks: busybox with the program.
func (w *world) image(t *testing.T, s *store) {
	t.Helper()
	s.importBase(t, "busybox", `CMD ["sh"]`)
	dir := t.TempDir()
	tool(t, "cp", w.program, dir+"/escape")
	tool(t, "sh", "-c", `printf 'FROM busybox\nCOPY escape /escape\n' >"$0"/Dockerfile; chmod -R a+rX "$0" "$0"/..`, dir)
	s.ok(t, "build", "-q", "-t", "tricks", dir)
}

// outside runs the program with no walls but those that wrap makes.
func (w *world) outside(t *testing.T, wrap []string, args ...string) string {
	t.Helper()
	argv := slices.Concat(wrap, []string{w.program}, args)
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), w.facts...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("%q: %v\n%s%s", argv, err, &stdout, &stderr)
	}
	return stdout.String()
}

// outcomes are the lines "NAME: OUTCOME: WHY" of tries.
func outcomes(t *testing.T, out string) map[string]string {
	t.Helper()
	found := map[string]string{}
	for line := range strings.Lines(out) {
		name, what, ok := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
		if !ok {
			t.Fatalf("not an outcome: %q in\n%s", line, out)
		}
		found[name] = what
	}
	return found
}

// noneThrough asserts that none of the tricks got through. Of names, where given, others do not matter.
func noneThrough(t *testing.T, out string, names ...string) {
	t.Helper()
	found := outcomes(t, out)
	if len(found) < max(80, len(names)) && len(names) == 0 || len(found) < len(names) {
		t.Fatalf("only %d tricks were tried:\n%s", len(found), out)
	}
	for name, what := range found {
		if len(names) > 0 && !slices.Contains(names, name) {
			continue
		}
		if !strings.HasPrefix(what, "refused: ") && !strings.HasPrefix(what, "absent: ") {
			t.Errorf("%s: %s", name, what)
		}
	}
}

// hard are tricks that are to fail whatever rights a container has in a user namespace: they are about the machine.
var hard = []string{
	"adjtimex", "clock_adjtime", "iopl", "ioperm", "init_module", "finit_module", "delete_module", "swapon", "swapoff", "acct", "open_by_handle_at", "perf_event_open",
	"cgroup release agent", "cgroup directory", "chroot", "setns by pidfd", "ptrace", "read its memory", "take its file", "signal",
	"signal by pidfd", "signal a session", "descriptors", "secret", "working directory",
	"disk", "memory device", "ports device", "kernel log device", "fuse device", "kvm device", "loop control device", "btrfs device", "tun device",
	"open /proc/sysrq-trigger", "open /proc/kmsg", "open /proc/irq",
	"write /proc/sys/kernel/core_pattern", "write /proc/sys/kernel/modprobe", "write /proc/sys/kernel/panic", "write /proc/sys/vm/overcommit_memory",
	"write /proc/sys/fs/file-max", "write /proc/sys/fs/suid_dumpable", "write /sys/kernel/uevent_helper",
	"write /sys/kernel/mm/transparent_hugepage/enabled", "abstract socket", "monitor's socket",
}

// TestEscape tries all tricks in each kind of container, and outside, where they work.
func TestEscape(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := newStore(t)
	w.image(t, s)
	s.ok(t, "run", "-d", "--name", "web", "--network", "none", "tricks", "sleep", "1000")
	t.Cleanup(func() { s.run(t, "rm", "-f", "web") })
	w.facts = append(w.facts, fmt.Sprintf("ESCAPE_MONITOR=%s/containers/%s/socket", s.root, s.ok(t, "container", "inspect", "-f", "{{.Id}}", "web")))
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if now, err := os.Hostname(); err != nil || now != host {
			t.Errorf("the machine's name was %s and is %s, %v", host, now, err)
		}
	})
	run := func(flags ...string) []string {
		return slices.Concat([]string{"run", "--rm", "--network", "none", "-v", "vol:/vol", "-v", w.dir + "/bind:/bind"}, w.env(flags...), []string{"tricks", "/escape", "try"})
	}
	os.Mkdir(w.dir+"/bind", 0o777)
	for name, args := range map[string][]string{
		"root": run(), "user": run("-u", "1000:1000"), "by a copy": run("--init"), "with limits": run("--memory", "100m", "--pids-limit", "200"),
		"user namespace": run("--userns", "auto"), "private network": run("--network", "private"), "no new privileges": run("--security-opt", "no-new-privileges"),
		"exec":           slices.Concat([]string{"exec"}, w.env("web", "/escape", "try")),
		"exec as a user": slices.Concat([]string{"exec", "-u", "1000"}, w.env("web", "/escape", "try")),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			noneThrough(t, s.ok(t, args...))
		})
	}
	t.Run("all rights in a user namespace", func(t *testing.T) {
		t.Parallel()
		noneThrough(t, s.ok(t, run("--userns", "auto", "--cap-add", "ALL", "--security-opt", "seccomp=unconfined", "--security-opt", "systempaths=unconfined")...), hard...)
	})
	t.Run("a user namespace of its own", func(t *testing.T) { // CVE-2022-0492
		t.Parallel()
		free := run("--security-opt", "seccomp=unconfined")
		args := append(free[:len(free)-2:len(free)-2], "/escape", "nest", "/escape", "try")
		out := s.ok(t, append(args, hard...)...)
		if got := outcomes(t, s.ok(t, append(args, "mount tmpfs")...))["mount tmpfs"]; !strings.HasPrefix(got, "through: ") {
			t.Errorf("it is none: %s", got)
		}
		noneThrough(t, out, hard...)
	})
	t.Run("build", func(t *testing.T) {
		t.Parallel()
		s.build(t, "tried", writeFiles(t, map[string]string{"Dockerfile": "FROM tricks\n" + dockerEnv(w.facts) + "RUN /escape try >/outcomes\n"}))
		noneThrough(t, s.ok(t, "run", "--rm", "--network", "none", "tried", "cat", "/outcomes"))
	})
	t.Run("health check", func(t *testing.T) {
		t.Parallel()
		s.ok(t, slices.Concat([]string{"run", "-d", "--name", "checked", "--network", "none", "--health-interval", "1s", "--health-timeout", "5m",
			"--health-cmd", "/escape try >/trying && mv /trying /tried"}, w.env("tricks", "sleep", "1000"))...)
		t.Cleanup(func() { s.run(t, "rm", "-f", "checked") })
		until(t, "the check", func() bool { return s.run(t, "exec", "checked", "test", "-e", "/tried").code == 0 })
		noneThrough(t, s.ok(t, "exec", "checked", "cat", "/tried"))
	})
	t.Run("outside", func(t *testing.T) {
		t.Parallel()
		w.controls(t)
	})
}

func dockerEnv(facts []string) string {
	var b strings.Builder
	for _, f := range facts {
		name, value, _ := strings.Cut(f, "=")
		fmt.Fprintf(&b, "ENV %s=%q\n", name, value)
	}
	return b.String()
}

// controls shows that the tricks work where nothing keeps them from it, but those that are about something that this
// machine has not.
func (w *world) controls(t *testing.T) {
	apart := map[string][]string{
		"descriptors":      {w.program, "leak", "/"},
		"signal a session": {"unshare", "--pid", "--fork"},
		"setns of init":    {"unshare", "--pid", "--fork", "--mount-proc"}, // elsewhere it may be out of bounds for root, too
	}
	found := outcomes(t, w.outside(t, []string{"unshare", "--mount"}, "try"))
	for name, what := range found {
		if _, ok := apart[name]; ok {
			continue
		}
		switch {
		case strings.HasPrefix(what, "absent: "), what == "refused: an empty directory":
			t.Logf("%s is not on this machine: %s", name, what)
		case !strings.HasPrefix(what, "through: "):
			t.Errorf("%s would not be seen to work: %s", name, what)
		}
	}
	for name, wrap := range apart {
		if got := outcomes(t, w.outside(t, wrap, "try", name)); !strings.HasPrefix(got[name], "through: ") {
			t.Errorf("%s would not be seen to work: %s", name, got[name])
		}
	}
	// A root changed by chroot(2) alone, and a directory outside of it that was left open, are ways out.
	root := t.TempDir()
	tool(t, "cp", w.program, root+"/escape")
	os.Mkdir(root+"/tmp", 0o777)
	for wrap, name := range map[string]string{"jail": "chroot", "leakjail": "working directory"} {
		cmd := exec.Command(w.program, wrap, root, "/escape", "one", name)
		cmd.Env = append(w.facts, "TMPDIR=/tmp")
		if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), ": through: ") {
			t.Errorf("%s is not a way out of a bare chroot: %v %s", name, err, out)
		}
	}
}

// TestEscapeRootless: the same as ordinary users, whose containers have no rights that they have not themselves.
func TestEscapeRootless(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, u := range ordinaryUsers {
		t.Run(u.name, func(t *testing.T) {
			t.Parallel()
			s, home := newUserStore(t, u.name)
			w.image(t, s)
			tool(t, "setpriv", "--reuid", u.name, "--clear-groups", "mkdir", home+"/bind")
			run := func(flags ...string) []string {
				return slices.Concat([]string{"run", "--rm", "--network", "none", "-v", "vol:/vol", "-v", home + "/bind:/bind"}, w.env(flags...), []string{"tricks", "/escape", "try"})
			}
			noneThrough(t, s.ok(t, run()...))
			noneThrough(t, s.ok(t, run("--privileged")...), hard...)
			s.ok(t, "run", "-d", "--name", "web", "--network", "none", "tricks", "sleep", "1000")
			t.Cleanup(func() { s.run(t, "rm", "-f", "web") })
			noneThrough(t, s.ok(t, slices.Concat([]string{"exec"}, w.env("web", "/escape", "try"))...))
		})
	}
}

// TestEscapeWritable opens every file of /proc and /sys for writing that is not the process's own.
func TestEscapeWritable(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := newStore(t)
	w.image(t, s)
	writable := func(flags ...string) string {
		return s.ok(t, slices.Concat([]string{"run", "--rm", "--network", "none"}, flags, []string{"tricks", "/escape", "writable", "/proc", "/sys"})...)
	}
	for _, flags := range [][]string{{}, {"--init"}, {"--memory", "100m"}, {"--userns", "auto"}, {"-u", "1000"}} {
		for name := range strings.SplitSeq(writable(flags...), "\n") {
			if !slices.Contains(harmless, name) {
				t.Errorf("%v: %s can be opened for writing", flags, name)
			}
		}
	}
	if out := writable("--security-opt", "systempaths=unconfined"); !strings.Contains(out, "/proc/sys/kernel/core_pattern\n") {
		t.Errorf("it would not be seen:\n%s", out)
	}
	if out := writable("--privileged"); !strings.Contains(out, "\n/sys/kernel/") {
		t.Errorf("it would not be seen of /sys:\n%s", out)
	}
}

// harmless are what tells a process of the machine's load when it asks to be told.
var harmless = []string{"", "/proc/pressure/cpu", "/proc/pressure/io", "/proc/pressure/memory"}

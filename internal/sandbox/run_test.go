package sandbox

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"nacre/internal/rootfs"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

func TestStdin(t *testing.T) {
	file := filepath.Join(t.TempDir(), "in")
	if err := os.WriteFile(file, []byte("a file\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	pr, pw, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer pr.Close()
	pw.WriteString("a pipe\n")
	pw.Close()
	dir, err := os.Open("/")
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	for _, c := range []struct {
		name string
		in   io.Reader
		want string
	}{
		{"none", nil, ""},
		{"empty", strings.NewReader(""), ""},
		{"reader", strings.NewReader("a reader\n"), "a reader\n"},
		{"file", f, "a file\n"},
		{"pipe", pr, "a pipe\n"},
		// A directory would be a way out of the root.
		{"directory", dir, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := start(t, func(cfg *Config) { cfg.Stdin = c.in }, "sh", "-c", "cat; cd /proc/self/fd/0 2>/dev/null && pwd; true")
			if got := r.ok(t); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

// A reader that never ends does not keep a process that has.
func TestStdinIsNotWaitedFor(t *testing.T) {
	pr, pw := io.Pipe()
	defer pw.Close()
	done := make(chan result, 1)
	go func() { done <- start(t, func(c *Config) { c.Stdin = pr }, "true") }()
	select {
	case r := <-done:
		r.ok(t)
	case <-time.After(20 * time.Second):
		t.Fatal("still waiting for standard input")
	}
}

func TestStdinIsStreamed(t *testing.T) {
	pr, pw := io.Pipe()
	lines := make(chan string)
	go func() {
		start(t, func(c *Config) {
			c.Stdin = pr
			c.Stdout = writerFunc(func(p []byte) (int, error) { lines <- string(p); return len(p), nil })
		}, "cat")
		close(lines)
	}()
	for i := range 3 {
		want := fmt.Sprintf("line %d\n", i)
		pw.Write([]byte(want))
		if got := <-lines; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	pw.Close()
	if got, more := <-lines; more {
		t.Errorf("more output: %q", got)
	}
}

func TestOutput(t *testing.T) {
	r := start(t, nil, "sh", "-c", "echo out; echo err >&2")
	if r.ok(t); r.out != "out\n" || r.errs != "err\n" {
		t.Errorf("out %q, err %q", r.out, r.errs)
	}
	var both bytes.Buffer
	start(t, func(c *Config) { c.Stdout, c.Stderr = &both, &both }, "sh", "-c", "for i in 1 2 3; do echo o$i; echo e$i >&2; done").ok(t)
	if both.String() != "o1\ne1\no2\ne2\no3\ne3\n" {
		t.Errorf("order of one writer: %q", both.String())
	}
	start(t, func(c *Config) { c.Stdout, c.Stderr = nil, nil }, "sh", "-c", "echo x; echo y >&2").ok(t)
	pr, pw, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer pr.Close()
	start(t, func(c *Config) { c.Stdout = pw }, "echo", "through a pipe of ours").ok(t)
	pw.Close()
	if data, _ := io.ReadAll(pr); string(data) != "through a pipe of ours\n" {
		t.Errorf("pipe: %q", data)
	}
	// Another user opens its output by name, as images that log to /dev/stdout do.
	user := startWith(t, SpecOptions{Args: []string{"sh", "-c", "echo named > /dev/stdout; echo errors > /dev/stderr"}, User: specs.User{UID: 1000, GID: 1000}}, nil)
	if user.ok(t); user.out != "named\n" || user.errs != "errors\n" {
		t.Errorf("by name: %q %q", user.out, user.errs)
	}
}

func TestMuchOutput(t *testing.T) {
	var n int64
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	start(t, func(c *Config) {
		c.Stdout = writerFunc(func(p []byte) (int, error) { n += int64(len(p)); return len(p), nil })
	}, "dd", "if=/dev/zero", "bs=64k", "count=1600").ok(t)
	runtime.ReadMemStats(&after)
	if n != 1600*64<<10 {
		t.Errorf("%d bytes", n)
	}
	if took := after.TotalAlloc - before.TotalAlloc; took > 8<<20 {
		t.Errorf("%d bytes of memory for it", took)
	}
}

func TestFailingWriter(t *testing.T) {
	full := errors.New("disk full")
	r := start(t, func(c *Config) {
		c.Stdout = writerFunc(func([]byte) (int, error) { return 0, full })
	}, "sh", "-c", "while echo y; do :; done; exit 7")
	if !errors.Is(r.err, full) {
		t.Errorf("status %+v, error %v", r.Status, r.err)
	}
}

func TestCancel(t *testing.T) {
	cause := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	c := Config{Spec: DefaultSpec(SpecOptions{Args: []string{"/bin/sh", "-c", "sleep 100 & sleep 100 & echo up; sleep 100"}, Env: []string{"PATH=/bin"}}), Root: newRoot(t)}
	c.Stdout = writerFunc(func(p []byte) (int, error) { cancel(cause); return len(p), nil })
	begin := time.Now()
	status, err := Run(ctx, c)
	if !errors.Is(err, cause) || status.Signal != syscall.SIGKILL || status.Code != 137 {
		t.Errorf("status %+v, error %v", status, err)
	}
	if took := time.Since(begin); took > 10*time.Second {
		t.Errorf("took %s", took)
	}
	if _, err := Run(ctx, c); !errors.Is(err, cause) {
		t.Errorf("with a context that has ended: %v", err)
	}
}

func TestSignals(t *testing.T) {
	signals := make(chan os.Signal, 1)
	r := start(t, func(c *Config) {
		c.Signals = signals
		c.Stdout = writerFunc(func(p []byte) (int, error) {
			if string(p) == "ready\n" {
				signals <- syscall.SIGTERM
			}
			return len(p), nil
		})
	}, "sh", "-c", "trap 'exit 42' TERM; echo ready; while :; do sleep 0.01; done")
	if r.Code != 42 || r.err != nil {
		t.Errorf("status %+v, error %v", r.Status, r.err)
	}
	killed := start(t, func(c *Config) {
		c.Signals = signals
		c.Stdout = writerFunc(func(p []byte) (int, error) { signals <- syscall.SIGKILL; return len(p), nil })
	}, "sh", "-c", "echo ready; sleep 100")
	if killed.Code != 137 || killed.Signal != syscall.SIGKILL || killed.err != nil {
		t.Errorf("status %+v, error %v", killed.Status, killed.err)
	}
}

// What the process leaves running ends with it, and its output is complete.
func TestBackgroundProcesses(t *testing.T) {
	begin := time.Now()
	r := start(t, nil, "sh", "-c", "sleep 98765 & (sleep 98765 >/dev/null 2>&1 &) ; echo done")
	if out := r.ok(t); out != "done\n" {
		t.Errorf("%q", out)
	}
	if took := time.Since(begin); took > 10*time.Second {
		t.Errorf("took %s", took)
	}
	if left := processes(t, "98765"); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// processes are those whose command line has a word.
func processes(t *testing.T, word string) (found []string) {
	t.Helper()
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range dirs {
		data, err := os.ReadFile(d + "/cmdline")
		if err == nil && slices.Contains(strings.Split(string(data), "\x00"), word) {
			found = append(found, d+" "+strings.ReplaceAll(string(data), "\x00", " "))
		}
	}
	return found
}

func TestManyAtOnce(t *testing.T) {
	const n = 200
	slots := make(chan struct{}, n)
	var wg sync.WaitGroup
	for i := range n {
		root := newRoot(t)
		wg.Go(func() {
			slots <- struct{}{}
			var out bytes.Buffer
			status, err := Run(t.Context(), Config{
				Spec: DefaultSpec(SpecOptions{Args: []string{"sh", "-c", fmt.Sprintf("echo %d; exit %d", i, i%100)}, Env: []string{"PATH=/bin"}}), Root: root, Stdout: &out,
			})
			if err != nil || status.Code != i%100 || out.String() != fmt.Sprintln(i) {
				t.Errorf("%d: %+v %v %q", i, status, err, out.String())
			}
		})
	}
	wg.Wait()
	checkChildren(t)
}

// checkChildren fails where zombies are left.
func checkChildren(t *testing.T) {
	t.Helper()
	lists, err := filepath.Glob("/proc/self/task/*/children")
	if err != nil || len(lists) == 0 {
		t.Fatal(lists, err)
	}
	var out []byte
	for _, list := range lists {
		children, _ := os.ReadFile(list) // the thread may have ended
		out = append(out, children...)
	}
	for _, pid := range strings.Fields(string(out)) {
		stat, err := os.ReadFile("/proc/" + pid + "/stat")
		if err == nil && strings.Contains(string(stat), ") Z ") {
			t.Errorf("zombie: %s", stat)
		}
	}
}

func TestDescriptorsAreClosed(t *testing.T) {
	start(t, nil, "true").ok(t)
	start(t, nil, "/proc/self/exe") // by a copy
	count := func() int {
		runtime.GC()
		entries, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(entries)
	}
	before := count()
	for range 10 {
		start(t, func(c *Config) { c.Stdin = strings.NewReader("x") }, "cat").ok(t)
		start(t, nil, "nothere")
		start(t, nil, "/proc/self/exe")
		start(t, func(c *Config) { c.Spec.Process.Terminal = true }, "true").ok(t)
		for _, change := range []func(*Config){
			func(c *Config) { c.Spec.Process.Cwd = "/bin/busybox" },
			func(c *Config) { c.Spec.Linux.Sysctl = map[string]string{"net.nothing": "1"} },
			func(c *Config) { c.Root = rootfs.Mount{Lower: []rootfs.Lower{{Dir: "/no/such/dir"}}} },
			func(c *Config) { c.Spec.Mounts = append(c.Spec.Mounts, specs.Mount{Destination: "/x", Type: "nofs"}) },
			func(c *Config) { c.Spec.Mounts[0].Options = []string{"nonsense"} },
			func(c *Config) {
				c.Spec.Mounts = append([]specs.Mount{{Destination: "/x", Type: "bind", Source: "/no/such"}}, c.Spec.Mounts...)
			},
		} {
			if r := start(t, change, "true"); r.err == nil {
				t.Error("it ran")
			}
		}
	}
	if after := count(); after > before+2 {
		t.Errorf("%d descriptors before, %d after", before, after)
	}
}

// victim runs a process and waits to be killed.
func victim(args []string) int {
	root, limit, probe := args[0], args[1], args[2:]
	o := SpecOptions{Args: probe, Env: []string{"PATH=/bin"}}
	c := Config{Spec: DefaultSpec(o), Stdout: os.Stdout, Stderr: os.Stderr}
	if limit == "limits" {
		c.Spec.Linux.Resources = limited(64<<20, 50)
	}
	if limit == "hooks" {
		c.Spec.Hooks = &specs.Hooks{CreateContainer: []specs.Hook{{Path: "/bin/true"}}}
	}
	c.Root.Lower = append(c.Root.Lower, lower{Dir: filepath.Join(root, "lower")})
	c.Root.Upper, c.Root.Work = filepath.Join(root, "upper"), filepath.Join(root, "work")
	_, err := Run(context.Background(), c)
	fmt.Println("ended:", err)
	return 1
}

func limited(memory, pids int64) *specs.LinuxResources {
	return &specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: &memory, Swap: &memory}, Pids: &specs.LinuxPids{Limit: &pids}}
}

// Whoever kills us with a signal that cannot be caught leaves no process, no cgroup and no bundle of hooks behind.
func TestKilled(t *testing.T) {
	for _, c := range []struct {
		name, limits string
		args         []string
	}{
		{"plain", "none", []string{"sh", "-c", "sleep 45678 & echo ready; sleep 45678"}},
		{"other user", "none", []string{"/probe", "forget-parent", "45678"}},
		{"with hooks", "hooks", []string{"sh", "-c", "echo ready; sleep 45678"}},
		{"with cgroups", "limits", []string{"sh", "-c", "sleep 45678 & echo ready; sleep 45678"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.Symlink(lowerDir, filepath.Join(dir, "lower")); err != nil {
				t.Fatal(err)
			}
			for _, d := range []string{"upper", "work"} {
				if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
					t.Fatal(err)
				}
			}
			cmd := exec.Cmd{Path: "/proc/self/exe", Args: append([]string{"victim", dir, c.limits}, c.args...)}
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			buf := make([]byte, 100)
			if n, _ := out.Read(buf); string(buf[:n]) != "ready\n" {
				t.Fatalf("%q", buf[:n])
			}
			time.Sleep(3 * guardDelay)
			if len(processes(t, "45678")) == 0 {
				t.Fatal("it does not run")
			}
			pattern := fmt.Sprintf("/sys/fs/cgroup/*/nacre-%d-*", cmd.Process.Pid)
			deeper := strings.Replace(pattern, "/nacre-", "/*/*/nacre-", 1)
			groups := func() (all []string) {
				for _, p := range []string{pattern, deeper, bundles(cmd.Process.Pid)} {
					found, _ := filepath.Glob(p)
					all = append(all, found...)
				}
				return all
			}
			if c.limits != "none" && len(groups()) == 0 {
				t.Fatal("no cgroups, or no bundle of hooks")
			}
			cmd.Process.Kill()
			cmd.Wait()
			for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
				left := append(processes(t, "45678"), groups()...)
				if len(left) == 0 {
					break
				}
				if time.Now().After(deadline) {
					t.Fatalf("left: %v", left)
				}
			}
		})
	}
}

func TestLimits(t *testing.T) {
	r := start(t, func(c *Config) { c.Spec.Linux.Resources = limited(32<<20, 20) }, "/probe", "forks")
	if len(r.Warnings) > 0 {
		t.Fatalf("warnings: %q: the machine of these tests has cgroups", r.Warnings)
	}
	if !strings.Contains(r.out, "EAGAIN") {
		t.Errorf("status %+v\n%s", r.Status, r.out)
	}
	// In a container of its own: what was forked above would count against its threads.
	r = start(t, func(c *Config) { c.Spec.Linux.Resources = limited(32<<20, 20) }, "sh", "-c", "/probe eat; echo $?")
	if !strings.HasSuffix(r.out, "137\n") || !r.OOMKilled {
		t.Errorf("status %+v\n%s", r.Status, r.out)
	}
	quota, shares := int64(20_000), uint64(512)
	cpu := start(t, func(c *Config) {
		c.Spec.Linux.Resources = &specs.LinuxResources{CPU: &specs.LinuxCPU{Quota: &quota, Shares: &shares, Cpus: "0"}}
	}, "sh", "-c", "grep Cpus_allowed_list /proc/self/status; cat /sys/fs/cgroup/cpu/cpu.cfs_quota_us /sys/fs/cgroup/cpu.max 2>/dev/null; cat /proc/self/cgroup")
	if out := cpu.ok(t); !strings.Contains(out, "Cpus_allowed_list:\t0\n") || !strings.Contains(out, "20000") {
		t.Errorf("%s %q", out, cpu.Warnings)
	}
	if strings.Contains(cpu.out, "nacre-") {
		t.Errorf("the cgroup namespace does not begin at its own cgroup:\n%s", cpu.out)
	}
	bad := int64(-7)
	warned := start(t, func(c *Config) {
		c.Spec.Linux.Resources = &specs.LinuxResources{CPU: &specs.LinuxCPU{Quota: &bad, Cpus: "9999"}}
	}, "true")
	if warned.err != nil || len(warned.Warnings) == 0 || !strings.Contains(warned.Warnings[0], "limit is not applied") {
		t.Errorf("warnings %q, error %v", warned.Warnings, warned.err)
	}
	for _, p := range []string{"/sys/fs/cgroup/*/nacre-%d-*", "/sys/fs/cgroup/*/*/*/nacre-%d-*"} {
		if left, _ := filepath.Glob(fmt.Sprintf(p, os.Getpid())); len(left) > 0 {
			t.Errorf("left: %v", left)
		}
	}
}

func TestTerminal(t *testing.T) {
	var out bytes.Buffer
	c := Config{
		Spec: DefaultSpec(SpecOptions{Args: []string{"sh", "-c", "tty; stty size; test -c /dev/console && echo console; read line; echo got $line; echo err >&2; exit 5"}, Env: []string{"PATH=/bin"}, Terminal: true, User: specs.User{UID: 1000, GID: 1000}}),
		Root: newRoot(t), Stdout: &out, Stdin: strings.NewReader("typed\n"),
	}
	c.Spec.Process.ConsoleSize = &specs.Box{Width: 100, Height: 40}
	status, err := Run(t.Context(), c)
	// What is typed is echoed, and lines end as on a terminal.
	want := []string{"/dev/pts/0", "40 100", "console", "got typed", "err"}
	lines := strings.Split(strings.TrimSuffix(out.String(), "\r\n"), "\r\n")
	echo := slices.Index(lines, "typed")
	if err != nil || status.Code != 5 || echo < 0 || !slices.Equal(slices.Delete(slices.Clone(lines), echo, echo+1), want) {
		t.Errorf("status %+v, error %v, output %q", status, err, out.String())
	}
}

func TestTerminalEnds(t *testing.T) {
	r := startWith(t, SpecOptions{Args: []string{"cat"}, Terminal: true}, func(c *Config) { c.Stdin = strings.NewReader("x\n") })
	// Once echoed, once from cat, which ends by what stands for the end of input.
	if out := r.ok(t); strings.Count(out, "x\r\n") != 2 {
		t.Errorf("%q", out)
	}
}

func TestTerminalResize(t *testing.T) {
	sizes := make(chan Size, 1)
	var out strings.Builder
	r := startWith(t, SpecOptions{Args: []string{"sh", "-c", "trap 'stty size; exit 0' WINCH; echo ready; while :; do sleep 0.01; done"}, Terminal: true}, func(c *Config) {
		c.Resize = sizes
		c.Stdout = writerFunc(func(p []byte) (int, error) {
			out.Write(p)
			if strings.Contains(string(p), "ready") {
				sizes <- Size{Width: 77, Height: 33}
			}
			return len(p), nil
		})
	})
	if r.ok(t); !strings.Contains(out.String(), "33 77") {
		t.Errorf("%q", out.String())
	}
}

// A terminal is the process's controlling one: what is typed there signals it.
func TestTerminalInterrupt(t *testing.T) {
	pr, pw := io.Pipe()
	defer pw.Close()
	r := startWith(t, SpecOptions{Args: []string{"sh", "-c", "trap 'exit 9' INT; echo ready; while :; do sleep 0.01; done"}, Terminal: true}, func(c *Config) {
		c.Stdin = pr
		c.Stdout = writerFunc(func(p []byte) (int, error) {
			if strings.Contains(string(p), "ready") {
				go pw.Write([]byte{3})
			}
			return len(p), nil
		})
	})
	if r.Code != 9 || r.err != nil {
		t.Errorf("status %+v, error %v", r.Status, r.err)
	}
}

func TestWarm(t *testing.T) {
	defer func(before bool) { onlyCopies = before }(onlyCopies)
	onlyCopies = true
	spec := DefaultSpec(SpecOptions{Args: []string{"/bin/true"}})
	spare := func() *launched {
		Warm(spec)
		Warm(spec) // there is one already
		spares.Lock()
		sp := spares.waiting[cloneFlags(spec)]
		spares.Unlock()
		<-sp.ready
		if sp.err != nil {
			t.Fatal(sp.err)
		}
		return sp.launched
	}
	l := spare()
	r := start(t, nil, "sh", "-c", "cat /proc/self/status; exit 4")
	compare(t, fields(r.out), map[string]string{"PPid": "1", "CapEff": dockerCaps, "Seccomp": "2"})
	select {
	case <-l.done:
	default:
		t.Error("the spare was not used")
	}
	if r.Code != 4 || r.err != nil {
		t.Errorf("%+v, %v", r.Status, r.err)
	}
	l = spare() // in other namespaces
	startWith(t, SpecOptions{Args: []string{"true"}, HostNetwork: true}, nil).ok(t)
	l.process.Kill()
	<-l.done
	start(t, nil, "true").ok(t)
	l = spare()
	Cool()
	select {
	case <-l.done:
	default:
		t.Error("a spare was left")
	}
}

// BenchmarkTrue is a whole Run of busybox's true with all defaults, in a new root each
// time. The fastest and the median say more than the mean on a machine that does
// other things, too.
func BenchmarkTrue(b *testing.B) {
	for _, warm := range []bool{false, true} {
		b.Run(map[bool]string{false: "cold", true: "warm"}[warm], func(b *testing.B) {
			var times []time.Duration
			for b.Loop() {
				b.StopTimer()
				root := newRoot(b)
				spec := DefaultSpec(SpecOptions{Args: []string{"/bin/true"}, Env: []string{"PATH=/bin"}})
				if warm {
					Warm(spec)
					time.Sleep(5 * time.Millisecond)
				}
				b.StartTimer()
				start := time.Now()
				status, err := Run(b.Context(), Config{Root: root, Spec: spec})
				if err != nil || status.Code != 0 {
					b.Fatal(status, err)
				}
				times = append(times, time.Since(start))
			}
			slices.Sort(times)
			b.ReportMetric(float64(times[0].Microseconds()), "min-µs")
			b.ReportMetric(float64(times[len(times)/2].Microseconds()), "median-µs")
		})
	}
}

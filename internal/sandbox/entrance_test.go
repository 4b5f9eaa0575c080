package sandbox

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// mapped gives a sandbox a user namespace.
func mapped(c *Config) {
	c.Spec.Linux.Namespaces = append(c.Spec.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace})
	ids := []specs.LinuxIDMapping{{ContainerID: 0, HostID: 500000, Size: 65536}}
	c.Spec.Linux.UIDMappings, c.Spec.Linux.GIDMappings = ids, ids
}

// bothWays calls f for a sandbox of each kind, with what executes in there first by an entrance and then by a copy.
func bothWays(t *testing.T, f func(t *testing.T, do func(change func(*ExecConfig), args ...string) [2]result)) {
	if onlyCopies || !haveCalls {
		return // it was, or will be, done
	}
	defer func() { onlyCopies = false }()
	for name, change := range map[string]func(*Config){"root": nil, "user namespace": mapped} {
		t.Run(name, func(t *testing.T) {
			running(t, change, func(spec *specs.Spec, s Started) {
				f(t, func(change func(*ExecConfig), args ...string) (r [2]result) {
					for i := range r {
						onlyCopies = i == 1
						r[i] = execute(t, spec, s, change, args...)
					}
					onlyCopies = false
					return r
				})
			})
		})
	}
}

// TestExecErrors has both ways say the same of what cannot be executed.
func TestExecErrors(t *testing.T) {
	cwd := func(dir string) func(*ExecConfig) { return func(c *ExecConfig) { c.Process.Cwd = dir } }
	env := func(list ...string) func(*ExecConfig) { return func(c *ExecConfig) { c.Process.Env = list } }
	user := func(c *ExecConfig) { c.Process.User = specs.User{UID: 33, GID: 33} }
	bothWays(t, func(t *testing.T, do func(func(*ExecConfig), ...string) [2]result) {
		if r := do(nil, "sh", "-c", "mkdir -p /tmp/dirs/sh /tmp/shut /tmp/bad /tmp/deny; chmod 700 /tmp/shut; echo '#!/no/such' >/tmp/bad/sh; cp /tmp/bad/sh /tmp/deny/sh; chmod 755 /tmp/bad/sh; chmod 644 /tmp/deny/sh; ln -s loop /tmp/loop"); r[0].err != nil {
			t.Error(r[0].err)
		}
		for name, c := range map[string]struct {
			change func(*ExecConfig)
			args   []string
			code   int
			text   string
		}{
			"absent":              {nil, []string{"nothere"}, 127, "not found in $PATH"},
			"absent path":         {nil, []string{"/bin/nothere"}, 127, "no such file"},
			"through a file":      {nil, []string{"/bin/true/x"}, 127, "not a directory"},
			"no interpreter":      {nil, []string{"badscript"}, 127, "its interpreter"},
			"not executable":      {nil, []string{"/noexec/file"}, 126, "permission denied"},
			"directory":           {nil, []string{"/bin"}, 126, "is a directory"},
			"not a program":       {nil, []string{"junk"}, 126, "exec format error"},
			"links":               {nil, []string{"/tmp/loop"}, 126, "too many levels"},
			"no path":             {env("PATH="), []string{"true"}, 127, "not found"},
			"denied in path":      {env("PATH=/no:/tmp/deny"), []string{"sh"}, 126, "permission denied"},
			"directory in path":   {env("PATH=/tmp/dirs:/tmp/dirs"), []string{"sh"}, 127, "not found"},
			"script before":       {env("PATH=/tmp/bad:/bin"), []string{"sh"}, 127, "its interpreter"},
			"denied then found":   {env("PATH=/tmp/dirs:/tmp/deny:/bin"), []string{"sh", "-c", "exit 4"}, 4, ""},
			"others'":             {func(c *ExecConfig) { user(c); c.Process.Env = []string{"PATH=/tmp/shut:/bin"} }, []string{"sh", "-c", "exit 5"}, 5, ""},
			"too long":            {nil, []string{"echo", strings.Repeat("x", 1<<18)}, 126, "argument list too long"},
			"folder absent":       {cwd("/nothere"), []string{"true"}, 127, "enter working directory /nothere: no such file"},
			"folder a file":       {cwd("/bin/busybox"), []string{"true"}, 126, "not a directory"},
			"folder below a file": {cwd("/bin/busybox/x"), []string{"true"}, 126, "not a directory"},
			"folder a loop":       {cwd("/tmp/loop"), []string{"true"}, 126, "too many levels"},
			"folder of /proc":     {cwd("/proc/self/cwd"), []string{"true"}, 126, "too many levels"},
			"folder above":        {cwd("/../../tmp"), []string{"sh", "-c", "[ $(pwd) = /tmp ]"}, 0, ""},
			"relative":            {cwd("/bin"), []string{"./sh", "-c", "exit 6"}, 6, ""},
			"limit": {func(c *ExecConfig) {
				c.Process.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Hard: 1 << 40, Soft: 1 << 40}}
			}, []string{"true"}, 125, "set resource limit NOFILE"},
			"terminal": {func(c *ExecConfig) { c.Process.Terminal = true }, []string{"nothere"}, 127, "not found"},
			"signal":   {nil, []string{"sh", "-c", "kill -9 $$"}, 137, ""},
			"user":     {func(c *ExecConfig) { c.Process.User.UID = 1 << 30 }, []string{"id", "-u"}, 0, ""},
		} {
			r := do(c.change, c.args...)
			for i, way := range []string{"entrance", "copy"} {
				code := r[i].Code
				if start, ok := errors.AsType[*StartError](r[i].err); ok {
					code = start.Code
				}
				if name == "user" && t.Name() == "TestExecErrors/user_namespace" { // which lacks it
					c.code, c.text = 125, "become user: set uid"
				}
				if code != c.code || (c.text != "") != (r[i].err != nil) || c.text != "" && !strings.Contains(r[i].err.Error(), c.text) {
					t.Errorf("%s, %s: code %d, %v; want %d, %q\n%s", name, way, code, r[i].err, c.code, c.text, r[i].errs)
				}
			}
			if fmt.Sprint(r[0].err, r[0].Code) != fmt.Sprint(r[1].err, r[1].Code) {
				t.Errorf("%s: %v, %+v by an entrance; %v, %+v by a copy", name, r[0].err, r[0], r[1].err, r[1])
			}
		}
	})
}

// TestExecSame has both ways start the same process.
func TestExecSame(t *testing.T) {
	net := []string{"CAP_NET_BIND_SERVICE"}
	umask := uint32(0o27)
	show := []string{"sh", "-c", `grep -e Uid -e Gid -e Groups -e Umask -e ^Sig[BIC] -e ^Cap -e NoNew -e Seccomp -e Threads /proc/self/status; cat /proc/self/limits
		for n in 0 1 2 3 4 5 6 7; do readlink /proc/self/fd/$n | sed 's/[0-9]*]$//'; done; cut -d ' ' -f 5-8,19,38 /proc/self/stat | tr ' ' '\n' | sed 's/^[0-9][0-9]*$/N/'
		stat -Lc '%u %g %a' /proc/self/fd/1; env; pwd; head -c 5 /proc/self/cmdline; echo; cat /proc/self/cgroup; stty size 2>/dev/null`}
	bothWays(t, func(t *testing.T, do func(func(*ExecConfig), ...string) [2]result) {
		for name, change := range map[string]func(*ExecConfig){
			"default": nil,
			"terminal": func(c *ExecConfig) {
				c.Process.Terminal, c.Process.ConsoleSize = true, &specs.Box{Width: 33, Height: 44}
			},
			"user": func(c *ExecConfig) {
				c.Process.User = specs.User{UID: 33, GID: 34, AdditionalGids: []uint32{34, 35}, Umask: &umask}
				c.Process.Cwd = "/tmp"
			},
			"user with a terminal": func(c *ExecConfig) { c.Process.User, c.Process.Terminal = specs.User{UID: 33, GID: 34}, true },
			"ambient": func(c *ExecConfig) {
				c.Process.User.UID = 33
				c.Process.Capabilities = &specs.LinuxCapabilities{Bounding: net, Permitted: net, Inheritable: net, Ambient: net}
			},
			"ambient alone":     func(c *ExecConfig) { c.Process.Capabilities = &specs.LinuxCapabilities{Bounding: net, Ambient: net} },
			"nothing":           func(c *ExecConfig) { c.Process.Capabilities = nil },
			"no new privileges": func(c *ExecConfig) { c.Process.NoNewPrivileges = true },
			"no filter":         func(c *ExecConfig) { c.Seccomp = nil },
			"limits": func(c *ExecConfig) {
				c.Process.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Hard: 99, Soft: 88}, {Type: "RLIMIT_CORE", Hard: 0}}
			},
			"input": func(c *ExecConfig) { c.Stdin = strings.NewReader("words") },
		} {
			r := do(change, show...)
			if r[0].err != nil || r[0].out != r[1].out || !strings.Contains(r[0].out, "Seccomp") {
				t.Errorf("%s: %v, by a copy: %v", name, r[0].err, r[1].err)
				one, other := strings.Split(r[0].out, "\n"), strings.Split(r[1].out, "\n")
				for i := range min(len(one), len(other)) {
					if one[i] != other[i] {
						t.Errorf("%q, by a copy %q", one[i], other[i])
					}
				}
			}
		}
	})
}

// TestExecNoCopy has no copy of this program to start, and does without.
func TestExecNoCopy(t *testing.T) {
	if onlyCopies || !haveCalls {
		return
	}
	for name, change := range map[string]func(*Config){"root": nil, "user namespace": mapped} {
		running(t, change, func(spec *specs.Spec, s Started) {
			defer func(f func() (string, error)) { selfExe = f }(selfExe)
			selfExe = func() (string, error) { return "", errors.New("a copy is started") }
			for range 20 {
				if r := execute(t, spec, s, nil, "echo", "here"); r.err != nil || r.out != "here\n" {
					t.Errorf("%s: %+v", name, r)
				}
			}
			onlyCopies = true
			defer func() { onlyCopies = false }()
			if r := execute(t, spec, s, nil, "true"); r.err == nil {
				t.Errorf("%s: it would not be noticed", name)
			}
		})
	}
}

// TestExecNotAdmitted: of a process that cannot be made a member of a cgroup nothing is left.
func TestExecNotAdmitted(t *testing.T) {
	running(t, nil, func(spec *specs.Spec, s Started) {
		gone := s
		gone.Cgroups = []string{t.TempDir() + "/absent"}
		for range 10 {
			r := execute(t, spec, gone, nil, "sleep", "1234567")
			if r.err == nil || !strings.Contains(r.err.Error(), "enter the container: ") {
				t.Errorf("%+v", r)
			}
		}
		if left := processes(t, "1234567"); len(left) > 0 {
			t.Errorf("left: %v", left)
		}
	})
}

// TestProgram executes lists of calls as programs.
func TestProgram(t *testing.T) {
	if !haveCalls {
		return
	}
	l := newProgram(16)
	first := l.next()
	text := "hello\n"
	l.add("write", unix.SYS_WRITE, 1, l.text(text), uintptr(len(text)))
	skip := l.add("", callEqual, l.bytes([]byte{7, 0, 0, 0, 0, 0, 0, 0}), 7, 0)
	l.add("exit", unix.SYS_EXIT_GROUP, 1)
	skip.args[2] = l.next()
	l.add("", callEqual, l.bytes([]byte{8, 0, 0, 0, 0, 0, 0, 0}), 7, first) // is not taken
	again := l.add("close", unix.SYS_CLOSE, 1000)
	again.pass = uintptr(unix.EBADF)
	failing := l.add("open", unix.SYS_OPENAT, atCwd, l.text("/no/such"), 0, 0)
	l.add("exit", unix.SYS_EXIT_GROUP, 2)
	ended := l.next()
	l.add("tell", unix.SYS_WRITE, 1, imageData, uintptr(l.size()))
	l.add("exit", unix.SYS_EXIT_GROUP, 3)
	l.finish(first, ended)
	f, err := l.executable()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	name := fmt.Sprint("/proc/self/fd/", f.Fd())
	for _, flags := range []int{os.O_WRONLY, os.O_RDWR, os.O_WRONLY | os.O_TRUNC} {
		if w, err := os.OpenFile(name, flags, 0); err == nil {
			if _, err := w.Write([]byte("x")); !errors.Is(err, fs.ErrPermission) {
				t.Errorf("it can be written to: %v", err)
			}
			w.Close()
		}
	}
	if err := os.Truncate(name, 10); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("it can be truncated: %v", err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	p, err := os.StartProcess(name, []string{"program"}, &os.ProcAttr{Files: []*os.File{nil, w, nil}, Env: []string{}})
	w.Close()
	if err != nil {
		t.Fatal(err)
	}
	r.SetReadDeadline(time.Now().Add(time.Minute))
	out := make([]byte, len(text)+l.size()+1)
	n := 0
	for {
		m, err := r.Read(out[n:])
		if n += m; err != nil {
			break
		}
	}
	state, err := p.Wait()
	if err != nil || state.ExitCode() != 3 || n != len(out)-1 || string(out[:len(text)]) != text {
		t.Fatalf("%v %v: %d bytes, %q", state, err, n, out[:min(n, 20)])
	}
	if i := l.load(out[len(text):n]); i < 0 || &l.list[i] != failing || failing.err() != unix.ENOENT || again.err() != unix.EBADF {
		t.Errorf("it was ended by %d: %v", i, failing.err())
	}
	for _, bad := range []uint64{0, 1, imageData, imageData + imageList + 1, imageData + imageList + 16*uint64(callSize), 1 << 63} {
		data := slices.Clone(out[len(text):n])
		for i := range 8 {
			data[imageEnded+i] = byte(bad >> (8 * i))
		}
		if i := l.load(data); i >= 0 {
			t.Errorf("%#x is call %d", bad, i)
		}
	}
}

// TestExecLeft: the end of a process that was left to others is still there to hear of, though it came at once; and what it was is told to
// who asks.
func TestExecLeft(t *testing.T) {
	running(t, nil, func(spec *specs.Spec, s Started) {
		p := *spec.Process
		p.Args = []string{"sh", "-c", "exit 7"}
		d, err := ExecDetached(t.Context(), ExecConfig{Pid: s.Pid, Process: &p, Seccomp: spec.Linux.Seccomp, Cgroups: s.Cgroups}, Detach{})
		if err != nil {
			t.Error(err)
			return
		}
		for range 2 { // whoever is to be told by the kernel has been, the second time
			if err := unix.Waitid(unix.P_PID, d.Pid, nil, unix.WEXITED|unix.WNOWAIT, nil); err != nil {
				t.Errorf("its end was taken: %v", err)
			}
			time.Sleep(50 * time.Millisecond)
		}
		if code, err := d.Wait(); code != 7 || err != nil {
			t.Errorf("code %d, %v", code, err)
		}
	})
}

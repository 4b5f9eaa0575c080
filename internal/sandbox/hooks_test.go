package sandbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// seen is what a hook finds around itself.
type seen struct {
	State     specs.State
	Root      string // root.path of config.json in the bundle
	InRoot    bool   // it has the files of the root,
	Mounted   bool   // and what is mounted in it
	Mnt, Net  string // namespaces
	Cwd       string
	Args, Env []string
	UID       int
	Status    string // lines of /proc/self/status
	Init      string // what opening the memory of the first process gives
}

// hookMain is a hook, named by its first argument: it writes down what it sees into the directory
// $OUT and links a library in the root, as NVIDIA's hooks do.
func hookMain(args []string) int {
	var s seen
	input, err := io.ReadAll(os.Stdin)
	if err == nil {
		err = json.Unmarshal(input, &s.State)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	s.Args, s.Env, s.UID = os.Args, os.Environ(), os.Getuid()
	s.Cwd, _ = os.Getwd()
	s.Mnt, _ = os.Readlink("/proc/self/ns/mnt")
	s.Net, _ = os.Readlink("/proc/self/ns/net")
	status, _ := os.ReadFile("/proc/self/status")
	for line := range strings.Lines(string(status)) {
		if strings.HasPrefix(line, "CapEff") || strings.HasPrefix(line, "CapBnd") || strings.HasPrefix(line, "Seccomp:") {
			s.Status += line
		}
	}
	if args[0] == hookStartContainer {
		_, err := os.OpenFile("/proc/1/mem", os.O_RDWR, 0)
		s.Init = fmt.Sprint(err)
	}
	if err := s.lookAtRoot(args[0]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	text, _ := json.Marshal(s)
	if err := os.WriteFile(filepath.Join(os.Getenv("OUT"), args[0]), text, 0o666); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// lookAtRoot finds the root by the bundle, where there is one.
func (s *seen) lookAtRoot(kind string) error {
	var config specs.Spec
	data, err := os.ReadFile(filepath.Join(s.State.Bundle, "config.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = json.Unmarshal(data, &config)
	}
	if err != nil {
		return err
	}
	s.Root = config.Root.Path
	_, err = os.Stat(filepath.Join(s.Root, "bin/busybox"))
	s.InRoot = err == nil
	_, err = os.Stat(filepath.Join(s.Root, "proc/uptime"))
	s.Mounted = err == nil
	if !s.InRoot {
		return nil
	}
	return os.Symlink("lib"+kind+".so.1", filepath.Join(s.Root, "tmp/lib"+kind+".so"))
}

// allHooks runs this program as a hook of every kind.
func allHooks(t testing.TB, out string) *specs.Hooks {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	one := func(path, kind string) []specs.Hook {
		return []specs.Hook{{Path: path, Args: []string{"hook", kind, "an argument"}, Env: []string{"OUT=" + out, "A=b"}}}
	}
	h := &specs.Hooks{
		CreateRuntime: one(exe, hookCreateRuntime), CreateContainer: one(exe, hookCreateContainer),
		StartContainer: one("/probe", hookStartContainer), Poststart: one(exe, hookPoststart), Poststop: one(exe, hookPoststop),
	}
	set(h, hookPrestart, one(exe, hookPrestart)...)
	return h
}

func readSeen(t testing.TB, out string) map[string]seen {
	t.Helper()
	all := map[string]seen{}
	for _, kind := range []string{hookPrestart, hookCreateRuntime, hookCreateContainer, hookStartContainer, hookPoststart, hookPoststop} {
		var s seen
		data, err := os.ReadFile(filepath.Join(out, kind))
		if err == nil {
			err = json.Unmarshal(data, &s)
		}
		if err != nil {
			t.Fatal(err)
		}
		all[kind] = s
	}
	return all
}

func bind(dir string) specs.Mount {
	return specs.Mount{Destination: dir, Type: "bind", Source: dir, Options: []string{"bind"}}
}

// bundles matches the bundles that a process has now.
func bundles(pid int) string {
	scratch, _ := scratchDir()
	return filepath.Join(filepath.Dir(scratch), fmt.Sprintf("nacre-%d-*", pid))
}

func noBundles(t testing.TB) {
	t.Helper()
	if left, _ := filepath.Glob(bundles(os.Getpid())); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

func TestHooks(t *testing.T) {
	out := t.TempDir()
	root := newRoot(t)
	program := `grep -E 'CapEff|CapBnd|Seccomp:' /proc/self/status; ls /tmp; pwd; while [ ! -e ` + out + `/poststart ]; do sleep 0.01; done`
	r := startWith(t, SpecOptions{Args: []string{"sh", "-c", program}, Cwd: "/etc"}, func(c *Config) {
		c.Root = root
		c.Spec.Hooks = allHooks(t, out)
		c.Spec.Annotations = map[string]string{"x": strings.Repeat("y", 1<<20)}
		c.Spec.Mounts = append(c.Spec.Mounts, bind(out))
	})
	got := r.ok(t)
	noBundles(t)
	all := readSeen(t, out)
	first := all[hookPrestart]
	mnt, _ := os.Readlink("/proc/self/ns/mnt")
	net, _ := os.Readlink("/proc/self/ns/net")
	if first.State.Pid <= 1 || filepath.Base(first.State.Bundle) != first.State.ID {
		t.Errorf("state %+v", first.State)
	}
	for _, c := range []struct {
		kind    string
		inside  bool // the sandbox's namespaces
		status  specs.ContainerState
		pid     int
		cwd     string
		bundle  bool // it is there,
		root    bool // and its root
		uid     int
		confine bool
	}{
		{kind: hookPrestart, status: "creating", pid: first.State.Pid, cwd: first.State.Bundle, bundle: true, root: true},
		{kind: hookCreateRuntime, status: "creating", pid: first.State.Pid, cwd: first.State.Bundle, bundle: true, root: true},
		{kind: hookCreateContainer, inside: true, status: "creating", pid: 1, cwd: first.State.Bundle + "/root", bundle: true, root: true},
		{kind: hookStartContainer, inside: true, status: "created", pid: 1, cwd: "/etc", confine: true},
		{kind: hookPoststart, status: "running", pid: first.State.Pid, cwd: first.State.Bundle, bundle: true},
		{kind: hookPoststop, status: "stopped", cwd: first.State.Bundle, bundle: true},
	} {
		s := all[c.kind]
		state := specs.State{Version: specs.Version, ID: first.State.ID, Status: c.status, Pid: c.pid, Bundle: first.State.Bundle, Annotations: first.State.Annotations}
		if !reflect.DeepEqual(s.State, state) || len(s.State.Annotations["x"]) != 1<<20 {
			s.State.Annotations, state.Annotations = nil, nil
			t.Errorf("%s: state %+v, want %+v", c.kind, s.State, state)
		}
		if (s.Mnt == mnt) == c.inside || (s.Net == net) == c.inside || c.inside && s.Mnt != all[hookCreateContainer].Mnt {
			t.Errorf("%s: namespaces %s %s; ours are %s %s", c.kind, s.Mnt, s.Net, mnt, net)
		}
		if s.Cwd != c.cwd {
			t.Errorf("%s: directory %s, want %s", c.kind, s.Cwd, c.cwd)
		}
		if (s.Root == first.State.Bundle+"/root") != c.bundle || s.InRoot != c.root || s.Mounted != c.root {
			t.Errorf("%s: root %q, its files %v, its mounts %v", c.kind, s.Root, s.InRoot, s.Mounted)
		}
		if !slices.Equal(s.Args, []string{"hook", c.kind, "an argument"}) || !slices.Equal(s.Env, []string{"OUT=" + out, "A=b"}) {
			t.Errorf("%s: arguments %q, variables %q", c.kind, s.Args, s.Env)
		}
		if s.Status == "" || strings.HasPrefix(got, s.Status) != c.confine {
			t.Errorf("%s has %s; the program %s", c.kind, s.Status, got)
		}
	}
	if init := all[hookStartContainer].Init; !strings.Contains(init, "permission denied") {
		t.Errorf("a hook of the image has the memory of our process: %v", init)
	}
	if !strings.HasSuffix(got, "\nlibcreateContainer.so\nlibcreateRuntime.so\nlibprestart.so\n/etc\n") {
		t.Errorf("the program saw %s", got)
	}
	if target, err := os.Readlink(filepath.Join(root.Upper, "tmp/libcreateContainer.so")); target != "libcreateContainer.so.1" {
		t.Errorf("link in the root: %q, %v", target, err)
	}
}

// sh is a hook that is a script on this machine.
func sh(script string) specs.Hook {
	return specs.Hook{Path: "/bin/sh", Args: []string{"sh", "-c", script}}
}

func TestHooksInOrder(t *testing.T) {
	out := t.TempDir()
	note := func(word string) []specs.Hook {
		return []specs.Hook{sh("echo " + word + "1 >> " + out + "/order"), sh("echo " + word + "2 >> " + out + "/order; echo > " + out + "/" + word)}
	}
	start(t, func(c *Config) {
		c.Spec.Mounts = append(c.Spec.Mounts, bind(out))
		c.Spec.Hooks = &specs.Hooks{Poststop: note("G"), Poststart: note("E"), StartContainer: note("D"), CreateContainer: note("C"), CreateRuntime: note("B")}
		set(c.Spec.Hooks, hookPrestart, note("A")...)
	}, "sh", "-c", "while [ ! -e "+out+"/E ]; do sleep 0.01; done; echo F >> "+out+"/order").ok(t)
	order, _ := os.ReadFile(filepath.Join(out, "order"))
	if got := strings.Join(strings.Fields(string(order)), " "); got != "A1 A2 B1 B2 C1 C2 D1 D2 E1 E2 F G1 G2" {
		t.Errorf("order %q", got)
	}
}

// set makes list the hooks of a kind.
func set(h *specs.Hooks, kind string, list ...specs.Hook) {
	//lint:ignore SA1019 it is deprecated, and not gone
	prestart := &h.Prestart //nolint:staticcheck // the same to another linter
	*map[string]*[]specs.Hook{
		hookPrestart: prestart, hookCreateRuntime: &h.CreateRuntime, hookCreateContainer: &h.CreateContainer,
		hookStartContainer: &h.StartContainer, hookPoststart: &h.Poststart, hookPoststop: &h.Poststop,
	}[kind] = list
}

// A hook that fails ends the sandbox, before the program where it comes before it, and what comes after
// the end is run still.
func TestHookFails(t *testing.T) {
	second := 1
	for _, kind := range []string{hookPrestart, hookCreateRuntime, hookCreateContainer, hookStartContainer, hookPoststart} {
		for _, c := range []struct {
			name string
			hook specs.Hook
			text string
			is   error
		}{
			{"fails", sh("echo it is >&2; echo broken >&2; exit 3"), "/bin/sh: exit status 3: it is\nbroken", nil},
			{"talks much", sh("i=0; while [ $i -lt 2000 ]; do echo line $i; i=$((i+1)); done; exit 1"), "\nline 1998\nline 1999", nil},
			{"is killed", sh("kill -9 $$"), "signal: killed", nil},
			{"takes too long", specs.Hook{Path: "/bin/sh", Args: []string{"sh", "-c", "echo before; sleep 45679; true"}, Timeout: &second}, "it did not end within 1 s: before", nil},
			{"is missing", specs.Hook{Path: "/no/such/hook"}, kind + " hook /no/such/hook: no such file or directory", fs.ErrNotExist},
			{"is no program", specs.Hook{Path: "/etc/passwd"}, "/etc/passwd: permission denied", fs.ErrPermission},
		} {
			t.Run(kind+" "+c.name, func(t *testing.T) {
				out := t.TempDir()
				r := start(t, func(cfg *Config) {
					cfg.Spec.Hooks = &specs.Hooks{Poststop: []specs.Hook{sh("echo > " + out + "/after")}}
					set(cfg.Spec.Hooks, kind, c.hook, sh("echo > "+out+"/next"))
					cfg.Spec.Mounts = append(cfg.Spec.Mounts, bind(out))
				}, "sh", "-c", "echo the program; sleep 45679")
				var se *StartError
				if !errors.As(r.err, &se) || se.Code != CodeSandbox || !strings.HasPrefix(se.Op, kind+" hook /") || !strings.Contains(se.Error(), c.text) || len(se.Error()) > hookOutput+200 {
					t.Errorf("error %v; want one of a %s hook, and %q", r.err, kind, c.text)
				}
				if c.is != nil && !errors.Is(r.err, c.is) {
					t.Errorf("error %v is not %v", r.err, c.is)
				}
				if r.out != "" && kind != hookPoststart {
					t.Errorf("the program ran: %q", r.out)
				}
				if _, err := os.Stat(out + "/next"); err == nil {
					t.Error("the next hook ran")
				}
				if _, err := os.Stat(out + "/after"); err != nil {
					t.Error("the poststop hook did not run")
				}
				noBundles(t)
				gone(t, "45679")
			})
		}
	}
}

// gone waits until no process has a word among its arguments: the kernel takes them away in its time.
func gone(t *testing.T, word string) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		left := processes(t, word)
		if len(left) == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("left: %v", left)
		}
	}
}

// What fails after the end changes nothing of the result.
func TestPoststopFails(t *testing.T) {
	out := t.TempDir()
	r := start(t, func(c *Config) {
		c.Spec.Hooks = &specs.Hooks{Poststop: []specs.Hook{sh("echo no; echo luck; exit 4"), {Path: "/no/such"}, sh("echo > " + out + "/third")}}
	}, "sh", "-c", "exit 7")
	want := []string{"poststop hook /bin/sh: exit status 4: no; luck", "poststop hook /no/such: no such file or directory"}
	if r.err != nil || r.Code != 7 || !slices.Equal(r.Warnings, want) {
		t.Errorf("error %v, status %+v", r.err, r.Status)
	}
	if _, err := os.Stat(out + "/third"); err != nil {
		t.Error(err)
	}
	r = start(t, func(c *Config) {
		c.Spec.Hooks = &specs.Hooks{Poststop: []specs.Hook{sh("echo > " + out + "/fourth")}}
	}, "/no/such/program")
	if _, err := os.Stat(out + "/fourth"); err != nil || r.err == nil {
		t.Errorf("after a program that is not there: %v, %v", err, r.err)
	}
}

// What a hook leaves in the background, with its output open, is not waited for.
func TestHookLeavesProcess(t *testing.T) {
	out := t.TempDir()
	r := start(t, func(c *Config) {
		c.Spec.Hooks = &specs.Hooks{CreateRuntime: []specs.Hook{sh("sleep 45680 & echo $! > " + out + "/pid")}, CreateContainer: []specs.Hook{sh("sleep 45680 & true")}}
	}, "echo", "done")
	data, err := os.ReadFile(out + "/pid")
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(data)))
	if err != nil {
		t.Fatal(err)
	}
	defer gone(t, "45680")
	defer syscall.Kill(pid, syscall.SIGKILL)
	if got := r.ok(t); got != "done\n" {
		t.Errorf("%q", got)
	}
}

func TestHookIsCancelled(t *testing.T) {
	for _, kind := range []string{hookPrestart, hookCreateContainer, hookStartContainer, hookPoststart} {
		t.Run(kind, func(t *testing.T) {
			out := t.TempDir()
			fifo := filepath.Join(out, "fifo")
			if err := unix.Mkfifo(fifo, 0o600); err != nil {
				t.Fatal(err)
			}
			cause := errors.New("enough")
			ctx, cancel := context.WithCancelCause(t.Context())
			go func() {
				os.ReadFile(fifo) // it runs
				cancel(cause)
			}()
			c := Config{Spec: DefaultSpec(SpecOptions{Args: []string{"sleep", "45681"}, Env: []string{"PATH=/bin"}}), Root: newRoot(t)}
			c.Spec.Mounts = append(c.Spec.Mounts, bind(out))
			c.Spec.Hooks = &specs.Hooks{}
			set(c.Spec.Hooks, kind, sh("echo > "+fifo+"; sleep 45681; true"))
			if _, err := Run(ctx, c); !errors.Is(err, cause) {
				t.Errorf("error %v, want %v", err, cause)
			}
			noBundles(t)
			gone(t, "45681")
		})
	}
}

func TestHooksRefused(t *testing.T) {
	zero := 0
	for text, h := range map[string]specs.Hook{
		`poststart hook "bin/x": the path is not absolute`:                {Path: "bin/x"},
		`poststart hook /bin/x: a timeout of 0 seconds is not above zero`: {Path: "/bin/x", Timeout: &zero},
		`poststart hook "": the path is not absolute`:                     {},
	} {
		r := start(t, func(c *Config) { c.Spec.Hooks = &specs.Hooks{Poststart: []specs.Hook{h}} }, "true")
		if r.err == nil || !strings.HasSuffix(r.err.Error(), text) {
			t.Errorf("error %v, want %s", r.err, text)
		}
	}
	// No hooks, no bundle.
	start(t, func(c *Config) { c.Spec.Hooks = &specs.Hooks{} }, "true").ok(t)
}

// A hook of the image is run as the user of the process.
func TestStartHookOfUser(t *testing.T) {
	o := SpecOptions{Args: []string{"sh", "-c", "cat /tmp/seen; id -u"}, User: specs.User{UID: 1000, GID: 1000}}
	r := startWith(t, o, func(c *Config) {
		c.Spec.Hooks = &specs.Hooks{StartContainer: []specs.Hook{{Path: "/bin/sh", Args: []string{"sh", "-c", "(id -u; kill -9 1; echo x > /etc/passwd) > /tmp/seen 2>&1; true"}}}}
	})
	if got := r.ok(t); !strings.HasPrefix(got, "1000\n") || !strings.Contains(got, "Permission denied") || !strings.HasSuffix(got, "\n1000\n") {
		t.Errorf("%q", got)
	}
}

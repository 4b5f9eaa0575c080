package sandbox

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"nacre/internal/rootfs"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// lowerDir has busybox and this test program as /probe; it is below every root.
var lowerDir string

// copiesEnv has processes of these tests start all sandboxes by copies.
const copiesEnv = "NACRE_TEST_ONLY_COPIES"

// TestMain runs everything twice: with sandboxes started in the way that suits them, and by copies.
func TestMain(m *testing.M) {
	Init()
	onlyCopies = os.Getenv(copiesEnv) != ""
	switch os.Args[0] {
	case "/probe", "/proc/self/exe":
		os.Exit(probe(os.Args[1:]))
	case "victim":
		os.Exit(victim(os.Args[1:]))
	case "hook":
		os.Exit(hookMain(os.Args[1:]))
	}
	if len(os.Args) > 1 && os.Args[1] == "self" {
		os.Exit(probe(os.Args[1:]))
	}
	os.Exit(testMain(m))
}

func testMain(m *testing.M) int {
	dir, err := os.MkdirTemp("", "sandbox")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	lowerDir = dir
	script := `set -e; cd ` + dir + `; chmod 755 .; mkdir bin etc tmp noexec; cp /usr/bin/busybox bin; cp /proc/` + "$PPID" + `/exe probe
for c in sh cat true false echo id sleep ls dd head tty stty hostname mkdir mknod kill rm wc printf env pwd touch sed grep ip; do ln -s busybox bin/$c; done
echo root:x:0:0::/:/bin/sh > etc/passwd; echo '#!/no/such' > bin/badscript; chmod 755 bin/badscript; echo x > noexec/file; echo junk > bin/junk; chmod 755 bin/junk
ldd probe 2>/dev/null | grep -o '/[^ ]*' | while read lib; do cp --parents $lib .; done # with cgo
touch -d @1000000000 etc . bin; chmod 1777 tmp`
	if out, err := exec.Command("sh", "-c", script).CombinedOutput(); err != nil {
		panic(string(out) + err.Error() + " (busybox-static is needed)")
	}
	code := m.Run()
	if code != 0 || onlyCopies || !haveCalls || !fullRoot() {
		return code
	}
	again := exec.Command("/proc/self/exe", os.Args[1:]...)
	again.Args[0] = os.Args[0]
	again.Env = append(os.Environ(), copiesEnv+"=1")
	again.Stdout, again.Stderr = os.Stdout, os.Stderr
	if err := again.Run(); err != nil {
		fmt.Println("FAIL with copies:", err)
		return 1
	}
	return 0
}

// newRoot makes a writable root over lowerDir.
func newRoot(t testing.TB) rootfs.Mount {
	t.Helper()
	dir := t.TempDir()
	m := rootfs.Mount{Lower: []rootfs.Lower{{Dir: lowerDir}}, Upper: filepath.Join(dir, "upper"), Work: filepath.Join(dir, "work")}
	for _, d := range []string{m.Upper, m.Work} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return m
}

// result is what a run left.
type result struct {
	Status
	out, errs string
	err       error
}

// start runs args with Docker's defaults, changed by change, which may be nil.
func start(t testing.TB, change func(*Config), args ...string) result {
	t.Helper()
	return startWith(t, SpecOptions{Args: args}, change)
}

func startWith(t testing.TB, o SpecOptions, change func(*Config)) result {
	t.Helper()
	if o.Env == nil {
		o.Env = []string{"PATH=/bin"}
	}
	var out, errs bytes.Buffer
	c := Config{Spec: DefaultSpec(o), Stdout: &out, Stderr: &errs}
	if change != nil {
		change(&c)
	}
	if len(c.Root.Lower) == 0 && c.Root.Upper == "" {
		c.Root = newRoot(t)
	}
	status, err := Run(t.Context(), c)
	return result{status, out.String(), errs.String(), err}
}

// ok fails unless the run ended with 0, and returns its output.
func (r result) ok(t testing.TB) string {
	t.Helper()
	if r.err != nil || r.Code != 0 {
		t.Fatalf("status %+v, error %v\n%s%s", r.Status, r.err, r.out, r.errs)
	}
	return r.out
}

func TestExitCodes(t *testing.T) {
	for _, c := range []struct {
		name  string
		args  []string
		code  int
		start bool   // it is a StartError
		text  string // in the error
	}{
		{"zero", []string{"true"}, 0, false, ""},
		{"one", []string{"false"}, 1, false, ""},
		{"three", []string{"sh", "-c", "exit 3"}, 3, false, ""},
		{"255", []string{"sh", "-c", "exit 255"}, 255, false, ""},
		{"own exit of 125", []string{"sh", "-c", "exit 125"}, 125, false, ""},
		{"path", []string{"/bin/true"}, 0, false, ""},
		{"relative path", []string{"bin/true"}, 0, false, ""},
		{"segmentation fault", []string{"/probe", "crash"}, 128 + 11, false, ""},
		{"killed child", []string{"sh", "-c", "sh -c 'kill -9 $$'; exit $?"}, 137, false, ""},
		{"not in PATH", []string{"nothere"}, 127, true, `exec "nothere": executable file not found in $PATH`},
		{"no such path", []string{"/bin/nothere"}, 127, true, `exec "/bin/nothere": no such file or directory`},
		{"through a file", []string{"/bin/true/x"}, 127, true, "not a directory"},
		{"no interpreter", []string{"badscript"}, 127, true, "its interpreter"},
		{"not executable", []string{"/noexec/file"}, 126, true, `exec "/noexec/file": permission denied`},
		{"a directory", []string{"/bin"}, 126, true, "is a directory"},
		{"not a program", []string{"junk"}, 126, true, "exec format error"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := start(t, nil, c.args...)
			var se *StartError
			if errors.As(r.err, &se) != c.start || !c.start && r.err != nil {
				t.Fatalf("error %v, StartError wanted: %v", r.err, c.start)
			}
			code := r.Code
			if se != nil {
				code = se.Code
				if !strings.Contains(se.Error(), c.text) {
					t.Errorf("error %q does not say %q", se, c.text)
				}
			}
			if code != c.code {
				t.Errorf("code %d, want %d", code, c.code)
			}
		})
	}
}

func TestSetupErrors(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*Config)
		text   string
	}{
		{"no command", func(c *Config) { c.Spec.Process.Args = nil }, "no command"},
		{"NUL in argument", func(c *Config) { c.Spec.Process.Args = []string{"a\x00b"} }, "NUL"},
		{"relative cwd", func(c *Config) { c.Spec.Process.Cwd = "x" }, "not absolute"},
		{"cwd is a file", func(c *Config) { c.Spec.Process.Cwd = "/bin/busybox" }, "not a directory"},
		{"cwd below a file", func(c *Config) { c.Spec.Process.Cwd = "/bin/busybox/x" }, "not a directory"},
		{"missing root", func(c *Config) { c.Root = rootfs.Mount{Lower: []rootfs.Lower{{Dir: "/no/such/dir"}}} }, "/no/such/dir"},
		{"missing bind source", func(c *Config) {
			c.Spec.Mounts = append(c.Spec.Mounts, specs.Mount{Destination: "/x", Type: "bind", Source: "/no/such"})
		}, "/no/such"},
		{"unknown file system", func(c *Config) {
			c.Spec.Mounts = append(c.Spec.Mounts, specs.Mount{Destination: "/x", Type: "nofs"})
		}, "mount /x: file system nofs"},
		{"unknown option", func(c *Config) {
			c.Spec.Mounts = append(c.Spec.Mounts, specs.Mount{Destination: "/x", Type: "tmpfs", Options: []string{"huh=1"}})
		}, "option huh=1"},
		{"mount over the root", func(c *Config) {
			c.Spec.Mounts = append(c.Spec.Mounts, specs.Mount{Destination: "/x/..", Type: "tmpfs"})
		}, "not a path below the root"},
		{"unknown capability", func(c *Config) { c.Spec.Process.Capabilities.Bounding = []string{"CAP_FLY"} }, "CAP_FLY"},
		{"unknown limit", func(c *Config) { c.Spec.Process.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_LUCK"}} }, "RLIMIT_LUCK"},
		{"user namespace", func(c *Config) {
			c.Spec.Linux.Namespaces = append(c.Spec.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace})
		}, "user namespaces"},
		{"sysctl of no one", func(c *Config) { c.Spec.Linux.Sysctl = map[string]string{"net.nothing": "1"} }, "net.nothing"},
		{"sysctl outside of /proc/sys", func(c *Config) { c.Spec.Linux.Sysctl = map[string]string{"../../etc/passwd": "1"} }, "etc/passwd"},
		{"seccomp operator", func(c *Config) {
			c.Spec.Linux.Seccomp.Syscalls = append(c.Spec.Linux.Seccomp.Syscalls, specs.LinuxSyscall{
				Names: []string{"dup"}, Action: specs.ActTrap, Args: []specs.LinuxSeccompArg{{Op: "SCMP_CMP_MAYBE"}},
			})
		}, "SCMP_CMP_MAYBE"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := start(t, c.change, "true")
			var se *StartError
			if !errors.As(r.err, &se) || se.Code != CodeSandbox || !strings.Contains(se.Error(), c.text) {
				t.Errorf("error %v; want code 125 and %q", r.err, c.text)
			}
		})
	}
}

func TestErrorNumberSurvives(t *testing.T) {
	r := start(t, nil, "/noexec/file")
	if !errors.Is(r.err, os.ErrPermission) {
		t.Errorf("error %#v is not os.ErrPermission", r.err)
	}
}

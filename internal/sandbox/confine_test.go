package sandbox

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// fields are the lines "key: value" of a run's output.
func fields(out string) map[string]string {
	m := map[string]string{}
	for line := range strings.Lines(out) {
		if k, v, ok := strings.Cut(line, ":"); ok {
			m[k] = strings.Join(strings.Fields(v), " ")
		}
	}
	return m
}

func compare(t *testing.T, got map[string]string, want map[string]string) {
	t.Helper()
	for _, k := range slices.Sorted(maps.Keys(want)) {
		if got[k] != want[k] {
			t.Errorf("%s: %q, want %q", k, got[k], want[k])
		}
	}
}

const dockerCaps = "00000000a80425fb" // what `docker run alpine grep Cap /proc/1/status` shows

func TestStatus(t *testing.T) {
	umask := uint32(0o027)
	for _, c := range []struct {
		name   string
		o      SpecOptions
		change func(*Config)
		want   map[string]string
	}{
		{"root", SpecOptions{}, nil, map[string]string{
			"Pid": "1", "PPid": "0", "Uid": "0 0 0 0", "Gid": "0 0 0 0", "Groups": "", "Umask": "0022",
			"CapInh": "0000000000000000", "CapPrm": dockerCaps, "CapEff": dockerCaps, "CapBnd": dockerCaps, "CapAmb": "0000000000000000",
			"NoNewPrivs": "0", "Seccomp": "2", "Seccomp_filters": "1", "Threads": "1",
			"SigBlk": "0000000000000000", "SigIgn": "0000000000000000",
		}},
		{"user", SpecOptions{User: specs.User{UID: 1000, GID: 1001, AdditionalGids: []uint32{5, 1001, 70000}, Umask: &umask}}, nil, map[string]string{
			"Uid": "1000 1000 1000 1000", "Gid": "1001 1001 1001 1001", "Groups": "5 1001 70000", "Umask": "0027",
			"CapInh": "0000000000000000", "CapPrm": "0000000000000000", "CapEff": "0000000000000000", "CapBnd": dockerCaps, "CapAmb": "0000000000000000",
			"NoNewPrivs": "0", "Seccomp": "2",
		}},
		{"user with ambient capability", SpecOptions{User: specs.User{UID: 1000}}, func(c *Config) {
			net := []string{"CAP_NET_BIND_SERVICE"}
			c.Spec.Process.Capabilities = &specs.LinuxCapabilities{Bounding: net, Permitted: net, Inheritable: net, Ambient: net}
		}, map[string]string{
			"CapInh": "0000000000000400", "CapPrm": "0000000000000400", "CapEff": "0000000000000400", "CapBnd": "0000000000000400", "CapAmb": "0000000000000400",
		}},
		{"no capabilities at all", SpecOptions{}, func(c *Config) { c.Spec.Process.Capabilities = nil }, map[string]string{
			"CapPrm": "0000000000000000", "CapEff": "0000000000000000", "CapBnd": "0000000000000000",
		}},
		{"no new privileges", SpecOptions{}, func(c *Config) { c.Spec.Process.NoNewPrivileges = true }, map[string]string{
			"NoNewPrivs": "1", "Seccomp": "2", "CapEff": dockerCaps,
		}},
		{"no seccomp", SpecOptions{}, func(c *Config) { c.Spec.Linux.Seccomp = nil }, map[string]string{"Seccomp": "0"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.o.Args = []string{"cat", "/proc/self/status"}
			compare(t, fields(startWith(t, c.o, c.change).ok(t)), c.want)
		})
	}
}

func TestProcess(t *testing.T) {
	score := 321
	o := SpecOptions{
		// ls has its own directory open beside the standard streams.
		Args: []string{"sh", "-c", `pwd; hostname; cat /proc/self/oom_score_adj; ls /proc/self/fd | wc -l; echo "$A-$B"; cat /proc/1/comm; ls -d /proc/[0-9]*`},
		Env:  []string{"PATH=/bin", "A=1 2", "B="}, Cwd: "/made/for/it", Hostname: "box",
	}
	got := startWith(t, o, func(c *Config) { c.Spec.Process.OOMScoreAdj = &score }).ok(t)
	if want := "/made/for/it\nbox\n321\n4\n1 2-\nsh\n/proc/1\n"; got != want {
		t.Errorf("got %q\nwant %q", got, want)
	}
	out := start(t, nil, "/probe", "argv", "", "a b", "ü\xff").ok(t)
	if want := "[\"argv\" \"\" \"a b\" \"ü\\xff\"]\n[\"PATH=/bin\"]\n"; out != want {
		t.Errorf("got %s want %s", out, want)
	}
}

func TestRlimits(t *testing.T) {
	out := start(t, func(c *Config) {
		c.Spec.Process.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_CORE", Soft: 0, Hard: 0}, {Type: "RLIMIT_NPROC", Soft: 50, Hard: 60}, {Type: "RLIMIT_STACK", Soft: 1 << 20, Hard: unix.RLIM_INFINITY}}
	}, "/probe", "rlimit", "4", "6", "3").ok(t)
	if want := fmt.Sprintln(4, 0, 0) + fmt.Sprintln(6, 50, 60) + fmt.Sprintln(3, 1<<20, uint64(unix.RLIM_INFINITY)); out != want {
		t.Errorf("got %q, want %q", out, want)
	}
	// A soft limit survives, too, though the Go runtime raises its own.
	out = start(t, func(c *Config) {
		c.Spec.Process.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Soft: 100, Hard: 200}}
	}, "sh", "-c", "ulimit -n; ulimit -Hn").ok(t)
	if out != "100\n200\n" {
		t.Errorf("open files: %q", out)
	}
}

func TestSeccompInside(t *testing.T) {
	tests := []struct {
		name string
		caps []string
		want map[string]string
	}{
		{"default", nil, map[string]string{
			"getpid": "ok", "keyctl": "EPERM", "add_key": "EPERM", "mount": "EPERM", "umount2": "EPERM", "fsopen": "EPERM", "open_tree": "EPERM",
			"pivot_root": "EPERM", "setns": "EPERM", "bpf": "EPERM", "perf_event_open": "EPERM", "userfaultfd": "EPERM", "io_uring_setup": "EPERM",
			"init_module": "EPERM", "kexec_load": "EPERM", "reboot": "EPERM", "swapon": "EPERM", "settimeofday": "EPERM", "sethostname": "EPERM",
			"unshare(user)": "EPERM", "unshare(0)": "EPERM", "clone()": "ok", "clone(user)": "EPERM", "clone(net)": "EPERM", "clone3": "ENOSYS",
			"newer than all": "ENOSYS", "personality(query)": "ok", "personality(linux)": "ok", "personality(8)": "ok", "personality(uname)": "ok",
			"personality(norand)": "EPERM", "personality(high)": "EPERM", "socket(inet)": "ok", "socket(unix)": "ok", "socket(alg)": "EPERM",
			"socket(vsock)": "EPERM", "socket(39)": "EAFNOSUPPORT", "socket(41)": "EAFNOSUPPORT", "chroot": "ok", "mknod": "ok",
		}},
		{"with CAP_SYS_ADMIN", append(DefaultCapabilities(), "CAP_SYS_ADMIN"), map[string]string{
			"mount": "EFAULT", "unshare(0)": "ok", "clone(net)": "ok", "clone3": "EINVAL", "keyctl": "EPERM", "socket(vsock)": "EPERM", "sethostname": "ok",
		}},
		{"without capabilities", []string{}, map[string]string{"chroot": "EPERM", "clone()": "ok", "mknod": "EPERM"}},
	}
	for _, c := range tests {
		t.Run(c.name, func(t *testing.T) {
			args := append([]string{"/probe", "syscalls"}, slices.Sorted(maps.Keys(c.want))...)
			compare(t, fields(startWith(t, SpecOptions{Args: args, Capabilities: c.caps}, nil).ok(t)), c.want)
		})
	}
	t.Run("ptrace", func(t *testing.T) { // last, as it changes the process
		compare(t, fields(start(t, nil, "/probe", "syscalls", "ptrace").ok(t)), map[string]string{"ptrace": "ok"})
	})
}

func TestPaths(t *testing.T) {
	want := map[string]string{
		"/proc/kcore": "read 0", "/proc/keys": "read 0", "/proc/timer_list": "read 0", "/proc/interrupts": "read 0",
		"/proc/acpi": "dir 0", "/sys/firmware": "dir 0",
		"/dev/null": "read 0", "/dev/zero": "read 16", "/dev/full": "read 16", "/dev/random": "read 16", "/dev/urandom": "read 16",
		"/dev/kmsg": "ENOENT", "/dev/mem": "ENOENT", "/dev/vda": "ENOENT", "/dev/ptmx": "read: resource temporarily unavailable", "/dev/tty": "ENXIO",
	}
	for name := range want { // not every kernel has all of them
		if strings.HasPrefix(name, "/dev/") {
			continue
		}
		if _, err := os.Lstat(name); err != nil {
			want[name] = "ENOENT"
		}
	}
	args := append([]string{"/probe", "open"}, slices.Sorted(maps.Keys(want))...)
	compare(t, fields(start(t, nil, args...).ok(t)), want)

	out := start(t, nil, "sh", "-c", `
cat /proc/mounts
for f in /proc/sys/kernel/domainname /sys/x /sys/firmware/x; do (echo 1 > $f) 2>&1 | sed "s|.*: |write $f: |"; done
echo x > /dev/null && echo written: null
echo x > /tmp/y && echo written: root
echo name > /proc/self/comm && echo written: own`).ok(t)
	got := fields(out)
	compare(t, got, map[string]string{
		"write /proc/sys/kernel/domainname": "Read-only file system", "write /sys/x": "Read-only file system",
		"write /sys/firmware/x": "Read-only file system",
	})
	for _, what := range []string{"null", "root", "own"} {
		if !strings.Contains(out, "written: "+what+"\n") {
			t.Errorf("%s could not be written", what)
		}
	}
	for _, name := range []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"} {
		if _, err := os.Stat(name); err == nil && !strings.Contains(out, "proc "+name+" proc ro,nosuid,nodev,noexec,") {
			t.Errorf("%s is not read-only:\n%s", name, out)
		}
	}
}

func TestDevicesOpenNothing(t *testing.T) {
	vol := t.TempDir()
	r := start(t, func(c *Config) {
		c.Spec.Mounts = append(c.Spec.Mounts,
			specs.Mount{Destination: "/vol", Type: "bind", Source: vol, Options: []string{"rbind"}},
			specs.Mount{Destination: "/ram", Type: "tmpfs", Options: []string{"dev"}})
	}, "sh", "-c", "for d in /tmp /dev /dev/shm /vol /ram; do mknod $d/node c 1 5 && /probe open $d/node; done")
	compare(t, fields(r.ok(t)), map[string]string{
		"/tmp/node": "EACCES", "/dev/node": "EACCES", "/dev/shm/node": "EACCES", "/vol/node": "EACCES", "/ram/node": "EACCES",
	})
	allow := start(t, func(c *Config) {
		c.Spec.Linux.Resources = &specs.LinuxResources{Devices: []specs.LinuxDeviceCgroup{{Allow: true, Access: "rwm"}}}
	}, "sh", "-c", "mknod /tmp/node c 1 5 && /probe open /tmp/node")
	compare(t, fields(allow.ok(t)), map[string]string{"/tmp/node": "read 16"})

	mode := os.FileMode(0o600)
	uid := uint32(7)
	added := start(t, func(c *Config) {
		c.Spec.Linux.Devices = []specs.LinuxDevice{{Path: "/dev/a/zero", Type: "c", Major: 1, Minor: 5, FileMode: &mode, UID: &uid}}
	}, "sh", "-c", "/probe open /dev/a/zero; ls -ln /dev/a/zero")
	if out := added.ok(t); !strings.Contains(out, "/dev/a/zero: read 16") || !strings.Contains(out, "crw-------    1 7") {
		t.Errorf("%s", out)
	}
	bound := start(t, func(c *Config) {
		c.Spec.Mounts = append(c.Spec.Mounts, specs.Mount{Destination: "/dev/bound", Type: "bind", Source: "/dev/zero", Options: []string{"bind"}})
	}, "/probe", "open", "/dev/bound")
	compare(t, fields(bound.ok(t)), map[string]string{"/dev/bound": "read 16"})
}

func TestReadonlyRoot(t *testing.T) {
	r := startWith(t, SpecOptions{Args: []string{"sh", "-c", "touch /x 2>&1; touch /dev/shm/x && echo shm"}, ReadonlyRoot: true}, nil)
	if out := r.ok(t); !strings.Contains(out, "Read-only file system") || !strings.Contains(out, "shm") {
		t.Errorf("%s", out)
	}
}

func TestNetwork(t *testing.T) {
	// User 1000 binds port 80: in a network of its own that is everybody's right.
	none := startWith(t, SpecOptions{Args: []string{"/probe", "loopback"}, User: specs.User{UID: 1000, GID: 1000}}, nil)
	if out := none.ok(t); out != "hello over lo\nlo\n" {
		t.Errorf("none: %q", out)
	}
	host, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	out := startWith(t, SpecOptions{Args: []string{"/bin/busybox", "readlink", "/proc/self/ns/net"}, HostNetwork: true}, nil).ok(t)
	if strings.TrimSpace(out) != host {
		t.Errorf("host: network %s, ours is %s", out, host)
	}
	out = start(t, func(c *Config) {
		for i := range c.Spec.Linux.Namespaces {
			if ns := &c.Spec.Linux.Namespaces[i]; ns.Type == specs.NetworkNamespace {
				ns.Path = "/proc/self/ns/net" // the child's, as it is before: ours
			}
		}
		c.Spec.Linux.Sysctl = nil
	}, "/bin/busybox", "readlink", "/proc/self/ns/net").ok(t)
	if strings.TrimSpace(out) != host {
		t.Errorf("entered: network %s, not %s", out, host)
	}
}

func TestNamespaces(t *testing.T) {
	out := start(t, nil, "sh", "-c", "for n in mnt pid ipc uts net cgroup user; do /bin/busybox readlink /proc/self/ns/$n; done").ok(t)
	for i, ns := range strings.Fields(out) {
		name := []string{"mnt", "pid", "ipc", "uts", "net", "cgroup", "user"}[i]
		host, err := os.Readlink("/proc/self/ns/" + name)
		if err != nil {
			t.Fatal(err)
		}
		if (ns == host) != (name == "user") {
			t.Errorf("%s namespace %s, ours %s", name, ns, host)
		}
	}
}

func TestProgramIsReadonly(t *testing.T) {
	if out := start(t, nil, "/proc/self/exe", "self").ok(t); out != "read-only: true <nil>\n" {
		t.Errorf("our own program in the sandbox: %s", out)
	}
}

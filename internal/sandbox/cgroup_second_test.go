package sandbox

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// secondTop is where this machine has cgroups of version 2, beside those of version 1 or alone.
func secondTop(t *testing.T) string {
	t.Helper()
	for _, top := range []string{cgroupRoot, filepath.Join(cgroupRoot, "unified")} {
		var fs unix.Statfs_t
		if unix.Statfs(top, &fs) == nil && fs.Type == unix.CGROUP2_SUPER_MAGIC {
			return top
		}
	}
	// One can be mounted wherever version 1 is in use.
	dir := t.TempDir()
	if err := unix.Mount("cgroup2", dir, "cgroup2", 0, ""); err != nil {
		t.Fatalf("no cgroups of version 2: %v", err)
	}
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	return dir
}

// newSecond makes a cgroup of version 2.
func newSecond(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(secondTop(t), newCgroupName())
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { removeCgroup(dir) })
	return dir
}

// access is one attempt at a device: of what kind, and r, w or m for making a node.
type access struct {
	kind         string
	major, minor int64
	how          byte
}

// attempts are made by each program below. All are allowed where there is none: of devices every machine has, null,
// zero, full and random, and two that are only made.
func attempts() (list []access) {
	for _, minor := range []int64{3, 5, 7, 8} {
		for _, how := range []byte("rwm") {
			list = append(list, access{"c", 1, minor, how})
		}
	}
	return append(list, access{"c", 250, 77, 'm'}, access{"b", 1, 3, 'm'}, access{"b", 7, 0, 'm'})
}

// judgeDevice is what rules mean: the last that matches counts, and none is no.
func judgeDevice(rules []specs.LinuxDeviceCgroup, a access) bool {
	for _, r := range slices.Backward(rules) {
		number := func(want *int64, have int64) bool { return want == nil || *want < 0 || *want == have }
		if (r.Type == "" || r.Type == "a" || r.Type == a.kind) && number(r.Major, a.major) && number(r.Minor, a.minor) && (r.Access == "" || strings.IndexByte(r.Access, a.how) >= 0) {
			return r.Allow
		}
	}
	return false
}

// TestDeviceProgram has the kernel decide by programs that rules were made of, on a cgroup of version 2.
func TestDeviceProgram(t *testing.T) {
	n := func(v int64) *int64 { return &v }
	deny := specs.LinuxDeviceCgroup{Access: "rwm"}
	for _, c := range []struct {
		name  string
		rules []specs.LinuxDeviceCgroup // nil: no program
	}{
		{"no program", nil},
		{"nothing", []specs.LinuxDeviceCgroup{deny}},
		{"all", []specs.LinuxDeviceCgroup{deny, {Allow: true, Type: "a", Access: "rwm"}}},
		{"nodes", []specs.LinuxDeviceCgroup{deny, {Allow: true, Type: "c", Access: "m"}, {Allow: true, Type: "b", Access: "m"}}},
		{"one", []specs.LinuxDeviceCgroup{deny, {Allow: true, Type: "c", Major: n(1), Minor: n(3), Access: "rwm"}}},
		{"reading one", []specs.LinuxDeviceCgroup{deny, {Allow: true, Type: "c", Major: n(1), Minor: n(5), Access: "r"}}},
		{"a major", []specs.LinuxDeviceCgroup{deny, {Allow: true, Type: "c", Major: n(1), Access: "rw"}}},
		{"blocks", []specs.LinuxDeviceCgroup{deny, {Allow: true, Type: "b", Access: "rwm"}}},
		{"a minor of any", []specs.LinuxDeviceCgroup{deny, {Allow: true, Minor: n(3), Major: n(-1), Access: "wm"}}},
		{"all but one", []specs.LinuxDeviceCgroup{deny, {Allow: true, Access: "rwm"}, {Type: "c", Major: n(1), Minor: n(8), Access: "rw"}}},
		{"order counts", []specs.LinuxDeviceCgroup{deny, {Allow: true, Type: "c", Major: n(1), Minor: n(7), Access: "rwm"}, {Type: "c", Major: n(1), Access: "w"}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := newSecond(t)
			if c.rules != nil {
				if err := attachDevices(dir, deviceProgram(c.rules)); err != nil {
					t.Fatal(err)
				}
			}
			got := fields(startWith(t, SpecOptions{}, func(config *Config) {
				config.Spec.Process.Args = append([]string{"/probe", "devices"}, attemptArgs()...)
				config.Spec.Linux.Resources = &specs.LinuxResources{Devices: []specs.LinuxDeviceCgroup{{Allow: true, Access: "rwm"}}}
				config.Created = func(_ context.Context, pid int) error {
					return writeFile(filepath.Join(dir, "cgroup.procs"), fmt.Sprint(pid))
				}
			}).ok(t))
			for _, a := range attempts() {
				want := "ok"
				if c.rules != nil && !judgeDevice(c.rules, a) {
					want = "EPERM"
				}
				if name := a.String(); got[name] != want {
					t.Errorf("%s: %q, want %s", name, got[name], want)
				}
			}
		})
	}
}

func (a access) String() string { return fmt.Sprintf("%s-%d-%d-%c", a.kind, a.major, a.minor, a.how) }

func attemptArgs() (args []string) {
	for _, a := range attempts() {
		args = append(args, a.String())
	}
	return args
}

// tryDevice makes a node, and opens it; of a node that is not to be made here another process has made one.
func tryDevice(name string) syscall.Errno {
	var a access
	if _, err := fmt.Sscanf(strings.ReplaceAll(name, "-", " "), "%1s %d %d %c", &a.kind, &a.major, &a.minor, &a.how); err != nil {
		return unix.EINVAL
	}
	kind := uint32(unix.S_IFCHR)
	if a.kind == "b" {
		kind = unix.S_IFBLK
	}
	if a.how == 'm' {
		err := unix.Mknod("/tmp/"+name, kind|0o600, int(unix.Mkdev(uint32(a.major), uint32(a.minor))))
		errno, _ := err.(syscall.Errno)
		return errno
	}
	flags := unix.O_RDONLY
	if a.how == 'w' {
		flags = unix.O_WRONLY
	}
	fd, err := unix.Open("/dev/"+map[int64]string{3: "null", 5: "zero", 7: "full", 8: "random"}[a.minor], flags|unix.O_NONBLOCK, 0)
	if err == nil {
		unix.Close(fd)
	}
	errno, _ := err.(syscall.Errno)
	return errno
}

// TestSecondVersionTree makes a cgroup with a controller that no other hierarchy has, sets a limit, and removes it.
func TestSecondVersionTree(t *testing.T) {
	top := secondTop(t)
	if top != cgroupRoot && top != filepath.Join(cgroupRoot, "unified") {
		t.Fatalf("cgroups of version 2 are on %s, where runs do not look for them", top)
	}
	have, err := os.ReadFile(filepath.Join(top, "cgroup.controllers"))
	if err != nil {
		t.Fatal(err)
	}
	var g cgroup
	name := newCgroupName()
	free := strings.Fields(string(have))
	if len(free) == 0 { // version 1 has them all: that is said
		if _, err := g.secondVersion("pids", "", name); err == nil || !strings.Contains(err.Error(), "this system has no pids cgroups") {
			t.Errorf("error %v", err)
		}
		return
	}
	before, err := os.ReadFile(filepath.Join(top, "cgroup.subtree_control"))
	if err != nil {
		t.Fatal(err)
	}
	_, existed := os.Stat(filepath.Join(top, "nacre"))
	controller := free[len(free)-1]
	dir, err := g.secondVersion(controller, "", name)
	t.Cleanup(func() {
		g.remove()
		if existed != nil {
			unix.Rmdir(filepath.Join(top, "nacre"))
		}
		if !strings.Contains(string(before), controller) {
			writeFile(filepath.Join(top, "cgroup.subtree_control"), "-"+controller)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	files, _ := filepath.Glob(filepath.Join(dir, controller+".*"))
	if dir != filepath.Join(top, "nacre", name) || len(files) == 0 {
		t.Errorf("%s has no files of %s", dir, controller)
	}
	for _, f := range files {
		if strings.HasSuffix(f, ".max") {
			if err := (limit{second: [][2]string{{filepath.Base(f), "max"}}}).write(dir, true); err != nil {
				t.Error(err)
			}
		}
	}
	g.remove()
	if _, err := os.Stat(dir); err == nil {
		t.Errorf("%s is left", dir)
	}
	if _, err := g.secondVersion("nonsense", "", name); err == nil || !strings.Contains(err.Error(), "this system has no nonsense cgroups") {
		t.Errorf("error %v", err)
	}
}

// TestSecondVersionKills: what is in a cgroup of version 2, and in those that were made in it, ends with it.
func TestSecondVersionKills(t *testing.T) {
	dir := newSecond(t)
	ends := make(chan *os.ProcessState)
	places := []string{dir, filepath.Join(dir, "a"), filepath.Join(dir, "a", "b"), filepath.Join(dir, "c")}
	for _, at := range places {
		if err := os.MkdirAll(at, 0o755); err != nil {
			t.Fatal(err)
		}
		p, err := os.StartProcess("/usr/bin/busybox", []string{"sleep", "1000"}, &os.ProcAttr{})
		if err != nil {
			t.Fatal(err)
		}
		if err := writeFile(filepath.Join(at, "cgroup.procs"), fmt.Sprint(p.Pid)); err != nil {
			t.Fatal(err)
		}
		go func() {
			st, _ := p.Wait()
			ends <- st
		}()
	}
	removeCgroup(dir)
	for range places {
		if st := <-ends; st.Sys().(syscall.WaitStatus).Signal() != unix.SIGKILL {
			t.Errorf("it ended by itself: %v", st)
		}
	}
	if _, err := os.Stat(dir); err == nil {
		t.Error("the cgroup is left")
	}
}

// TestLimitFiles: what is written for a limit, in either version.
func TestLimitFiles(t *testing.T) {
	i := func(v int64) *int64 { return &v }
	u := func(v uint64) *uint64 { return &v }
	weight, yes := uint16(500), true
	for _, c := range []struct {
		name          string
		r             specs.LinuxResources
		first, second string
	}{
		{"memory", specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: i(64 << 20), Swap: i(96 << 20), Reservation: i(1 << 20)}},
			"memory.limit_in_bytes=67108864 memory.soft_limit_in_bytes=1048576 memory.memsw.limit_in_bytes=100663296", "memory.max=67108864 memory.low=1048576 memory.swap.max=33554432"},
		{"memory without an end", specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: i(-1), Swap: i(-1)}}, "memory.limit_in_bytes=-1 memory.memsw.limit_in_bytes=-1", "memory.max=max memory.swap.max=max"},
		{"no swap", specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: i(64), Swap: i(64)}}, "memory.limit_in_bytes=64 memory.memsw.limit_in_bytes=64", "memory.max=64 memory.swap.max=0"},
		{"only first", specs.LinuxResources{Memory: &specs.LinuxMemory{Swappiness: u(7), DisableOOMKiller: &yes}}, "memory.swappiness=7 memory.oom_control=1", ""},
		{"cpu", specs.LinuxResources{CPU: &specs.LinuxCPU{Shares: u(1024), Quota: i(50000), Cpus: "0-1", Mems: "0"}},
			"cpu.shares=1024 cpu.cfs_quota_us=50000 cpuset.cpus=0-1 cpuset.mems=0", "cpu.weight=39 cpu.max=50000 100000 cpuset.cpus=0-1 cpuset.mems=0"},
		{"least and most shares", specs.LinuxResources{CPU: &specs.LinuxCPU{Shares: u(1 << 40), Period: u(20000), Quota: i(-1)}}, "cpu.shares=1099511627776 cpu.cfs_period_us=20000 cpu.cfs_quota_us=-1", "cpu.weight=10000 cpu.max=max 20000"},
		{"pids", specs.LinuxResources{Pids: &specs.LinuxPids{Limit: i(20)}}, "pids.max=20", "pids.max=20"},
		{"pids without an end", specs.LinuxResources{Pids: &specs.LinuxPids{Limit: i(-1)}}, "pids.max=max", "pids.max=max"},
		{"weight", specs.LinuxResources{BlockIO: &specs.LinuxBlockIO{Weight: &weight}}, "blkio.bfq.weight=500", "io.bfq.weight=500"},
		{"one device", specs.LinuxResources{BlockIO: &specs.LinuxBlockIO{
			WeightDevice:          []specs.LinuxWeightDevice{of8(specs.LinuxWeightDevice{Weight: &weight})},
			ThrottleReadBpsDevice: throttle(8, 0, 10), ThrottleWriteBpsDevice: throttle(8, 0, 20), ThrottleReadIOPSDevice: throttle(8, 0, 30), ThrottleWriteIOPSDevice: throttle(8, 0, 40)}},
			"blkio.bfq.weight_device=8:1 500 blkio.throttle.read_bps_device=8:0 10 blkio.throttle.write_bps_device=8:0 20 blkio.throttle.read_iops_device=8:0 30 blkio.throttle.write_iops_device=8:0 40",
			"io.bfq.weight=8:1 500 io.max=8:0 rbps=10 io.max=8:0 wbps=20 io.max=8:0 riops=30 io.max=8:0 wiops=40"},
		{"devices", specs.LinuxResources{Devices: []specs.LinuxDeviceCgroup{{Access: "rwm"}, {Allow: true, Type: "c", Major: i(1), Minor: i(3), Access: "rw"}, {Allow: true, Type: "b", Minor: i(-1), Access: "m"}}},
			"devices.deny=a devices.allow=c 1:3 rw devices.allow=b *:* m", ""},
	} {
		var first, second []string
		for _, l := range resourceLimits(&c.r) {
			for _, f := range l.first {
				first = append(first, f[0]+"="+f[1])
			}
			for _, f := range l.second {
				second = append(second, f[0]+"="+f[1])
			}
		}
		if got := strings.Join(first, " "); got != c.first {
			t.Errorf("%s, version 1: %q, want %q", c.name, got, c.first)
		}
		if got := strings.Join(second, " "); got != c.second {
			t.Errorf("%s, version 2: %q, want %q", c.name, got, c.second)
		}
	}
}

// of8 is a weight of the device 8:1.
func of8(w specs.LinuxWeightDevice) specs.LinuxWeightDevice {
	w.Major, w.Minor = 8, 1
	return w
}

// throttle is one device that may be used at a rate.
func throttle(major, minor int64, rate uint64) []specs.LinuxThrottleDevice {
	d := specs.LinuxThrottleDevice{Rate: rate}
	d.Major, d.Minor = major, minor
	return []specs.LinuxThrottleDevice{d}
}

// TestOOMKilled reads what the kernel counts, in either version.
func TestOOMKilled(t *testing.T) {
	for text, want := range map[string]bool{
		"memory.events\nlow 0\nhigh 0\nmax 5\noom 1\noom_kill 1\n": true, "memory.events\noom 3\noom_kill 0\n": false,
		"memory.oom_control\noom_kill_disable 0\nunder_oom 0\noom_kill 2\n": true, "memory.oom_control\noom_kill_disable 1\nunder_oom 1\noom_kill 0\n": false, "other\noom_kill 1\n": false,
	} {
		dir := t.TempDir()
		file, data, _ := strings.Cut(text, "\n")
		if err := os.WriteFile(filepath.Join(dir, file), []byte(data), 0o644); err != nil {
			t.Fatal(err)
		}
		if got := (&cgroup{memory: dir}).oomKilled(); got != want {
			t.Errorf("%q: %v", text, got)
		}
	}
}

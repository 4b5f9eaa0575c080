package container

import (
	"fmt"
	"path"
	"slices"
	"strings"
	"testing"

	"nacre/internal/sandbox"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

func TestParseDevice(t *testing.T) {
	for s, want := range map[string]Device{
		"/dev/fuse":                 {"/dev/fuse", "/dev/fuse", "rwm"},
		"/dev/fuse:r":               {"/dev/fuse", "/dev/fuse", "r"},
		"/dev/fuse:mwr":             {"/dev/fuse", "/dev/fuse", "mwr"},
		"/dev/fuse:/dev/x":          {"/dev/fuse", "/dev/x", "rwm"},
		"/dev/fuse:/dev/x:w":        {"/dev/fuse", "/dev/x", "w"},
		"/dev/snd":                  {"/dev/snd", "/dev/snd", "rwm"},
		"/dev/with space:/dev/a\nb": {"/dev/with space", "/dev/a\nb", "rwm"},
	} {
		if got, err := ParseDevice(s); err != nil || got != want {
			t.Errorf("%q: %+v, %v; want %+v", s, got, err, want)
		}
	}
	for _, bad := range []string{"", ":", "fuse", "dev/fuse", "/dev/fuse:", "/dev/fuse::", "/dev/fuse:x", "/dev/fuse:dev/x", "/dev/fuse:/dev/x:", "/dev/fuse:/dev/x:rwx",
		"/dev/fuse:/dev/x:r:w", "/dev/fuse:/dev/x:rrrr", ":/dev/x", "/dev/fuse\x00", "/dev/fuse:/dev/x:rw m", "::rwm"} {
		if got, err := ParseDevice(bad); err == nil {
			t.Errorf("%q is %+v", bad, got)
		}
	}
}

func FuzzParseDevice(f *testing.F) {
	for _, s := range []string{"/dev/fuse", "/dev/fuse:/dev/x:rw", "/dev/a:r", "a:b:c", "::", "/a:/b:rwmm"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		d, err := ParseDevice(s)
		if err != nil {
			return
		}
		if !path.IsAbs(d.Source) || !path.IsAbs(d.Target) || strings.Trim(d.Permissions, "rwm") != "" || d.Permissions == "" {
			t.Errorf("%q is %+v", s, d)
		}
		// What it is printed as means the same.
		if again, err := ParseDevice(d.Source + ":" + d.Target + ":" + d.Permissions); err != nil || again != d {
			t.Errorf("%q is %+v, and printed %+v, %v", s, d, again, err)
		}
	})
}

// rule prints a device rule as ParseDeviceRule reads it.
func rule(r specs.LinuxDeviceCgroup) string {
	number := func(n *int64) string {
		if n == nil {
			return "*"
		}
		return fmt.Sprint(*n)
	}
	return fmt.Sprintf("%s %s:%s %s", r.Type, number(r.Major), number(r.Minor), r.Access)
}

func TestParseDeviceRule(t *testing.T) {
	for _, s := range []string{"c 1:3 rwm", "b 8:* r", "a *:* rwm", "c *:5 m", "c 4294967295:0 w", "c 10:200 mr"} {
		r, err := ParseDeviceRule(s)
		if err != nil || !r.Allow || rule(r) != s {
			t.Errorf("%q: %s, %v", s, rule(r), err)
		}
	}
	for _, bad := range []string{"", "c", "c 1:3", "1:3 rwm", "x 1:3 rwm", "c 1 rwm", "c 1:3:4 rwm", "c -1:3 r", "c 1:-1 r", "c 1:3 x", "c 1:3 ", "c  1:3 r", "c 4294967296:1 r",
		"c +1:3 r", "c 1:3 rwmr", "c 0x1:3 r", "c :3 r", "c 1: r", "c **:1 r", "c 1:3 r ", "u 1:3 r", "c 1:3\x00 r"} {
		if r, err := ParseDeviceRule(bad); err == nil {
			t.Errorf("%q is %s", bad, rule(r))
		}
	}
}

func FuzzParseDeviceRule(f *testing.F) {
	for _, s := range []string{"c 1:3 rwm", "b 8:* r", "a *:* m", "c 007:3 r", "c 1:3  r"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := ParseDeviceRule(s)
		if err != nil {
			return
		}
		printed := rule(r)
		if again, err := ParseDeviceRule(printed); err != nil || rule(again) != printed {
			t.Errorf("%q is %s, and that %s, %v", s, printed, rule(again), err)
		}
	})
}

func TestNormalizeCap(t *testing.T) {
	for s, want := range map[string]string{"net_admin": "CAP_NET_ADMIN", "CAP_SYS_TIME": "CAP_SYS_TIME", "cap_bpf": "CAP_BPF", "all": "ALL", "ALL": "ALL"} {
		if got, err := NormalizeCap(s); err != nil || got != want {
			t.Errorf("%q: %q, %v", s, got, err)
		}
	}
	for _, bad := range []string{"", "CAP_", "CAP_ALL", "fly", "CAP_CAP_CHOWN", "net admin", "chown\x00"} {
		if got, err := NormalizeCap(bad); err == nil {
			t.Errorf("%q is %q", bad, got)
		}
	}
}

// TestCapabilities: what is dropped by name goes, what is added by name stays, whatever is said of all.
func TestCapabilities(t *testing.T) {
	all, err := sandbox.AllCapabilities()
	if err != nil {
		t.Fatal(err)
	}
	def := sandbox.DefaultCapabilities()
	without := func(list []string, drop ...string) []string {
		return slices.DeleteFunc(slices.Clone(list), func(c string) bool { return slices.Contains(drop, c) })
	}
	for _, c := range []struct {
		name string
		s    Confinement
		want []string
	}{
		{"default", Confinement{}, nil},
		{"add", Confinement{CapAdd: []string{"CAP_SYS_TIME"}}, append(slices.Clone(def), "CAP_SYS_TIME")},
		{"add what is there", Confinement{CapAdd: []string{"CAP_CHOWN"}}, def},
		{"drop", Confinement{CapDrop: []string{"CAP_NET_RAW", "CAP_SYS_TIME"}}, without(def, "CAP_NET_RAW")},
		{"drop all", Confinement{CapDrop: []string{"ALL"}}, []string{}},
		{"drop all, add one", Confinement{CapDrop: []string{"ALL"}, CapAdd: []string{"CAP_CHOWN"}}, []string{"CAP_CHOWN"}},
		{"add all", Confinement{CapAdd: []string{"ALL"}}, all},
		{"add all, drop one", Confinement{CapAdd: []string{"ALL"}, CapDrop: []string{"CAP_SYS_ADMIN"}}, without(all, "CAP_SYS_ADMIN")},
		{"add all and one by name, drop that", Confinement{CapAdd: []string{"ALL", "CAP_SYS_ADMIN"}, CapDrop: []string{"CAP_SYS_ADMIN"}}, without(all, "CAP_SYS_ADMIN")},
		{"add and drop all", Confinement{CapAdd: []string{"ALL"}, CapDrop: []string{"ALL"}}, []string{}},
		{"drop and add one", Confinement{CapAdd: []string{"CAP_CHOWN"}, CapDrop: []string{"CAP_CHOWN"}}, append(without(def, "CAP_CHOWN"), "CAP_CHOWN")},
		{"privileged", Confinement{Privileged: true, CapDrop: []string{"ALL"}}, all},
	} {
		got, err := (&Security{Confinement: c.s}).capabilities()
		slices.Sort(got)
		want := slices.Clone(c.want)
		slices.Sort(want)
		if err != nil || !slices.Equal(got, want) || (got == nil) != (want == nil) {
			t.Errorf("%s: %q, %v; want %q", c.name, got, err, want)
		}
	}
}

func TestSysctlNamespace(t *testing.T) {
	for key, want := range map[string]specs.LinuxNamespaceType{
		"kernel.msgmax": specs.IPCNamespace, "kernel/shmmax": specs.IPCNamespace, "fs.mqueue.msg_max": specs.IPCNamespace, "kernel.sem": specs.IPCNamespace,
		"net.ipv4.ip_forward": specs.NetworkNamespace, "net/ipv4/conf/eth0.1/forwarding": specs.NetworkNamespace, "kernel.domainname": specs.UTSNamespace,
	} {
		if got, err := SysctlNamespace(key); err != nil || got != want {
			t.Errorf("%q: %q, %v", key, got, err)
		}
	}
	for _, bad := range []string{"", "kernel.core_pattern", "kernel.hostname", "kernel.panic", "vm.swappiness", "fs.file-max", "net", "network.x", "net..ipv4", "net/../kernel/core_pattern",
		"net.ipv4.x\x00", "fs.mqueue", "kernel.msgmax.x", "../net.ipv4", "net/./../../kernel/panic"} {
		if got, err := SysctlNamespace(bad); err == nil {
			t.Errorf("%q is of the %s namespace", bad, got)
		}
	}
}

// FuzzSysctlNamespace: no name leads out of the part of /proc/sys that belongs to a namespace.
func FuzzSysctlNamespace(f *testing.F) {
	for _, s := range []string{"net.ipv4.ip_forward", "net/ipv4/conf/eth0.1/x", "net/../kernel/panic", "kernel.msgmax", "net.a./.b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, key string) {
		kind, err := SysctlNamespace(key)
		if err != nil {
			return
		}
		name := "/" + key // as the sandbox makes a path of it, below /proc/sys
		if !strings.Contains(key, "/") {
			name = "/" + strings.ReplaceAll(key, ".", "/")
		}
		clean := path.Clean(name)
		if kind == specs.NetworkNamespace && !strings.HasPrefix(clean+"/", "/net/") && !strings.HasPrefix(clean, "/net.") {
			t.Errorf("%q leads to %s", key, clean)
		}
	})
}

package main

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"testing"

	"nacre/internal/build"
	"nacre/internal/container"
	"nacre/internal/image"
)

func TestParseUlimits(t *testing.T) {
	const unlimited = math.MaxUint64
	for s, want := range map[string]build.Ulimit{
		"nofile=1024": {Soft: 1024, Hard: 1024}, "nofile=1024:4096": {Soft: 1024, Hard: 4096}, "core=0": {}, "core=-1": {Soft: unlimited, Hard: unlimited},
		"memlock=64:-1": {Soft: 64, Hard: unlimited}, "nproc=0:0": {},
	} {
		name, _, _ := strings.Cut(s, "=")
		got, err := parseUlimits([]string{s})
		if err != nil || len(got) != 1 || got[name] != want {
			t.Errorf("%q: %+v, %v; want %+v", s, got, err, want)
		}
	}
	if got, err := parseUlimits([]string{"core=1", "nofile=2", "core=3"}); err != nil || len(got) != 2 || got["core"].Soft != 3 {
		t.Errorf("of several the last: %+v, %v", got, err)
	}
	for _, bad := range []string{"", "nofile", "nofile=", "=1", "files=1", "nofile=2:1", "nofile=1:2:3", "nofile=-2", "nofile=1:-2", "nofile=x", "nofile=1:", "nofile=:1", "nofile=1k",
		"NOFILE=1", "nofile=18446744073709551616", "nofile=-1:5", "nofile =1", "nofile=1\x00"} {
		if got, err := parseUlimits([]string{bad}); err == nil {
			t.Errorf("%q is %+v", bad, got)
		}
	}
}

func FuzzParseUlimits(f *testing.F) {
	for _, s := range []string{"nofile=1024:4096", "core=-1", "nproc=5", "nofile=2:1", "x=1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		list, err := parseUlimits([]string{s})
		if err != nil {
			return
		}
		for name, u := range list {
			number := func(n uint64) string { return strconv.FormatInt(int64(n), 10) }
			printed := fmt.Sprintf("%s=%s:%s", name, number(u.Soft), number(u.Hard))
			if again, err := parseUlimits([]string{printed}); err != nil || again[name] != u || u.Soft > u.Hard {
				t.Errorf("%q is %+v, and printed as %s %+v, %v", s, u, printed, again, err)
			}
		}
	})
}

func TestParseSize(t *testing.T) {
	for s, want := range map[string]int64{"": 0, "0": 0, "64m": 64 << 20, "64M": 64 << 20, "1g": 1 << 30, "1.5k": 1536, "10": 10, "10b": 10, "2KiB": 2048, "7 mb": 7 << 20} {
		if got, err := parseSize("memory", s); err != nil || got != want {
			t.Errorf("%q: %d, %v", s, got, err)
		}
	}
	for _, bad := range []string{"-1", "-1m", "m", "huge", "1x", "1mm", "64m ", "0x10", "9999999999g", "99999999999999999999", "NaN", "Inf", "1\x00"} {
		if got, err := parseSize("memory", bad); err == nil {
			t.Errorf("%q is %d", bad, got)
		}
	}
}

func FuzzParseSize(f *testing.F) {
	for _, s := range []string{"64m", "1.5g", "-1", "9223372036854775807", "8388608t"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		n, err := parseSize("memory", s)
		if err != nil {
			return
		}
		if again, err := parseSize("memory", strconv.FormatInt(n, 10)); n < 0 || err != nil || n < 1<<53 && again != n {
			t.Errorf("%q is %d, and that %d, %v", s, n, again, err)
		}
	})
}

// resources are what flags of run come to.
func resources(change func(*resourceFlags)) (container.Resources, error) {
	f := resourceFlags{swappiness: -1}
	change(&f)
	var cfg container.Config
	err := f.apply(&cfg, image.Config{})
	return cfg.Resources, err
}

func TestCPUs(t *testing.T) {
	for s, want := range map[string]int64{"1": 100_000, "0.5": 50_000, "1.5": 150_000, ".01": 1000, "2e0": 200_000} {
		var l build.Limits
		if err := (&limitFlags{cpus: s}).applyCPU(&l); err != nil || l.CPUQuota != want || l.CPUPeriod != cfsPeriod {
			t.Errorf("%q: %+v, %v", s, l, err)
		}
	}
	for _, bad := range []string{"0", "-1", "0.001", "no", "NaN", "Inf", "1e99", "1,5", " 1", "2097153"} {
		if r, err := resources(func(f *resourceFlags) { f.cpus = bad }); err == nil {
			t.Errorf("%q is %+v", bad, r)
		}
	}
	for _, good := range []string{"0", "0-3", "0-3,5", "1,2,3", "7-7", "65535"} {
		var l build.Limits
		if err := (&limitFlags{cpuset: good}).applyCPU(&l); err != nil || l.CPUs != good {
			t.Errorf("%q: %+v, %v", good, l, err)
		}
	}
	for _, bad := range []string{",", "0,", "-", "3-1", "-1", "1-", "a", "0 1", "0-1-2", "65536", "0\n", "+1"} {
		if r, err := resources(func(f *resourceFlags) { f.cpuset = bad }); err == nil {
			t.Errorf("%q is %+v", bad, r)
		}
	}
}

// TestMachine: more than the machine has is refused, and nothing where nobody knows what it has.
func TestMachine(t *testing.T) {
	four := online{cpus: "0-3", nodes: "0"}
	for _, c := range []struct {
		m                  online
		cpus, cpuset, mems string
		want               string
	}{
		{four, "4", "0-3", "0", ""},
		{four, "3.99", "1,3", "", ""},
		{four, "4.01", "", "", "Range of CPUs is from 0.01 to 4.00, as there are only 4 CPUs available"},
		{four, "", "3-4", "", "Requested CPUs are not available - requested 3-4, available: 0-3"},
		{four, "", "", "1", "Requested memory nodes are not available - requested 1, available: 0"},
		{online{cpus: "0,2-3"}, "", "1", "", "requested 1, available: 0,2-3"},
		{online{}, "", "77", "5", ""},
	} {
		err := c.m.check(c.cpus, c.cpuset, c.mems)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%+v: %v, want %q", c, err, c.want)
		}
	}
}

func FuzzCPUs(f *testing.F) {
	for _, s := range []string{"1.5", "0-3,5", "NaN", "1e5", "0x1p4", "3-1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if r, err := resources(func(f *resourceFlags) { f.cpus = s }); err == nil && s != "" && (r.CPUQuota < 1000 || r.CPUPeriod != cfsPeriod) {
			t.Errorf("%q is %+v", s, r)
		}
		if checkList(s) == nil && strings.Trim(s, "0123456789,-") != "" {
			t.Errorf("%q is a list", s)
		}
	})
}

func TestMemoryRules(t *testing.T) {
	for _, c := range []struct {
		change func(*resourceFlags)
		err    string
	}{
		{func(f *resourceFlags) { f.memory, f.swap = "64m", "128m" }, ""},
		{func(f *resourceFlags) { f.memory, f.swap = "64m", "-1" }, ""},
		{func(f *resourceFlags) { f.memory, f.soft = "64m", "32m" }, ""},
		{func(f *resourceFlags) { f.memory, f.noKill = "64m", true }, ""},
		{func(f *resourceFlags) { f.pids = -1 }, ""},
		{func(f *resourceFlags) { f.memory = "5m" }, "6m at least"},
		{func(f *resourceFlags) { f.swap = "64m" }, "needs --memory"},
		{func(f *resourceFlags) { f.memory, f.swap = "64m", "32m" }, "it counts memory, too"},
		{func(f *resourceFlags) { f.memory, f.soft = "32m", "64m" }, "above --memory"},
		{func(f *resourceFlags) { f.memory = "8000000t" }, "too large"},
		{func(f *resourceFlags) { f.noKill = true }, "needs --memory"},
		{func(f *resourceFlags) { f.swappiness = 101 }, "0 to 100"},
		{func(f *resourceFlags) { f.weight = 9 }, "10 to 1000"},
		{func(f *resourceFlags) { f.oomScore = 1001 }, "-1000 to 1000"},
		{func(f *resourceFlags) { f.pids = -2 }, "want a number"},
		{func(f *resourceFlags) { f.parent = "a\x00b" }, "NUL"},
		{func(f *resourceFlags) { f.shares = -1 }, "2 or more"},
		{func(f *resourceFlags) { f.cpus, f.quota = "1", 1000 }, "give it or these"},
		{func(f *resourceFlags) { f.period = 999 }, "1000 to 1000000"},
	} {
		_, err := resources(c.change)
		if (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("error %v, want %q", err, c.err)
		}
	}
}

func TestSecurityOptions(t *testing.T) {
	for s, want := range map[string]container.Security{
		"no-new-privileges":       {NoNewPrivileges: true},
		"no-new-privileges:true":  {NoNewPrivileges: true},
		"no-new-privileges=false": {},
		"seccomp=unconfined":      {Confinement: container.Confinement{Seccomp: container.SeccompUnconfined}},
		"seccomp:unconfined":      {Confinement: container.Confinement{Seccomp: container.SeccompUnconfined}},
		"seccomp=builtin":         {},
		"systempaths=unconfined":  {Confinement: container.Confinement{OpenPaths: true}},
		"writable-cgroups=true":   {Confinement: container.Confinement{WritableCgroups: true}},
		"apparmor=unconfined":     {}, "label=disable": {}, "label:disable": {},
	} {
		var cfg container.Config
		err := (&confineFlags{options: []string{s}}).applyOptions(&cfg)
		got := cfg.Security
		if err != nil || got.NoNewPrivileges != want.NoNewPrivileges || got.Seccomp != want.Seccomp || got.OpenPaths != want.OpenPaths || got.WritableCgroups != want.WritableCgroups {
			t.Errorf("%q: %+v, %v", s, got, err)
		}
	}
	for _, bad := range []string{"", "=", "no-new-privileges=maybe", "no-new-privileges=", "seccomp", "seccomp=", "seccomp=/no/such/file", "seccomp=/dev/null", "systempaths", "systempaths=all",
		"writable-cgroups=x", "apparmor", "apparmor=docker-default", "label=type:x", "proc-opts=x", "NO-NEW-PRIVILEGES", "mask=/proc"} {
		var cfg container.Config
		if err := (&confineFlags{options: []string{bad}}).applyOptions(&cfg); err == nil || !strings.Contains(err.Error(), "--security-opt") {
			t.Errorf("%q: %+v, %v", bad, cfg.Security, err)
		}
	}
}

func TestGPUs(t *testing.T) {
	for s, want := range map[string]string{"all": "nvidia.com/gpu=all", "device=0": "nvidia.com/gpu=0", "device=0,1": "nvidia.com/gpu=0 nvidia.com/gpu=1", `"device=a,b"`: "nvidia.com/gpu=a nvidia.com/gpu=b"} {
		var cfg container.Config
		if err := (&confineFlags{gpus: s}).applyDevices(&cfg); err != nil || strings.Join(cfg.Security.CDI, " ") != want {
			t.Errorf("%q: %q, %v", s, cfg.Security.CDI, err)
		}
	}
	for _, bad := range []string{"2", "some", "count=1", "devices=0"} {
		var cfg container.Config
		if err := (&confineFlags{gpus: bad}).applyDevices(&cfg); err == nil {
			t.Errorf("%q is %q", bad, cfg.Security.CDI)
		}
	}
}

package sandbox

import (
	"fmt"
	"runtime"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// excluded is a profile with a rule that holds but where a condition does.
func excluded(kind, name string) string {
	return fmt.Sprintf(`{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{"names":["bpf"],"action":"SCMP_ACT_ALLOW","excludes":{%q:[%q]}}]}`, kind, name)
}

func TestLoadSeccomp(t *testing.T) {
	for name, c := range map[string]struct {
		text, err string
		caps      []string
		calls     int // that the profile has something to say about
	}{
		"least":           {text: `{"defaultAction":"SCMP_ACT_ALLOW"}`},
		"one":             {text: `{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir"],"action":"SCMP_ACT_ERRNO"}]}`, calls: 1},
		"old form":        {text: `{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"name":"mkdir","action":"SCMP_ACT_ERRNO"}]}`, calls: 1},
		"without right":   {text: `{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{"names":["bpf"],"action":"SCMP_ACT_ALLOW","includes":{"caps":["CAP_BPF"]}}]}`},
		"with right":      {text: `{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{"names":["bpf"],"action":"SCMP_ACT_ALLOW","includes":{"caps":["CAP_BPF"]}}]}`, caps: []string{"CAP_BPF"}, calls: 1},
		"other machine":   {text: `{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{"names":["bpf"],"action":"SCMP_ACT_ALLOW","includes":{"arches":["s390"]}}]}`},
		"without a right": {text: excluded("caps", "CAP_BPF"), calls: 1},
		"but with it":     {text: excluded("caps", "CAP_BPF"), caps: []string{"CAP_BPF"}},
		"but not here":    {text: excluded("arches", runtime.GOARCH)},
		"elsewhere":       {text: excluded("arches", "s390"), calls: 1},
		"old kernel":      {text: `{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{"names":["bpf"],"action":"SCMP_ACT_ALLOW","includes":{"minKernel":"4.8"}}]}`, calls: 1},
		"future kernel":   {text: `{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{"names":["bpf"],"action":"SCMP_ACT_ALLOW","includes":{"minKernel":"99.1"}}]}`},
		"both of two":     {text: `{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{"names":["bpf"],"action":"SCMP_ACT_ALLOW","includes":{"caps":["CAP_BPF","CAP_SYS_ADMIN"]}}]}`, caps: []string{"CAP_BPF"}},
		"two lists":       {text: `{"defaultAction":"SCMP_ACT_ERRNO","architectures":["SCMP_ARCH_X86_64"],"archMap":[{"architecture":"SCMP_ARCH_X86_64","subArchitectures":["SCMP_ARCH_X86"]}]}`, err: "architectures"},
		"two names":       {text: `{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"name":"mkdir","names":["mkdirat"],"action":"SCMP_ACT_ERRNO"}]}`, err: "name"},
		"no kernel":       {text: `{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{"names":["bpf"],"action":"SCMP_ACT_ALLOW","includes":{"minKernel":"new"}}]}`, err: "kernel"},
		"unknown call":    {text: `{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{"names":["no_such_call"],"action":"SCMP_ACT_ALLOW"}]}`, calls: 1},
		"empty":           {text: ``, err: "seccomp"},
		"null":            {text: `null`, err: "defaultAction"},
		"no object":       {text: `[]`, err: "seccomp"},
		"no default":      {text: `{}`, err: "no defaultAction"},
		"broken":          {text: `{"defaultAction":`, err: "unexpected end"},
		"action":          {text: `{"defaultAction":"SCMP_ACT_MAYBE"}`, err: "SCMP_ACT_MAYBE"},
		"rule's action":   {text: `{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir"],"action":"no"}]}`, err: `"no"`},
		"argument":        {text: `{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir"],"action":"SCMP_ACT_ERRNO","args":[{"index":6,"value":1,"op":"SCMP_CMP_EQ"}]}]}`, err: "no argument 6"},
		"operator":        {text: `{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir"],"action":"SCMP_ACT_ERRNO","args":[{"index":0,"value":1,"op":"LIKE"}]}]}`, err: "LIKE"},
		"architecture":    {text: `{"defaultAction":"SCMP_ACT_ALLOW","architectures":["SCMP_ARCH_VAX"]}`, err: "SCMP_ARCH_VAX"},
		"flag":            {text: `{"defaultAction":"SCMP_ACT_ALLOW","flags":["FLAG"]}`, err: "FLAG"},
		"listener":        {text: `{"defaultAction":"SCMP_ACT_ALLOW","listenerPath":"/x"}`, err: "listeners"},
		"large errno":     {text: `{"defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":70000}`, err: "too big"},
	} {
		p, err := LoadSeccomp(c.text, &specs.LinuxCapabilities{Bounding: c.caps})
		switch {
		case (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err):
			t.Errorf("%s: error %v, want %q", name, err, c.err)
		case err == nil && len(p.Syscalls) != c.calls:
			t.Errorf("%s: %+v, of %d calls", name, p, c.calls)
		}
	}
	if _, err := LoadSeccomp(`{"defaultAction":"SCMP_ACT_ALLOW"}`, nil); err != nil {
		t.Error(err)
	}
}

// FuzzLoadSeccomp: what is taken is a program that the kernel would take.
func FuzzLoadSeccomp(f *testing.F) {
	for _, s := range []string{
		`{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir","mkdirat"],"action":"SCMP_ACT_ERRNO","errnoRet":5}]}`,
		`{"defaultAction":"SCMP_ACT_ERRNO","archMap":[{"architecture":"SCMP_ARCH_X86_64","subArchitectures":["SCMP_ARCH_X86","SCMP_ARCH_X32"]}],"syscalls":[{"names":["clone"],"action":"SCMP_ACT_ALLOW","args":[{"index":0,"value":2114060288,"op":"SCMP_CMP_MASKED_EQ"}]}]}`,
		`{"defaultAction":"SCMP_ACT_LOG","flags":["SECCOMP_FILTER_FLAG_LOG"]}`, `{}`, `null`,
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		p, err := LoadSeccomp(text, &specs.LinuxCapabilities{Bounding: DefaultCapabilities()})
		if err != nil {
			return
		}
		code, err := seccompProgram(p)
		if err != nil || len(code) == 0 || len(code)%8 != 0 || len(code)/8 > 4096 {
			t.Errorf("a program of %d bytes, %v", len(code), err)
		}
		newFilter(t, p)
	})
}

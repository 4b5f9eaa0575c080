package sandbox

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// running starts a sandbox that sleeps and calls f with its first process; it ends with f.
func running(t *testing.T, change func(*Config), f func(spec *specs.Spec, s Started)) {
	t.Helper()
	ctx, end := context.WithCancelCause(t.Context())
	over := errors.New("over")
	r := startWithin(ctx, t, func(c *Config) {
		if change != nil {
			change(c)
		}
		c.Started = func(s Started) {
			go func() {
				defer end(over)
				f(c.Spec, s)
			}()
		}
	}, "sleep", "1000")
	if !errors.Is(r.err, over) {
		t.Errorf("sandbox: %v", r.err)
	}
}

// startWithin is start that ends with ctx.
func startWithin(ctx context.Context, t *testing.T, change func(*Config), args ...string) (r result) {
	c := Config{Spec: DefaultSpec(SpecOptions{Args: args, Env: []string{"PATH=/bin"}, Hostname: "inside"}), Root: newRoot(t)}
	change(&c)
	r.Status, r.err = Run(ctx, c)
	return r
}

// execute runs args in a sandbox.
func execute(t *testing.T, spec *specs.Spec, s Started, change func(*ExecConfig), args ...string) (r result) {
	t.Helper()
	p := *spec.Process
	p.Args = args
	var out, errs bytes.Buffer
	c := ExecConfig{Pid: s.Pid, Process: &p, Seccomp: spec.Linux.Seccomp, Cgroups: s.Cgroups, Stdout: &out, Stderr: &errs}
	if change != nil {
		change(&c)
	}
	r.Status, r.err = Exec(t.Context(), c)
	r.out, r.errs = out.String(), errs.String()
	return r
}

func TestExec(t *testing.T) {
	running(t, nil, func(spec *specs.Spec, s Started) {
		r := execute(t, spec, s, nil, "sh", "-c", "hostname; echo $PPID; cat /proc/1/comm; echo err >&2; exit 7")
		if r.err != nil || r.Code != 7 || r.out != "inside\n0\nsleep\n" || r.errs != "err\n" {
			t.Errorf("%+v", r)
		}
		r = execute(t, spec, s, func(c *ExecConfig) { c.Stdin = strings.NewReader("words\n") }, "cat")
		if r.err != nil || r.out != "words\n" {
			t.Errorf("input: %+v", r)
		}
		for args, code := range map[string]int{"nope": CodeNotFound, "/etc/passwd": CodeNotExecutable} {
			var start *StartError
			if r = execute(t, spec, s, nil, args); !errors.As(r.err, &start) || start.Code != code {
				t.Errorf("%s: %v, want code %d", args, r.err, code)
			}
		}
		r = execute(t, spec, s, func(c *ExecConfig) { c.Process.Terminal = true }, "tty")
		if r.err != nil || !strings.Contains(r.out, "/dev/pts/0") {
			t.Errorf("terminal: %+v (%v)", r, r.err)
		}
	})
}

// TestExecConfined compares what a further process may with the first one.
func TestExecConfined(t *testing.T) {
	running(t, nil, func(spec *specs.Spec, s Started) {
		const show = `for f in Cap NoNew Seccomp: Groups Uid; do grep $f /proc/$1/status; done`
		first := execute(t, spec, s, nil, "sh", "-c", show, "sh", "1")
		own := execute(t, spec, s, nil, "sh", "-c", show, "sh", "self")
		if first.out != own.out || !strings.Contains(own.out, "Seccomp:\t2") {
			t.Errorf("first process:\n%s\nfurther one:\n%s%s", first.out, own.out, own.errs)
		}
		r := execute(t, spec, s, nil, "sh", "-c", "ls -l /proc/self/fd | grep -c -- '->'; echo x 2>&1 >/proc/self/exe; ls /proc/1/root/")
		if !strings.HasPrefix(r.out, "3\n") { // that of ls itself is gone by then
			t.Errorf("descriptors: %+v", r)
		}
		user := execute(t, spec, s, func(c *ExecConfig) {
			c.Process.User = specs.User{UID: 33, GID: 34, AdditionalGids: []uint32{34, 35}}
			c.Process.Cwd = "/tmp"
		}, "sh", "-c", "id -u; id -G; pwd; grep CapEff /proc/self/status")
		if user.out != "33\n34 35\n/tmp\nCapEff:\t0000000000000000\n" {
			t.Errorf("user: %+v", user)
		}
	})
}

// TestExecHidden looks for what a sandbox could see of the copy that joins it: it runs many and tries to open
// the program of each process it does not know for writing.
func TestExecHidden(t *testing.T) {
	running(t, nil, func(spec *specs.Spec, s Started) {
		done := make(chan result)
		go func() {
			done <- execute(t, spec, s, nil, "sh", "-c", `n=0; while [ ! -e /tmp/stop ]; do for p in /proc/[0-9]*; do
				if ls -l $p/fd 2>/dev/null | grep -q ' [3-9] -> '; then case $(cat $p/cmdline 2>/dev/null | head -c 5) in nacre) echo fds of $p;; esac; fi
				case $(cat $p/cmdline 2>/dev/null | head -c 5) in nacre) (: >>$p/exe) 2>/dev/null && echo wrote to $p; cat $p/environ >/dev/null 2>&1 && echo read $p;; esac
			done; done`)
		}()
		for range 20 {
			if r := execute(t, spec, s, nil, "true"); r.err != nil {
				t.Error(r.err)
			}
		}
		if r := execute(t, spec, s, nil, "touch", "/tmp/stop"); r.err != nil {
			t.Error(r.err)
		}
		if r := <-done; strings.Contains(r.out, "wrote") || strings.Contains(r.out, "fds of") {
			t.Errorf("seen: %q", r.out)
		}
	})
}

func TestExecGone(t *testing.T) {
	var gone Started
	var spec *specs.Spec
	running(t, nil, func(sp *specs.Spec, s Started) { gone, spec = s, sp })
	if r := execute(t, spec, gone, nil, "true"); r.err == nil {
		t.Error("a process was run in a sandbox that is gone")
	}
}

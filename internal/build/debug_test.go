package build

import (
	"bytes"
	"context"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"nacre/internal/sandbox"
)

// shows has the bench's builds show failures to f.
func (b *bench) shows(f func(FailedStep)) *atomic.Int32 {
	var n atomic.Int32
	b.opts.Debug = func(_ context.Context, s FailedStep) {
		n.Add(1)
		f(s)
	}
	return &n
}

func TestDebug(t *testing.T) {
	b := newBench(t, nil).withBusybox()
	var out bytes.Buffer
	n := b.shows(func(s FailedStep) {
		if !s.Left || !slices.Equal(s.Shell, []string{"/bin/busybox", "sh"}) || !strings.HasSuffix(s.Step, "RUN echo x > /left; exit 4") {
			t.Errorf("shown: %+v", s)
		}
		s.Config.Spec.Process.Args = append(s.Shell, "-c", "cat /left; echo $A; pwd; echo mine > /left")
		s.Config.Stdout = &out
		if _, err := sandbox.Run(t.Context(), s.Config); err != nil {
			t.Error(err)
		}
	})
	const df = "FROM busybox\nENV A=b\nWORKDIR /w\nSHELL [\"/bin/busybox\", \"sh\", \"-c\"]\nRUN echo x > /left; exit 4\n"
	_, err := b.try(df)
	if err == nil || !strings.HasPrefix(err.Error(), "Dockerfile:5: ") || n.Load() != 1 {
		t.Fatalf("shown %d times, error %v", n.Load(), err)
	}
	if out.String() != "x\nb\n/w\n" {
		t.Errorf("the shell said %q", out.String())
	}
	// Nothing was kept: the step is executed again.
	b.opts.Debug = nil
	if again, err := b.try(strings.Replace(df, "echo x > /left; exit 4", "[ ! -e /left ]", 1)); err != nil {
		t.Errorf("%v: %s", err, again.log)
	}
}

// Steps that fail at once are shown once, and nobody waits for ever for the other; so are steps
// that are alike and were executed once for both.
func TestDebugTogether(t *testing.T) {
	for name, df := range map[string]string{
		"different": "FROM busybox AS a\nRUN exit 1\nFROM busybox AS b\nRUN exit 2\nFROM busybox AS c\nRUN sleep 600\nFROM busybox\nCOPY --from=a /bin /a\nCOPY --from=b /bin /b\nCOPY --from=c /bin /c\n",
		"alike":     "FROM busybox AS a\nRUN sleep 0.1; exit 1\nFROM busybox AS b\nRUN sleep 0.1; exit 1\nFROM busybox\nCOPY --from=a /bin /a\nCOPY --from=b /bin /b\n",
		"not a RUN": "FROM busybox AS a\nRUN sleep 600\nFROM busybox AS b\nCOPY absent /\nFROM busybox\nCOPY --from=a /bin /a\nCOPY --from=b /bin /b\n",
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, nil).withBusybox()
			n := b.shows(func(s FailedStep) {
				if s.Config.Spec == nil || s.Left == (name == "not a RUN") {
					t.Errorf("shown: %+v", s)
				}
			})
			if _, err := b.try(df); err == nil || n.Load() != 1 {
				t.Errorf("shown %d times, error %v", n.Load(), err)
			}
		})
	}
}

// A build that is called off shows nothing.
func TestDebugCancelled(t *testing.T) {
	b := newBench(t, nil).withBusybox()
	n := b.shows(func(FailedStep) {})
	ctx, cancel := context.WithCancel(t.Context())
	b.opts.Secret = func(string) ([]byte, error) { cancel(); return nil, nil }
	b.write(map[string]string{"Dockerfile": "FROM busybox\nRUN --mount=type=secret,id=x sleep 600\n"})
	b.opts.Context = b.dir
	if _, err := (Builder{Store: b.store, Cache: b.store.Cache()}).Build(ctx, b.opts); err == nil || n.Load() != 0 {
		t.Errorf("shown %d times, error %v", n.Load(), err)
	}
}

func TestInteractive(t *testing.T) {
	for in, want := range map[string]string{
		"/bin/sh -c": "/bin/sh", "/bin/bash -eo pipefail -c": "/bin/bash", "/bin/busybox sh -c": "/bin/busybox sh", "/usr/bin/env bash -c": "/usr/bin/env bash", "": "", "/bin/x": "/bin/x",
	} {
		if got := strings.Join(interactive(strings.Fields(in)), " "); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

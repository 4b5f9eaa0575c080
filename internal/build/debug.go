package build

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"

	"nacre/internal/graph"
	"nacre/internal/rootfs"
	"nacre/internal/sandbox"
)

// FailedStep is a step that failed, while its root is still there.
type FailedStep struct {
	Err  error  // what the build ends with
	Step string // `[2/3] RUN make`
	// Left tells that Config is the step's own, its root as the step left it. Otherwise it
	// is what a RUN in the place of the step would have found.
	Left bool
	// Config is all of a sandbox but its streams and Spec.Process.Args. Its Spec is nil where there is
	// no root to run in: NoRoot says why.
	Config sandbox.Config
	NoRoot error
	Shell  []string // of the stage, without what makes it execute one command (-c)
}

// debugger shows the first step that fails to Options.Debug.
type debugger struct {
	taken atomic.Bool
	// show stops the other steps and shows what make gives, with the build's context: that of
	// steps has ended. Nil where nobody wants to see.
	show func(err error, make func(context.Context) FailedStep)
}

// debugWith has failures shown as long as ctx, the build's, is there. fail stops the steps.
func (s *solver) debugWith(ctx context.Context, fail context.CancelCauseFunc) {
	if s.o.Debug == nil {
		return
	}
	s.debugger.show = func(err error, make func(context.Context) FailedStep) {
		if ctx.Err() != nil || !s.debugger.taken.CompareAndSwap(false, true) {
			return
		}
		// They would go on for nothing, as the build fails, and what they say would get in the way.
		fail(err)
		for range cap(s.slots) {
			s.slots <- struct{}{}
		}
		s.o.Debug(ctx, make(ctx))
		for range cap(s.slots) {
			<-s.slots
		}
	}
}

// debug lets the user look at the root of w, whose step failed with err.
func (w *work) debug(err error) {
	if w.debugger.show == nil {
		return
	}
	if _, exit := errors.AsType[*ExitError](err); exit && w.failed == nil {
		return // a step that is alike was executed for both, and has the root
	}
	w.debugger.show(err, func(ctx context.Context) FailedStep {
		f := FailedStep{Err: err, Step: w.step.Name, Left: w.failed != nil, Shell: interactive(w.step.Setting.Shell)}
		if f.Left {
			f.Config = *w.failed
		} else {
			f.Config, f.NoRoot = w.around(ctx)
		}
		return f
	})
}

// around is the sandbox of a RUN in the place of w's step.
func (w *work) around(ctx context.Context) (sandbox.Config, error) {
	p := w.parent()
	if p == nil || len(p.layers) == 0 {
		return sandbox.Config{}, errors.New("the stage has no files yet")
	}
	lower, err := w.rootFS(ctx, p.layers)
	if err != nil {
		return sandbox.Config{}, err
	}
	set := w.step.Setting
	op := &graph.Run{Env: set.Env, Dir: set.Dir, User: set.User, Network: w.o.Network}
	if w.Chroot {
		return w.aroundTree(ctx, op, lower)
	}
	net, _, err := w.network(ctx, op)
	if err != nil {
		return sandbox.Config{}, err
	}
	config, err := w.config(op, lower, net)
	if err != nil {
		return sandbox.Config{}, err
	}
	if config.Root, err = w.mount(ctx, lower); err != nil {
		return sandbox.Config{}, err
	}
	return config, nil
}

// aroundTree is around where nothing can be mounted.
func (w *work) aroundTree(ctx context.Context, op *graph.Run, lower *rootfs.FS) (sandbox.Config, error) {
	config, err := w.treeConfig(op, lower)
	if err != nil {
		return sandbox.Config{}, err
	}
	t, err := w.takeTree(ctx, lower)
	if err != nil {
		return sandbox.Config{}, err
	}
	w.temp = append(w.temp, func() { w.giveTree(t, false) })
	config.Tree = t.WorkTree
	return config, nil
}

// interactive is the shell of a SHELL: the words before its first flag, since flags say
// how one command is to be executed (-c, -eo pipefail).
func interactive(shell []string) []string {
	n := slices.IndexFunc(shell, func(word string) bool { return strings.HasPrefix(word, "-") })
	if n < 0 {
		n = len(shell)
	}
	return slices.Clone(shell[:n])
}

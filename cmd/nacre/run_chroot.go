package main

import (
	"context"
	"errors"
	"syscall"

	"nacre/internal/container"
	"nacre/internal/sandbox"

	"github.com/spf13/pflag"
)

// byChroot tells whether a run may do without a container: nothing of it is to stay.
func byChroot(fl *pflag.FlagSet) bool {
	remove, err := fl.GetBool("rm")
	detach, derr := fl.GetBool("detach")
	return err == nil && derr == nil && remove && !detach
}

// runByChroot is run where no container can be made: in the foreground, and nothing of it stays.
func (a *app) runByChroot(ctx context.Context, f *containerFlags, name string, args []string) error {
	_, cfg, err := a.imageFor(ctx, f, name)
	if err != nil {
		return err
	}
	want, err := f.config(cfg, args)
	if err != nil {
		return err
	}
	want.Layers = cfg.RootFS.DiffIDs
	o := container.ChrootOptions{Stdout: a.stdout.file, Stderr: a.stderr, Note: func(text string) { a.warnf("%s", text) }}
	if f.interactive {
		o.Stdin = a.stdin
	}
	// As for a container, interrupts are the program's to answer.
	ctx, kill := context.WithCancelCause(context.WithoutCancel(ctx))
	defer kill(nil)
	signals, stop := relay(ctx, int(a.stdin.Fd()), kill)
	defer stop()
	o.Signals = signals
	status, err := container.RunChroot(ctx, a.opened, want, o)
	if cause := context.Cause(ctx); cause != nil {
		return &exitError{128 + int(syscall.SIGKILL), cause}
	}
	if start, ok := errors.AsType[*sandbox.StartError](err); ok {
		return &exitError{code: start.Code, err: err}
	}
	if err != nil {
		return &exitError{code: sandbox.CodeSandbox, err: err}
	}
	if status.Code != 0 {
		return &exitError{code: status.Code}
	}
	return nil
}

package main

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"syscall"
	"time"

	"nacre/internal/sandbox"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/term"
)

// Why a container was ended that did not end itself.
var (
	errInsisted = errors.New("asked three times to end: the container was killed")
	errDeserted = errors.New("its terminal is gone: the container was killed")
)

// stopGrace is how long a container may go on after its terminal is gone; docker's for stop.
const stopGrace = 10 * time.Second

// run executes the container, with this process' streams and signals.
func (c *container) run(ctx context.Context, a *app, f runFlags) (sandbox.Status, error) {
	config := sandbox.Config{Spec: c.spec, Root: c.root, Files: c.files, Stdout: a.stdout.file, Stderr: a.stderr}
	if f.interactive {
		config.Stdin = a.stdin
	}
	if f.tty {
		restore, err := terminal(a, f, &config)
		if err != nil {
			return sandbox.Status{}, err
		}
		defer restore()
	}
	// Interrupts are the program's to answer: the context of the command, which they end, is not passed on.
	ctx, kill := context.WithCancelCause(context.WithoutCancel(ctx))
	defer kill(nil)
	signals, stop := relay(ctx, int(a.stdin.Fd()), kill)
	defer stop()
	config.Signals = signals
	status, err := sandbox.Run(ctx, config)
	for _, text := range status.Warnings {
		a.warnf("%s", text)
	}
	if cause := context.Cause(ctx); cause != nil {
		return status, &exitError{128 + int(syscall.SIGKILL), cause}
	}
	return status, err
}

// relay passes signals on to the container, until stop. A program that answers none must
// not hold a user for ever: the third that asks it to end kills it, as docker's
// client gives up at the third, and so does the loss of the terminal after a while.
func relay(ctx context.Context, stdin int, kill context.CancelCauseFunc) (to <-chan os.Signal, stop func()) {
	got, out := make(chan os.Signal, 16), make(chan os.Signal, 16)
	signal.Notify(got, heeded(syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT,
		syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGCONT)...)
	hadTerminal := term.IsTerminal(stdin)
	go func() {
		asked := 0
		for s := range got {
			select {
			case out <- s:
			default: // sixteen wait already
			}
			switch s {
			case syscall.SIGINT, syscall.SIGTERM:
				if asked++; asked == 3 {
					kill(errInsisted)
				}
			case syscall.SIGHUP:
				if hadTerminal && !term.IsTerminal(stdin) {
					time.AfterFunc(stopGrace, func() { kill(errDeserted) })
				}
			}
		}
	}()
	return out, func() {
		signal.Stop(got)
		close(got)
	}
}

// terminal connects this process' terminal, where there is one, to the container's.
func terminal(a *app, f runFlags, config *sandbox.Config) (restore func(), err error) {
	fd := int(a.stdin.Fd())
	if !term.IsTerminal(fd) {
		return func() {}, nil
	}
	cooked := func() {}
	if f.interactive { // else nobody would read the interrupt that is typed
		state, err := term.MakeRaw(fd)
		if err != nil {
			return nil, err
		}
		cooked = func() { term.Restore(fd, state) }
	}
	sizes, resized := make(chan sandbox.Size, 1), make(chan os.Signal, 1)
	send := func() {
		if w, h, err := term.GetSize(fd); err == nil {
			select {
			case sizes <- sandbox.Size{Width: w, Height: h}:
			default:
			}
		}
	}
	if w, h, err := term.GetSize(fd); err == nil {
		config.Spec.Process.ConsoleSize = &specs.Box{Width: uint(w), Height: uint(h)} // from its first moment
	}
	signal.Notify(resized, syscall.SIGWINCH)
	go func() {
		for range resized {
			send()
		}
	}()
	config.Resize = sizes
	return func() {
		signal.Stop(resized)
		close(resized)
		cooked()
	}, nil
}

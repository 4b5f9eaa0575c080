package main

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"syscall"
	"time"

	"nacre/internal/container"
	"nacre/internal/sandbox"

	"golang.org/x/term"
)

// Why a container was ended that did not end itself.
var (
	errInsisted = errors.New("asked three times to end: the container was killed")
	errDeserted = errors.New("its terminal is gone: the container was killed")
)

// stopGrace is how long a container may go on after its terminal is gone; docker's for stop.
const stopGrace = 10 * time.Second

// connect runs a container in this process and connects it to this process' streams and signals.
func (a *app) connect(ctx context.Context, c *container.Container, lock *container.Lock) (sandbox.Status, error) {
	s := container.Streams{Note: func(text string) { a.warnf("%s", text) }}
	if attached(c, "stdout") {
		s.Stdout = a.stdout.file
	}
	if attached(c, "stderr") {
		s.Stderr = a.stderr
	}
	if attached(c, "stdin") {
		s.Stdin = a.stdin
	}
	if c.Config.TTY {
		t, err := terminal(a, s.Stdin != nil)
		if err != nil {
			lock.Unlock()
			return sandbox.Status{}, err
		}
		defer t.restore()
		s.Size, s.Resize = t.size, t.resize
	}
	// Interrupts are the program's to answer: the context of the command, which they end, is not passed on.
	ctx, kill := context.WithCancelCause(context.WithoutCancel(ctx))
	defer kill(nil)
	signals, stop := relay(ctx, int(a.stdin.Fd()), kill)
	defer stop()
	s.Signals = signals
	status, err := c.Run(ctx, lock, s)
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

// tty is this process' terminal, given over to a container.
type tty struct {
	size    sandbox.Size // at the start
	resize  <-chan sandbox.Size
	restore func()
}

// terminal gives this process' terminal, where there is one, over to a container's.
func terminal(a *app, input bool) (tty, error) {
	fd := int(a.stdin.Fd())
	if !term.IsTerminal(fd) {
		return tty{restore: func() {}}, nil
	}
	cooked := func() {}
	if input { // else nobody would read the interrupt that is typed
		state, err := term.MakeRaw(fd)
		if err != nil {
			return tty{}, err
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
	t := tty{resize: sizes}
	if w, h, err := term.GetSize(fd); err == nil {
		t.size = sandbox.Size{Width: w, Height: h}
	}
	signal.Notify(resized, syscall.SIGWINCH)
	go func() {
		for range resized {
			send()
		}
	}()
	t.restore = func() {
		signal.Stop(resized)
		close(resized)
		cooked()
	}
	return t, nil
}

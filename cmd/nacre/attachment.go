package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"nacre/internal/container"

	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// attachment says how this process is connected to a container with a monitor of its own.
type attachment struct {
	stdin, stdout, stderr bool
	proxy                 bool   // signals are passed on
	keys                  string // that end the connection
	start                 bool   // it is started first, and its end is ours
}

func attachCommand(a *app) *cobra.Command {
	var noStdin bool
	o := attachment{stdout: true, stderr: true}
	cmd := &cobra.Command{
		Use:   "attach [OPTIONS] CONTAINER",
		Short: "Be connected to a running container: its output, its input, its exit code",
		Example: `  nacre attach shell
  nacre attach --no-stdin web`,
		Args:              exactArgs(1, "attach needs a container"),
		ValidArgsFunction: one(a.completeContainers(running)),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.container(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			switch {
			case c.State.Status == container.StatusPaused:
				return errors.New("You cannot attach to a paused container, unpause it first") //lint:ignore ST1005 docker's words
			case c.State.Status == container.StatusRestarting:
				return errors.New("You cannot attach to a restarting container, wait until it is running") //lint:ignore ST1005 docker's words
			case !c.State.Status.Alive():
				return errors.New("You cannot attach to a stopped container, start it first") //lint:ignore ST1005 docker's words
			}
			o.stdin = !noStdin && c.Config.OpenStdin
			return a.attachTo(cmd.Context(), c, o)
		},
	}
	fl := cmd.Flags()
	fl.BoolVar(&noStdin, "no-stdin", false, "do not pass standard input on")
	fl.BoolVar(&o.proxy, "sig-proxy", true, "pass signals on to the container")
	detachKeysVar(fl, &o.keys, "container")
	return cmd
}

// attachTo connects this process to a container that runs.
func (a *app) attachTo(ctx context.Context, c *container.Container, o attachment) error {
	return a.joined(ctx, c, o, func(at container.Attach) (*container.Attachment, error) { return c.Attach(ctx, at) })
}

// startAttached starts a container and connects this process to it.
func (a *app) startAttached(ctx context.Context, c *container.Container, o attachment) error {
	if c.State.Status.Alive() {
		return a.attachTo(ctx, c, o)
	}
	lock, err := untilFree(ctx, c)
	if err != nil {
		return err
	}
	if lock == nil {
		return a.attachTo(ctx, c, o)
	}
	return a.startLocked(ctx, c, lock, o)
}

// startLocked is startAttached of a container whose lock the caller has.
func (a *app) startLocked(ctx context.Context, c *container.Container, lock *container.Lock, o attachment) error {
	return a.joined(ctx, c, o, func(at container.Attach) (*container.Attachment, error) { return c.Start(ctx, lock, at) })
}

// joined connects this process to a container by a connection that connect makes, until one of the two ends.
func (a *app) joined(ctx context.Context, c *container.Container, o attachment, connect func(container.Attach) (*container.Attachment, error)) error {
	keys, err := a.detachKeys(o.keys)
	if err != nil {
		return err
	}
	fd := int(a.stdin.Fd())
	var t tty
	if c.Config.TTY {
		if o.stdin && !term.IsTerminal(fd) {
			return &hintError{errors.New("the input device is not a TTY"), "the container has a terminal: its input can be typed only"}
		}
		if t, err = terminal(a, o.stdin); err != nil {
			return err
		}
		defer t.restore()
	} else {
		keys = nil // without a terminal they are bytes like others, as in docker
	}
	at, err := connect(container.Attach{Stdin: o.stdin, Stdout: o.stdout, Stderr: o.stderr, Size: t.size, Whole: o.start})
	if err != nil {
		return startFailure(err)
	}
	defer at.Close()
	a.warnAll(at.Warnings)
	if t.resize != nil {
		go func() {
			for size := range t.resize {
				at.Resize(size)
			}
		}()
	}
	if o.proxy {
		defer a.passSignals(at, c)()
	}
	exit, err := at.Copy(a.streams(o, keys))
	return a.ended(ctx, c, o, exit, err)
}

func (a *app) streams(o attachment, keys []byte) (io.Reader, []byte, io.Writer, io.Writer) {
	var in io.Reader
	var out, errs io.Writer
	if o.stdin {
		in = a.stdin
	}
	if o.stdout {
		out = a.stdout.file
	}
	if o.stderr {
		errs = a.stderr
	}
	return in, keys, out, errs
}

// warnAll warns, one line each.
func (a *app) warnAll(list []string) {
	for _, text := range list {
		a.warnf("%s", text)
	}
}

// ended is what the end of a connection means for this process.
func (a *app) ended(ctx context.Context, c *container.Container, o attachment, exit container.Exit, err error) error {
	a.warnAll(exit.Warnings)
	switch {
	case errors.Is(err, container.ErrDetached):
		return nil
	case errors.Is(err, syscall.EPIPE):
		return nil // who read it has seen enough; the container goes on
	case err != nil && exit.Code != 0:
		return &exitError{exit.Code, err}
	case err != nil:
		return startFailure(err)
	case exit.Code != 0:
		return &exitError{code: exit.Code}
	}
	return nil
}

// passSignals passes signals on to a container, until stop. Who asks three times for an end, or loses the
// terminal, gets it: see relay.
func (a *app) passSignals(at *container.Attachment, c *container.Container) (stop func()) {
	got := make(chan os.Signal, 16)
	signal.Notify(got, heeded(syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT,
		syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGCONT)...)
	fd := int(a.stdin.Fd())
	hadTerminal := term.IsTerminal(fd)
	go func() {
		asked := 0
		for s := range got {
			at.Signal(s.(syscall.Signal))
			switch s {
			case syscall.SIGINT, syscall.SIGTERM:
				if asked++; asked == 3 {
					fmt.Fprintln(a.stderr, errInsisted)
					at.Signal(syscall.SIGKILL)
				}
			case syscall.SIGHUP:
				if hadTerminal && !term.IsTerminal(fd) && c.Config.Restart.None() {
					time.AfterFunc(stopGrace, func() { at.Signal(syscall.SIGKILL) })
				}
			}
		}
	}()
	return func() {
		signal.Stop(got)
		close(got)
	}
}

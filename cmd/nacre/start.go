package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"nacre/internal/container"

	"github.com/spf13/cobra"
)

func createCommand(a *app) *cobra.Command {
	var f containerFlags
	cmd := &cobra.Command{
		Use:   "create [OPTIONS] IMAGE [COMMAND] [ARG...]",
		Short: "Make a container and do not start it",
		Example: `  nacre create --name web -v "$PWD:/srv" nginx
  nacre start web`,
		Args:              minArgs(1, "create needs an image"),
		ValidArgsFunction: a.completeImage,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, _, err := a.newContainer(cmd.Context(), &f, args[0], args[1:], nil)
			if err != nil {
				return err
			}
			fmt.Fprintln(a.stdout, c.ID)
			return nil
		},
	}
	f.register(a, cmd.Flags())
	return cmd
}

func startCommand(a *app) *cobra.Command {
	var attach, interactive bool
	var keys string
	cmd := &cobra.Command{
		Use:               "start [OPTIONS] CONTAINER [CONTAINER...]",
		Short:             "Start containers that were created or have ended",
		Example:           "  nacre start web\n  nacre start -ai shell",
		Args:              minArgs(1, "start needs at least one container"),
		ValidArgsFunction: a.completeContainers(idle),
		RunE: func(cmd *cobra.Command, args []string) error {
			if !attach && !interactive {
				return a.eachContainer(cmd.Context(), args, true, func(c *container.Container) error { return a.start(cmd.Context(), c) })
			}
			if len(args) > 1 {
				return errors.New("you cannot start and attach multiple containers at once") // docker's words
			}
			c, err := a.container(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return a.startAttached(cmd.Context(), c, attachment{
				stdin: interactive && c.Config.OpenStdin, stdout: true, stderr: true, proxy: true, keys: keys, start: true,
			})
		},
	}
	fl := cmd.Flags()
	fl.BoolVarP(&attach, "attach", "a", false, "be connected to its output, pass signals on, and end with its exit code")
	fl.BoolVarP(&interactive, "interactive", "i", false, "pass standard input on")
	detachKeysVar(fl, &keys, "container")
	refuse(fl, false, "there are no checkpoints of containers", "checkpoint", "checkpoint-dir")
	return cmd
}

// start starts a container in the background. One that runs is left alone, as docker does it.
func (a *app) start(ctx context.Context, c *container.Container) error {
	switch c.State.Status {
	case container.StatusPaused:
		return fmt.Errorf("cannot start a paused container, try unpause instead")
	case container.StatusRunning, container.StatusRestarting:
		return nil
	}
	lock, err := untilFree(ctx, c)
	if err != nil {
		return err
	}
	if lock == nil {
		return a.startedByOther(ctx, c)
	}
	at, err := c.Start(ctx, lock, container.Attach{})
	if err != nil {
		return startFailure(err)
	}
	a.warnAll(at.Warnings)
	return at.Close()
}

// untilFree locks a container that is to be started. Others hold the lock while they start or remove it, or look why it
// ended; where it runs by then there is no lock, and no error.
func untilFree(ctx context.Context, c *container.Container) (*container.Lock, error) {
	for range 500 { // 5 s
		lock, err := c.TryLock(ctx)
		if !errors.Is(err, container.ErrRunning) {
			return lock, err
		}
		if c.Reload() == nil && c.State.Status.Alive() {
			return nil, nil
		}
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(10 * time.Millisecond):
		}
	}
	return nil, fmt.Errorf("container %s is being started or removed by another process", c.Name)
}

// startedByOther waits until whoever starts the container at this moment has done so.
func (a *app) startedByOther(ctx context.Context, c *container.Container) error {
	at, err := untilStarted(ctx, c)
	if err != nil {
		return err
	}
	return at.Close()
}

func untilStarted(ctx context.Context, c *container.Container) (*container.Attachment, error) {
	for range 500 { // 5 s
		at, err := c.Attach(ctx, container.Attach{})
		if err == nil || !errors.Is(err, container.ErrNotRunning) {
			return at, err
		}
		if err := c.Reload(); err != nil {
			return nil, err
		}
		time.Sleep(10 * time.Millisecond)
	}
	return nil, fmt.Errorf("container %s is being started or removed by another process", c.Name)
}

// startFailure is the error of a start with docker's exit code.
func startFailure(err error) error {
	var start *container.StartError
	if errors.As(err, &start) {
		return &exitError{code: start.Code, err: err}
	}
	return err
}

// stopFlags say how stop and restart end a container.
type stopFlags struct {
	signal  string
	timeout int
	changed func(string) bool
}

func (f *stopFlags) register(cmd *cobra.Command) {
	fl := cmd.Flags()
	f.changed = fl.Changed
	fl.StringVarP(&f.signal, "signal", "s", "", "signal to send (default: the container's --stop-signal, else SIGTERM)")
	fl.IntVarP(&f.timeout, "timeout", "t", 0, "seconds to wait before it is killed (default: its --stop-timeout, else 10; -1: for ever)")
	fl.IntVar(&f.timeout, "time", 0, "the same")
	fl.MarkHidden("time")
}

func (f *stopFlags) stop(ctx context.Context, c *container.Container) error {
	grace := c.Config.StopGrace()
	if f.changed("timeout") || f.changed("time") {
		grace = time.Duration(f.timeout) * time.Second
	}
	sig, err := container.ParseSignal(f.signal)
	if f.signal == "" {
		sig, err = 0, nil
	}
	if err != nil || !c.State.Status.Alive() && !c.Busy() {
		return err
	}
	return c.Stop(ctx, sig, grace)
}

func stopCommand(a *app) *cobra.Command {
	var f stopFlags
	cmd := &cobra.Command{
		Use:   "stop [OPTIONS] CONTAINER [CONTAINER...]",
		Short: "Stop containers: ask them to end, and kill them after a while",
		Long: `Send each container its stop signal, and SIGKILL if it has not ended some seconds later. A container
that was stopped is not started again by its restart policy.`,
		Example:           "  nacre stop web\n  nacre stop -t 60 db",
		Args:              minArgs(1, "stop needs at least one container"),
		ValidArgsFunction: a.completeContainers(alive),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.eachContainer(cmd.Context(), args, true, func(c *container.Container) error { return f.stop(cmd.Context(), c) })
		},
	}
	f.register(cmd)
	return cmd
}

func restartCommand(a *app) *cobra.Command {
	var f stopFlags
	cmd := &cobra.Command{
		Use:               "restart [OPTIONS] CONTAINER [CONTAINER...]",
		Short:             "Stop containers and start them again",
		Example:           "  nacre restart web\n  nacre restart -t 2 web db",
		Args:              minArgs(1, "restart needs at least one container"),
		ValidArgsFunction: a.completeContainers(nil),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.eachContainer(cmd.Context(), args, true, func(c *container.Container) error {
				if err := f.stop(cmd.Context(), c); err != nil {
					return err
				}
				if err := c.Reload(); err != nil {
					return err
				}
				return a.start(cmd.Context(), c)
			})
		},
	}
	f.register(cmd)
	return cmd
}

func killCommand(a *app) *cobra.Command {
	var name string
	cmd := &cobra.Command{
		Use:               "kill [OPTIONS] CONTAINER [CONTAINER...]",
		Short:             "Send a signal to containers, SIGKILL unless told otherwise",
		Example:           "  nacre kill web\n  nacre kill -s HUP web",
		Args:              minArgs(1, "kill needs at least one container"),
		ValidArgsFunction: a.completeContainers(alive),
		RunE: func(cmd *cobra.Command, args []string) error {
			sig, err := container.ParseSignal(name)
			if err != nil {
				return err
			}
			return a.eachContainer(cmd.Context(), args, true, func(c *container.Container) error {
				err := c.Signal(cmd.Context(), sig)
				if errors.Is(err, container.ErrNotRunning) {
					return fmt.Errorf("cannot kill container: %s: %w", c.Name, err)
				}
				return err
			})
		},
	}
	cmd.Flags().StringVarP(&name, "signal", "s", "KILL", "signal to send, by name or number")
	return cmd
}

func waitCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:               "wait CONTAINER [CONTAINER...]",
		Short:             "Wait until containers have ended, and print their exit codes",
		Example:           "  nacre wait job\n  nacre wait one two",
		Args:              minArgs(1, "wait needs at least one container"),
		ValidArgsFunction: a.completeContainers(alive),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.eachContainer(cmd.Context(), args, false, func(c *container.Container) error {
				exit, err := c.Wait(cmd.Context(), false)
				if err == nil {
					fmt.Fprintln(a.stdout, exit.Code)
				}
				return err
			})
		},
	}
}

func pauseCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:               "pause CONTAINER [CONTAINER...]",
		Short:             "Stop all processes of containers without ending them",
		Example:           "  nacre pause web\n  nacre unpause web",
		Args:              minArgs(1, "pause needs at least one container"),
		ValidArgsFunction: a.completeContainers(running),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.eachContainer(cmd.Context(), args, true, func(c *container.Container) error { return about(c.Pause(cmd.Context()), c) })
		},
	}
}

func unpauseCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:               "unpause CONTAINER [CONTAINER...]",
		Short:             "Let the processes of paused containers go on",
		Example:           "  nacre unpause web",
		Args:              minArgs(1, "unpause needs at least one container"),
		ValidArgsFunction: a.completeContainers(paused),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.eachContainer(cmd.Context(), args, true, func(c *container.Container) error { return about(c.Unpause(cmd.Context()), c) })
		},
	}
}

// about says which container an error is about, where it does not.
func about(err error, c *container.Container) error {
	if err == nil || strings.Contains(err.Error(), c.ID) {
		return err
	}
	return fmt.Errorf("container %s: %w", c.Name, err)
}

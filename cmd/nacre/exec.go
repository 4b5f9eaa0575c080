package main

import (
	"context"
	"errors"
	"syscall"

	"nacre/internal/container"

	"github.com/spf13/cobra"
	"golang.org/x/term"
)

type execFlags struct {
	interactive, tty, detach, privileged bool
	env, envFiles                        []string
	user, workdir, keys                  string
}

func execCommand(a *app) *cobra.Command {
	var f execFlags
	cmd := &cobra.Command{
		Use:   "exec [OPTIONS] CONTAINER COMMAND [ARG...]",
		Short: "Run one more program in a running container",
		Long: `Run one more program in a container that runs, confined as its first one is. The exit code is the
program's; 126 means that it could not be executed, 127 that it was not found. The program ends with the
container, and goes on where this command is killed.`,
		Example: `  nacre exec -it web sh
  nacre exec -u postgres -w /var/lib db psql -c 'select 1'
  nacre exec -d -e LEVEL=2 web /usr/local/bin/reindex`,
		Args:              minArgs(2, "exec needs a container and a command"),
		ValidArgsFunction: one(a.completeContainers(running)),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runExec(cmd.Context(), a, f, args[0], args[1:])
		},
	}
	fl := cmd.Flags()
	fl.SetInterspersed(false)
	fl.BoolVarP(&f.interactive, "interactive", "i", false, "pass standard input on")
	fl.BoolVarP(&f.tty, "tty", "t", false, "give the program a terminal")
	fl.BoolVarP(&f.detach, "detach", "d", false, "leave the program to itself, its output dropped")
	fl.BoolVar(&f.privileged, "privileged", false, "give it all capabilities")
	listVar(fl, &f.env, "env", "e", "NAME=VALUE; NAME alone takes the value from the environment")
	listVar(fl, &f.envFiles, "env-file", "", "file of such lines")
	fl.StringVarP(&f.user, "user", "u", "", "USER[:GROUP], names or numbers (default: the container's)")
	fl.StringVarP(&f.workdir, "workdir", "w", "", "working directory (default: the container's)")
	detachKeysVar(fl, &f.keys, "program")
	return cmd
}

func runExec(ctx context.Context, a *app, f execFlags, name string, args []string) error {
	env, err := parseEnv(f.envFiles, f.env)
	if err != nil {
		return err
	}
	keys, err := a.detachKeys(f.keys)
	if err != nil {
		return err
	}
	c, err := a.container(ctx, name)
	if err != nil {
		return err
	}
	o := container.ExecOptions{
		Args: args, Env: env, User: f.user, WorkingDir: f.workdir, Privileged: f.privileged,
		TTY: f.tty, Stdin: f.interactive && !f.detach, Detach: f.detach,
	}
	if f.detach {
		at, err := c.Exec(ctx, o)
		if err != nil {
			return startFailure(err)
		}
		at.Detach()
		return at.Close()
	}
	return a.execAttached(ctx, c, o, keys)
}

// execAttached runs a program in a container, connected to the streams of this process.
func (a *app) execAttached(ctx context.Context, c *container.Container, o container.ExecOptions, keys []byte) error {
	var t tty
	if o.TTY {
		if o.Stdin && !term.IsTerminal(int(a.stdin.Fd())) {
			return &hintError{errors.New("the input device is not a TTY"), "leave out -t to read from a pipe or file"}
		}
		var err error
		if t, err = terminal(a, o.Stdin); err != nil {
			return err
		}
		defer t.restore()
		o.Size = t.size
	} else {
		keys = nil // without a terminal they are bytes like others, as in docker
	}
	at, err := c.Exec(ctx, o)
	if err != nil {
		return startFailure(err)
	}
	defer at.Close()
	defer context.AfterFunc(ctx, func() { at.Close() })()
	if t.resize != nil {
		go func() {
			for size := range t.resize {
				at.Resize(size)
			}
		}()
	}
	exit, err := at.Copy(a.streams(attachment{stdin: o.Stdin, stdout: true, stderr: true}, keys))
	switch {
	case ctx.Err() != nil:
		return ctx.Err() // the program goes on, as in docker
	case errors.Is(err, container.ErrDetached), errors.Is(err, syscall.EPIPE):
		return nil
	case err != nil:
		return err
	case exit.Code != 0:
		return &exitError{code: exit.Code}
	}
	return nil
}

package main

import (
	"errors"
	"os"
	"os/signal"
	"syscall"

	"nacre/internal/bundle"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/spf13/cobra"
)

func runtimeRun(a *app, f *runtimeFlags) *cobra.Command {
	var b bundleFlags
	var detach, keep bool
	cmd := &cobra.Command{
		Use:     "run [OPTIONS] ID",
		Short:   "Make a container of a bundle, start it, wait for its end and remove it",
		Example: "  nacre runtime run --bundle ./bundle web",
		Args:    exactArgs(1, needsID),
		RunE: func(cmd *cobra.Command, args []string) error {
			r, id := f.runtime(), args[0]
			made, err := r.Create(cmd.Context(), id, b.bundle, b.options())
			if err != nil {
				return f.logged(err)
			}
			a.warnAll(made.Warnings)
			if err := r.Start(cmd.Context(), id); err != nil {
				r.Delete(cmd.Context(), id, true)
				return f.logged(err)
			}
			if detach {
				return nil
			}
			stop := passSignals(r, id)
			code, err := made.Wait()
			stop()
			if !keep {
				err = errors.Join(err, r.Delete(cmd.Context(), id, true))
			}
			return f.logged(exitWith(code, err))
		},
	}
	b.register(cmd)
	cmd.Flags().BoolVarP(&detach, "detach", "d", false, "do not wait for its end")
	cmd.Flags().BoolVar(&keep, "keep", false, "do not remove it at its end")
	return cmd
}

// exitWith is the exit code of a process as ours.
func exitWith(code int, err error) error {
	if err == nil && code != 0 {
		return &exitError{code: code}
	}
	return err
}

// passSignals passes on what asks us to end.
func passSignals(r bundle.Runtime, id string) (stop func()) {
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2)
	go func() {
		for s := range signals {
			r.Kill(id, s.(syscall.Signal), false)
		}
	}()
	return func() {
		signal.Stop(signals)
		close(signals)
	}
}

func runtimeExec(a *app, f *runtimeFlags) *cobra.Command {
	var b bundleFlags
	var detach bool
	var file string
	cmd := &cobra.Command{
		Use:     "exec [OPTIONS] ID [COMMAND] [ARG...]",
		Short:   "Run one more process in a container that runs",
		Example: "  nacre runtime exec web sh -c 'ps; id'",
		Args:    minArgs(1, needsID),
		RunE: func(cmd *cobra.Command, args []string) error {
			r := f.runtime()
			process, err := execProcess(r, file, args)
			if err != nil {
				return f.logged(err)
			}
			wait, err := r.Exec(cmd.Context(), args[0], process, b.options())
			if err != nil || detach {
				return f.logged(err)
			}
			return f.logged(exitWith(wait()))
		},
	}
	b.registerProcess(cmd)
	cmd.Flags().SetInterspersed(false)
	cmd.Flags().BoolVarP(&detach, "detach", "d", false, "do not wait for its end")
	cmd.Flags().StringVarP(&file, "process", "p", "", "file with the process, as JSON of the runtime spec, in place of a command")
	return cmd
}

func execProcess(r bundle.Runtime, file string, args []string) (*specs.Process, error) {
	if file != "" {
		return readProcess(file)
	}
	if len(args) < 2 {
		return nil, errors.New("want a command, or --process")
	}
	return r.Process(args[0], args[1:])
}

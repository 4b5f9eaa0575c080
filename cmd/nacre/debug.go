package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"nacre/internal/build"
	"nacre/internal/container"
	"nacre/internal/sandbox"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/term"
)

// debugShell is --debug-shell: what opens a shell in the root of a step that failed, on this process'
// streams. The display ends first, for the shell to have the terminal. Standard output is left to
// what the build makes, unless it is the only terminal.
func (a *app) debugShell(p progress) func(context.Context, build.FailedStep) {
	return func(ctx context.Context, s build.FailedStep) {
		p.close(s.Err)
		fmt.Fprintf(a.stderr, "\ndebug shell: %s failed\n  %s\n", printable(s.Step), printable(s.Err.Error()))
		if s.Config.Spec == nil {
			fmt.Fprintf(a.stderr, "there is no root to open a shell in: %v\n", s.NoRoot)
			return
		}
		where := "the root as the step left it"
		if !s.Left {
			where = "the root as it was before the step"
		}
		fmt.Fprintf(a.stderr, "this is %s, in %s; leave it with exit or Ctrl-D, and the build ends with the error\n\n", where, s.Config.Spec.Process.Cwd)
		if err := a.openShell(ctx, s); err != nil {
			fmt.Fprintf(a.stderr, "debug shell: %s\n", printable(err.Error()))
		}
		fmt.Fprintln(a.stderr)
	}
}

// openShell runs the first shell that is in the root. Its exit code is of no interest.
func (a *app) openShell(ctx context.Context, s build.FailedStep) error {
	var tried []string
	for _, shell := range [][]string{s.Shell, {"sh"}, {"/bin/sh"}} {
		name := strings.Join(shell, " ")
		if len(shell) == 0 || slices.Contains(tried, name) {
			continue
		}
		err := a.runShell(ctx, s.Config, shell)
		var start *sandbox.StartError
		if !errors.As(err, &start) || start.Code == sandbox.CodeSandbox {
			return err
		}
		tried = append(tried, name)
	}
	return fmt.Errorf("no shell can be executed in this root, neither %s", strings.Join(tried, " nor "))
}

func (a *app) runShell(ctx context.Context, config sandbox.Config, shell []string) error {
	spec, process := *config.Spec, *config.Spec.Process
	spec.Process, config.Spec = &process, &spec
	process.Args = shell
	config.Stdin, config.Stdout, config.Stderr = a.stdin, a.stderr, a.stderr
	if process.Terminal = term.IsTerminal(int(a.stdin.Fd())) && config.Tree == nil; process.Terminal {
		if !term.IsTerminal(int(a.stderr.Fd())) && term.IsTerminal(int(a.stdout.file.Fd())) {
			config.Stdout = a.stdout.file
		}
		if t := os.Getenv("TERM"); t != "" {
			process.Env = container.MergeEnv([]string{"TERM=" + t}, process.Env)
		}
		t, err := terminal(a, true)
		if err != nil {
			return err
		}
		defer t.restore()
		if t.size != (sandbox.Size{}) {
			process.ConsoleSize = &specs.Box{Width: uint(t.size.Width), Height: uint(t.size.Height)}
		}
		config.Resize = t.resize
	}
	_, err := sandbox.Run(ctx, config)
	return err
}

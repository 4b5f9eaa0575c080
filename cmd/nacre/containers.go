package main

import (
	"context"
	"fmt"

	"nacre/internal/container"

	"github.com/spf13/cobra"
)

// containerCommand groups the commands on containers as docker does.
func containerCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "container",
		Short:   "Run, list, stop and remove containers",
		Example: "  nacre container ls -a\n  nacre container prune -f",
		Args:    cobra.ArbitraryArgs,
		RunE:    group,
	}
	cmd.AddCommand(containerListCommand(a), containerInspectCommand(a), containerPruneCommand(a))
	for _, c := range containerVerbs {
		cmd.AddCommand(c.make(a))
	}
	return cmd
}

// containers gives access to the containers of the store.
func (a *app) containers(ctx context.Context) (*container.Containers, error) {
	s, err := a.store(ctx)
	if err != nil {
		return nil, err
	}
	return container.Open(ctx, s)
}

// container finds a container by name or ID.
func (a *app) container(ctx context.Context, name string) (*container.Container, error) {
	cs, err := a.containers(ctx)
	if err != nil {
		return nil, err
	}
	return cs.Find(ctx, name)
}

// eachContainer does f to containers one after the other, and goes on after one that fails. With say, the
// names of those it was done to are printed, as they were given.
func (a *app) eachContainer(ctx context.Context, names []string, say bool, f func(*container.Container) error) error {
	var failed several
	for _, name := range names {
		c, err := a.container(ctx, name)
		if err == nil {
			err = f(c)
		}
		if err != nil {
			if ctx.Err() != nil {
				return err
			}
			failed = append(failed, err)
			continue
		}
		if say {
			fmt.Fprintln(a.stdout, name)
		}
	}
	return failed.orNil()
}

// completeContainers completes names of containers that fit.
func (a *app) completeContainers(fit func(container.State) bool) cobra.CompletionFunc {
	return func(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
		cs, err := a.containers(cmd.Context())
		if err != nil {
			return nil, cobra.ShellCompDirectiveError
		}
		list, err := cs.List(cmd.Context())
		if err != nil {
			return nil, cobra.ShellCompDirectiveError
		}
		var names []string
		for _, c := range list {
			if fit == nil || fit(c.State) {
				names = append(names, c.Name)
			}
		}
		return names, cobra.ShellCompDirectiveNoFileComp
	}
}

// one completes the first argument alone.
func one(f cobra.CompletionFunc) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return f(cmd, args, prefix)
	}
}

func alive(s container.State) bool   { return s.Status.Alive() }
func idle(s container.State) bool    { return !s.Status.Alive() }
func running(s container.State) bool { return s.Status == container.StatusRunning }
func paused(s container.State) bool  { return s.Status == container.StatusPaused }

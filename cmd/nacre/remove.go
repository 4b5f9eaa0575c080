package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"nacre/internal/container"
	"nacre/internal/registry/store"

	"github.com/spf13/cobra"
)

func removeCommand(a *app) *cobra.Command {
	var force, volumes, link bool
	cmd := &cobra.Command{
		Use:               "rm [OPTIONS] CONTAINER [CONTAINER...]",
		Aliases:           []string{"remove"},
		Short:             "Remove containers",
		Example:           "  nacre rm web\n  nacre rm -f $(nacre ps -aq)",
		Args:              minArgs(1, "rm needs at least one container"),
		ValidArgsFunction: a.completeContainers(nil),
		RunE: func(cmd *cobra.Command, args []string) error {
			if link {
				return errors.New("--link: there are no links between containers here")
			}
			return a.eachContainer(cmd.Context(), args, true, func(c *container.Container) error {
				c.WithVolumes = volumes
				return a.remove(cmd.Context(), c, force)
			})
		},
	}
	fl := cmd.Flags()
	fl.BoolVarP(&force, "force", "f", false, "kill it if it runs; no error if it is not there")
	fl.BoolVarP(&volumes, "volumes", "v", false, "remove its anonymous volumes, too")
	fl.BoolVarP(&link, "link", "l", false, "refused: there are no links here")
	fl.MarkHidden("link")
	run := cmd.RunE
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		err := run(cmd, args)
		if !force {
			return err
		}
		return withoutAbsent(err, func(e error) { fmt.Fprintln(a.stderr, e) })
	}
	// -l is a flag of rm.
	fl.StringVar(&a.logLevel, "log-level", "info", "what to say besides results: error, warn, info or debug")
	return cmd
}

// withoutAbsent leaves out that something is not there, but tells note.
func withoutAbsent(err error, note func(error)) error {
	var list, left several
	if !errors.As(err, &list) {
		list = several{err}
	}
	for _, e := range list {
		switch {
		case errors.Is(e, container.ErrNotFound):
			note(e)
		case e != nil:
			left = append(left, e)
		}
	}
	return left.orNil()
}

// remove removes a container; with force one that runs is killed first.
func (a *app) remove(ctx context.Context, c *container.Container, force bool) error {
	for killed := false; ; killed = true {
		err := c.Remove(ctx)
		if killed && errors.Is(err, container.ErrNotFound) {
			return nil // it was to be removed at its end
		}
		if !errors.Is(err, container.ErrRunning) {
			return err
		}
		if !force {
			return &hintError{
				fmt.Errorf("cannot remove container %q: container is %s: %s", c.Name, doing(c), advice(c)),
				"nacre rm -f " + c.Name + " kills and removes it",
			}
		}
		if err := c.Stop(ctx, 9, 0); err != nil {
			if errors.Is(err, container.ErrNotFound) {
				return nil // it was to be removed at its end
			}
			return err
		}
	}
}

// doing is what keeps a container from being removed.
func doing(c *container.Container) string {
	if c.State.Status.Alive() {
		return string(c.State.Status)
	}
	return "running"
}

// advice is docker's.
func advice(c *container.Container) string {
	if c.State.Status == container.StatusPaused {
		return "unpause and then stop the container before removing or force remove"
	}
	return "stop the container before removing or force remove"
}

func renameCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:               "rename CONTAINER NEW_NAME",
		Short:             "Give a container another name",
		Example:           "  nacre rename quiet_turing web",
		Args:              exactArgs(2, "rename needs a container and its new name"),
		ValidArgsFunction: one(a.completeContainers(nil)),
		RunE: func(cmd *cobra.Command, args []string) error {
			name := strings.TrimPrefix(args[1], "/")
			if !container.ValidName(name) {
				return badName(args[1])
			}
			c, err := a.container(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if name == c.Name {
				return errors.New("Renaming a container with the same name as its current name") //lint:ignore ST1005 docker's words
			}
			return c.Rename(cmd.Context(), name)
		},
	}
}

func badName(name string) error {
	return fmt.Errorf("Invalid container name (%s), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed", name) //lint:ignore ST1005 docker's words
}

func containerPruneCommand(a *app) *cobra.Command {
	var f pruneFlags
	cmd := &cobra.Command{
		Use:     "prune [OPTIONS]",
		Short:   "Remove all containers that do not run",
		Example: "  nacre container prune -f\n  nacre container prune -f --filter until=24h",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if !f.force {
				if ok, err := a.confirm(cmd.Context(), "WARNING! This will remove all stopped containers."); err != nil || !ok {
					return err
				}
			}
			var o store.PruneOptions
			if err := f.apply(&o); err != nil {
				return err
			}
			freed, err := a.pruneContainers(cmd.Context(), o)
			if err != nil {
				return err
			}
			fmt.Fprintln(a.stdout, "Total reclaimed space:", fullSize(freed))
			return nil
		},
	}
	fl := cmd.Flags()
	fl.BoolVarP(&f.force, "force", "f", false, "do not ask")
	listVar(fl, &f.filters, "filter", "", "until=TIME, label=KEY[=VALUE] or label!=KEY[=VALUE]")
	return cmd
}

// pruneContainers removes the containers that do not run and fit o, and lists them in docker's words.
func (a *app) pruneContainers(ctx context.Context, o store.PruneOptions) (freed int64, err error) {
	cs, err := a.containers(ctx)
	if err != nil {
		return 0, err
	}
	list, err := cs.List(ctx)
	if err != nil {
		return 0, err
	}
	said := false
	for _, c := range list {
		if c.State.Status.Alive() || !o.Until.IsZero() && !c.Created.Before(o.Until) || !o.FitsLabels(c.Config.Labels) {
			continue
		}
		size := c.Size()
		err := c.Remove(ctx)
		if errors.Is(err, container.ErrRunning) || errors.Is(err, container.ErrNotFound) {
			continue
		}
		if err != nil {
			return freed, err
		}
		if !said {
			fmt.Fprintln(a.stdout, "Deleted Containers:")
			said = true
		}
		fmt.Fprintln(a.stdout, c.ID)
		freed += size
	}
	if said {
		fmt.Fprintln(a.stdout)
	}
	return freed, nil
}

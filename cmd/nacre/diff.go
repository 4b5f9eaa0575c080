package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"
)

func diffCommand(a *app) *cobra.Command {
	var f diffFlags
	cmd := &cobra.Command{
		Use:   "diff [OPTIONS] CONTAINER | A B",
		Short: "List what a container changed in its root, or what differs between two images",
		Long: `Of one container, list what it changed in its root, running or not: A is added, C changed, D deleted. What is
mounted in it is no part of that.

Of two, tell what B has otherwise than A: settings, history and files. Each is an image in the store, a container (container:NAME where
an image has that name, too), or a place as for copy: docker://NAME, oci:DIR[:TAG], oci-archive:FILE[:NAME], docker-archive:FILE[:NAME].`,
		Example: `  nacre diff web
  nacre diff web:1 web:2
  nacre diff --path /etc --stat web:1 docker://registry.example.com/team/web:2
  nacre diff --content /etc/passwd debian:12 container:web`,
		Args: cobra.MatchAll(minArgs(1, "diff needs a container, or two images"), maxArgs(2, "diff takes a container, or two images")),
		ValidArgsFunction: func(cmd *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
			names, directive := a.completeContainers(nil)(cmd, args, prefix)
			images, _ := a.completeImages(cmd, args, prefix)
			return append(names, images...), directive
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 2 {
				return runDiff(cmd.Context(), a, f, args[0], args[1])
			}
			if cmd.Flags().NFlag() > cmd.InheritedFlags().NFlag() {
				return &hintError{errors.New("these flags are for two images or containers"), "see " + cmd.CommandPath() + " --help"}
			}
			return diffContainer(cmd, a, args[0])
		},
	}
	f.register(cmd.Flags())
	return cmd
}

// diffContainer is docker's diff.
func diffContainer(cmd *cobra.Command, a *app, name string) error {
	c, err := a.container(cmd.Context(), name)
	if err != nil {
		return err
	}
	list, err := c.Diff(cmd.Context())
	if err != nil {
		return about(err, c)
	}
	for _, ch := range list {
		fmt.Fprintf(a.stdout, "%c %s\n", ch.Kind, ch.Path)
	}
	return nil
}

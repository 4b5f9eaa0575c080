package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

func diffCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "diff CONTAINER",
		Short: "List what a container changed in its root",
		Long: `List what a container changed in its root, running or not: A is added, C changed, D deleted. What is
mounted in it is no part of that.`,
		Example:           "  nacre diff web",
		Args:              exactArgs(1, "diff needs a container"),
		ValidArgsFunction: one(a.completeContainers(nil)),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.container(cmd.Context(), args[0])
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
		},
	}
}

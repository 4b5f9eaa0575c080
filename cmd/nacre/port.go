package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

func portCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:               "port CONTAINER [PRIVATE_PORT[/PROTO]]",
		Short:             "Show which ports of the host lead to a container",
		Example:           "  nacre port web\n  nacre port web 80/tcp",
		Args:              cobra.RangeArgs(1, 2),
		ValidArgsFunction: one(a.completeContainers(alive)),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.container(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if len(args) == 2 {
				return fmt.Errorf("no public port %q published for %s", args[1], c.Name)
			}
			return nil
		},
	}
}

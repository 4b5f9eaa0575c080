package main

import (
	"context"
	"errors"
	"io"

	"nacre/internal/build"
	"nacre/internal/container"

	"github.com/spf13/cobra"
	"golang.org/x/term"
)

func exportCommand(a *app) *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "export [OPTIONS] CONTAINER",
		Short: "Write a container's root as a tar archive",
		Long: `Write a container's root as a tar archive, running or not: its image with what it changed, without what is
mounted in it. The same files give the same bytes.`,
		Example:           "  nacre export -o root.tar web\n  nacre export web | nacre import - web:flat",
		Args:              exactArgs(1, "export needs a container"),
		ValidArgsFunction: one(a.completeContainers(nil)),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runExport(cmd.Context(), a, output, args[0])
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "", "file to write (default: standard output)")
	return cmd
}

func runExport(ctx context.Context, a *app, output, name string) error {
	if output == "" && term.IsTerminal(int(a.stdout.file.Fd())) {
		return errors.New("cowardly refusing to save to a terminal. Use the -o flag or redirect") // docker's words
	}
	c, err := a.container(ctx, name)
	if err != nil {
		return err
	}
	if output == "" {
		return a.exportTo(ctx, c, a.stdout)
	}
	return replaceFile(output, func(w io.Writer) error { return a.exportTo(ctx, c, w) })
}

func (a *app) exportTo(ctx context.Context, c *container.Container, w io.Writer) error {
	root, done, err := c.Snapshot(ctx, func(text string) { a.warnf("%s", text) })
	if err != nil {
		return about(err, c)
	}
	defer done()
	return build.WriteTar(ctx, a.opened, root, "", w)
}

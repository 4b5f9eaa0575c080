package main

import (
	"context"

	"nacre/internal/image"
	"nacre/internal/registry/store"

	"github.com/spf13/cobra"
)

// imageCommand groups the commands on images as docker does.
func imageCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "image",
		Short:   "List, show, name and remove images",
		Example: "  nacre image ls\n  nacre image inspect web:1",
		Args:    cobra.ArbitraryArgs,
		RunE:    group,
	}
	rm := rmiCommand(a)
	rm.Use, rm.Aliases = "rm [OPTIONS] IMAGE [IMAGE...]", []string{"remove"}
	cmd.AddCommand(imageListCommand(a), imageInspectCommand(a), historyCommand(a), tagCommand(a), rm,
		importCommand(a), saveCommand(a), loadCommand(a), buildCommand(a), imagePruneCommand(a), pullCommand(a), pushCommand(a))
	cmd.AddCommand(imageEdits(a)...)
	return cmd
}

// manifest reads the manifest and config of an image; p picks from an index, nil
// this machine's platform.
func (a *app) manifest(ctx context.Context, img store.Image, p *image.Platform) (image.Manifest, image.Config, error) {
	m, _, err := a.opened.Manifest(ctx, img, p)
	if err != nil {
		return m, image.Config{}, err
	}
	cfg, _, err := a.opened.Config(ctx, m.Config)
	return m, cfg, err
}

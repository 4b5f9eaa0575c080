package main

import (
	"github.com/spf13/cobra"
)

func builderCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "builder",
		Short:   "Look after the build cache: disk usage, cleaning up, moving it",
		Example: "  nacre builder du\n  nacre builder prune -f --filter id=go-build\n  nacre builder cache export -o caches.tar.zst go-build",
		Args:    cobra.ArbitraryArgs,
		RunE:    group,
	}
	cache := &cobra.Command{
		Use:     "cache",
		Short:   "Move what RUN --mount=type=cache keeps between machines",
		Example: "  nacre builder cache export -o caches.tar.zst\n  nacre builder cache import caches.tar.zst",
		Args:    cobra.ArbitraryArgs,
		RunE:    group,
	}
	cache.AddCommand(cacheExportCommand(a), cacheImportCommand(a))
	cmd.AddCommand(builderDuCommand(a), builderPruneCommand(a), cache)
	return cmd
}

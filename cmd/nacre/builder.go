package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"time"

	"nacre/internal/registry/store"

	"github.com/spf13/cobra"
	"golang.org/x/term"
)

func builderCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "builder",
		Short:   "Look after the build cache: disk usage, cleaning up, moving it",
		Example: "  nacre builder du\n  nacre builder prune -f --filter id=go-build\n  nacre builder cache export -o caches.tar.zst go-build",
		Args:    cobra.NoArgs,
	}
	cache := &cobra.Command{
		Use:     "cache",
		Short:   "Move what RUN --mount=type=cache keeps between machines",
		Example: "  nacre builder cache export -o caches.tar.zst\n  nacre builder cache import caches.tar.zst",
		Args:    cobra.NoArgs,
	}
	cache.AddCommand(cacheExportCommand(a), cacheImportCommand(a))
	cmd.AddCommand(builderDuCommand(a), builderPruneCommand(a), cache)
	return cmd
}

// builderRow is a line of builder du, as docker's templates know it.
type builderRow struct{ ID, CacheType, Description, Reclaimable, Size, LastUsedAt string }

func builderDuCommand(a *app) *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use:     "du",
		Short:   "Show what the build cache has: layers of steps, and cache mounts",
		Example: "  nacre builder du\n  nacre builder du --format '{{.ID}} {{.Size}}'",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := a.store(cmd.Context())
			if err != nil {
				return err
			}
			u, err := s.Usage(cmd.Context(), true)
			if err != nil {
				return err
			}
			if err := render(a.stdout, format, []column{
				{"ID", "ID"}, {"TYPE", "CacheType"}, {"RECLAIMABLE", "Reclaimable"}, {"SIZE", "Size"}, {"LAST USED", "LastUsedAt"}, {"DESCRIPTION", "Description"},
			}, builderRows(u, time.Now())); err != nil || format != "" {
				return err
			}
			fmt.Fprintf(a.stdout, "Reclaimable:\t%s\nTotal:\t\t%s\n",
				humanSize(u.Cache.Reclaimable+u.CacheDirs.Reclaimable), humanSize(u.Cache.Size+u.CacheDirs.Size))
			return nil
		},
	}
	cmd.Flags().StringVar(&format, "format", "", `"table", "json" or a Go template`)
	return cmd
}

// builderRows lists cache mounts, and layers, each once.
func builderRows(u store.Usage, now time.Time) []builderRow {
	var rows []builderRow
	for _, c := range u.CacheDirList {
		text := "mount " + c.ID
		if c.Variant != "" {
			text += " (" + c.Variant + ")"
		}
		rows = append(rows, builderRow{c.Name[:12], "exec.cachemount", text, strconv.FormatBool(!c.InUse), humanSize(c.Size), since(c.Used, now)})
	}
	seen := map[string]bool{}
	for _, c := range u.CacheList {
		if id := shortID(c.Layer); !seen[id] {
			seen[id] = true
			rows = append(rows, builderRow{id, "regular", "layer of a step", strconv.FormatBool(!c.Shared), humanSize(c.Size), since(c.Used, now)})
		}
	}
	return rows
}

func builderPruneCommand(a *app) *cobra.Command {
	var f pruneFlags
	var limits cacheLimits
	var verbose bool
	cmd := &cobra.Command{
		Use:     "prune [OPTIONS]",
		Short:   "Remove build cache and cache mounts, what was not used for longest first",
		Example: "  nacre builder prune -f --reserved-space 10GB\n  nacre builder prune -f --max-used-space 20GB --min-free-space 5GB\n  nacre builder prune -f --filter type=exec.cachemount --filter id=go-build",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			o := store.PruneOptions{Cache: true, CacheDirs: true, KeepShared: !f.all}
			var rest []string
			for _, filter := range f.filters {
				switch {
				case filter == "type=exec.cachemount":
					o.Cache = false
				case filter == "type=regular":
					o.CacheDirs = false
				case len(filter) > 3 && filter[:3] == "id=":
					o.CacheID, o.Cache = filter[3:], false
				default:
					rest = append(rest, filter)
				}
			}
			f.filters = rest
			if err := f.apply(&o); err != nil {
				return err
			}
			if len(o.Labels) > 0 {
				return errors.New("--filter label: the build cache has no labels; want until, id or type")
			}
			s, err := a.store(cmd.Context())
			if err != nil {
				return err
			}
			if o.KeepCache, err = limits.keep(cmd.Context(), s); err != nil {
				return err
			}
			if verbose {
				return a.pruneVerbosely(cmd.Context(), f.force, s, o)
			}
			return a.prune(cmd.Context(), f.force, "build cache", o)
		},
	}
	fl := cmd.Flags()
	fl.BoolVarP(&f.all, "all", "a", false, "also records of what images are made of")
	fl.BoolVarP(&f.force, "force", "f", false, "do not ask")
	fl.StringArrayVar(&f.filters, "filter", nil, "until=TIME, id=CACHE or type=regular|exec.cachemount")
	fl.BoolVar(&verbose, "verbose", false, "list what was removed, layer by layer")
	limits.register(fl)
	return cmd
}

func cacheExportCommand(a *app) *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "export [OPTIONS] [ID...]",
		Short: "Write cache mounts, by their IDs or all, to an archive (tar, zstd)",
		Example: "  nacre builder cache export -o caches.tar.zst\n" +
			"  nacre builder cache export go-build /root/.cache | ssh other nacre builder cache import",
		RunE: func(cmd *cobra.Command, ids []string) error {
			if file == "" && term.IsTerminal(int(a.stdout.file.Fd())) {
				return &hintError{errors.New("an archive is not for a terminal"), "name a file with -o, or redirect"}
			}
			s, err := a.store(cmd.Context())
			if err != nil {
				return err
			}
			export := func(w io.Writer) error {
				list, err := s.ExportCacheDirs(cmd.Context(), w, ids)
				for _, c := range list {
					fmt.Fprintf(a.stderr, "exported %s %s\n", c.ID, humanSize(c.Size))
				}
				return err
			}
			if file == "" {
				return export(a.stdout)
			}
			return replaceFile(file, export)
		},
	}
	cmd.Flags().StringVarP(&file, "output", "o", "", "file to write (default: standard output)")
	return cmd
}

func cacheImportCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:     "import [FILE]",
		Short:   "Read cache mounts from an archive; those of the same ID are replaced",
		Example: "  nacre builder cache import caches.tar.zst",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var in io.Reader = a.stdin
			if len(args) > 0 && args[0] != "-" {
				f, err := os.Open(args[0])
				if err != nil {
					return err
				}
				defer f.Close()
				in = f
			}
			s, err := a.store(cmd.Context())
			if err != nil {
				return err
			}
			list, err := s.ImportCacheDirs(cmd.Context(), in)
			for _, c := range list {
				fmt.Fprintf(a.stderr, "imported %s %s\n", c.ID, humanSize(c.Size))
			}
			return err
		},
	}
}

package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
)

func builderDuCommand(a *app) *cobra.Command {
	var format string
	var filters []string
	var verbose bool
	cmd := &cobra.Command{
		Use:   "du [OPTIONS]",
		Short: "Show what the build cache has: layers of steps, what ADD fetched, cache mounts, digests of contexts",
		Example: "  nacre builder du\n  nacre builder du --verbose --filter type=exec.cachemount\n" +
			"  nacre builder du --filter unused-for=720h --format '{{.ID}} {{.Size}} {{.Description}}'",
		Args: noArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if verbose && format != "" {
				return fmt.Errorf("--verbose and --format: want one of them")
			}
			now := time.Now()
			f, err := parseCacheFilter(filters, now)
			if err != nil {
				return err
			}
			rows, err := a.cacheRows(cmd.Context(), now)
			if err != nil {
				return err
			}
			return a.printCache(slices.DeleteFunc(rows, func(r cacheRow) bool { return !f.fits(r) }), format, verbose)
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&format, "format", "", `"table", "json" or a Go template`)
	listVar(fl, &filters, "filter", "", cacheFilters)
	fl.BoolVar(&verbose, "verbose", false, "show all that is known of each, and by what the cache is trimmed")
	return cmd
}

func (a *app) cacheRows(ctx context.Context, now time.Time) ([]cacheRow, error) {
	s, err := a.store(ctx)
	if err != nil {
		return nil, err
	}
	items, err := s.CacheItems(ctx, true)
	if err != nil {
		return nil, err
	}
	return cacheRows(items, now), nil
}

var cacheColumns = []column{
	{"ID", "ID"}, {"TYPE", "Type"}, {"RECLAIMABLE", "Reclaimable"}, {"SIZE", "Size"}, {"LAST USED", "LastUsedAt"}, {"DESCRIPTION", "Description"},
}

func (a *app) printCache(rows []cacheRow, format string, verbose bool) error {
	if verbose {
		if err := printCacheVerbose(a.stdout, rows); err != nil {
			return err
		}
		if p, err := a.cachePolicy(); err == nil {
			fmt.Fprintf(a.stdout, "Trimmed by:\t%s\n", p)
		}
	} else {
		shown := rows
		if format == "" || format == "table" {
			shown = slices.Clone(rows)
			for i := range shown {
				shown[i].Description = oneLine(shown[i].Description)
			}
		}
		if err := render(a.stdout, format, cacheColumns, shown); err != nil || format != "" {
			return err
		}
	}
	var shared, private, reclaimable int64
	for _, r := range rows {
		if r.Shared {
			shared += r.item.Size
		} else {
			private += r.item.Size
		}
		if r.Reclaimable {
			reclaimable += r.item.Size
		}
	}
	tw := tabwriter.NewWriter(a.stdout, 0, 8, 2, ' ', 0)
	if shared > 0 {
		fmt.Fprintf(tw, "Shared:\t%s\nPrivate:\t%s\n", humanSize(shared), humanSize(private))
	}
	fmt.Fprintf(tw, "Reclaimable:\t%s\nTotal:\t%s\n", humanSize(reclaimable), humanSize(shared+private))
	return tw.Flush()
}

// oneLine is text as a table has room for it.
func oneLine(text string) string {
	const width = 100
	if text = strings.Join(strings.Fields(text), " "); len([]rune(text)) > width {
		text = string([]rune(text)[:width-1]) + "…"
	}
	return text
}

// printCacheVerbose prints a block for each.
func printCacheVerbose(w io.Writer, rows []cacheRow) error {
	tw := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	for _, r := range rows {
		fmt.Fprintf(tw, "ID:\t%s\n", r.full)
		if len(r.parents) > 0 {
			fmt.Fprintf(tw, "Parents:\t%s\n", strings.Join(r.parents, " "))
		}
		fmt.Fprintf(tw, "Created at:\t%s\nMutable:\t%t\nReclaimable:\t%t\nShared:\t%t\nIn use:\t%t\nSize:\t%s\n", r.CreatedAt, r.Mutable, r.Reclaimable, r.Shared, r.InUse, r.Size)
		fmt.Fprintf(tw, "Description:\t%s\nLast used:\t%s\nType:\t%s\n\n", printable(strings.Join(strings.Fields(r.Description), " ")), r.LastUsedAt, r.Type)
	}
	return tw.Flush()
}

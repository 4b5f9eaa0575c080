package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"nacre/internal/cache/trim"
	"nacre/internal/registry/store"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// cachePrune is what builder prune is told.
type cachePrune struct {
	all, force, verbose        bool
	filters                    []string
	reserved, maxUsed, minFree string
}

func builderPruneCommand(a *app) *cobra.Command {
	var p cachePrune
	cmd := &cobra.Command{
		Use:   "prune [OPTIONS]",
		Short: "Remove build cache and cache mounts, what was not used for longest first",
		Example: "  nacre builder prune -f --reserved-space 10GB\n  nacre builder prune -f --max-used-space 20GB --min-free-space 10%\n" +
			"  nacre builder prune -f --filter unused-for=720h\n  nacre builder prune -f --filter type=exec.cachemount --filter id=go-build",
		Args: noArgs,
		RunE: func(cmd *cobra.Command, args []string) error { return p.run(cmd.Context(), a) },
	}
	p.register(cmd.Flags())
	return cmd
}

func (p *cachePrune) register(fl *pflag.FlagSet) {
	fl.BoolVarP(&p.all, "all", "a", false, "also records of what images are made of")
	fl.BoolVarP(&p.force, "force", "f", false, "do not ask")
	listVar(fl, &p.filters, "filter", "", cacheFilters)
	fl.BoolVar(&p.verbose, "verbose", false, "list what was removed, one by one")
	fl.StringVar(&p.reserved, "reserved-space", "", "keep what was used last, up to this size or share of the disk, whatever else is asked for")
	fl.StringVar(&p.reserved, "keep-storage", "", "the older name of --reserved-space")
	fl.StringVar(&p.maxUsed, "max-used-space", "", "remove until the cache takes no more than this")
	fl.StringVar(&p.minFree, "min-free-space", "", "remove until this much of the disk is free")
}

// limits are those of the flags, on a disk of that size. A --max-used-space of 0 has everything go, as none at all has.
func (p *cachePrune) limits(disk int64) (l trim.Limits, err error) {
	for _, f := range []struct {
		flag, value string
		to          *int64
	}{
		{"--reserved-space", p.reserved, &l.Reserved}, {"--max-used-space", p.maxUsed, &l.MaxUsed}, {"--min-free-space", p.minFree, &l.MinFree},
	} {
		if f.value == "" {
			continue
		}
		share, err := trim.ParseShare(f.value)
		if err != nil {
			return l, &exitError{125, fmt.Errorf("%s: %w", f.flag, err)} // docker's code of a flag that cannot be
		}
		*f.to = share.Of(disk)
	}
	return l, nil
}

func (p *cachePrune) run(ctx context.Context, a *app) error {
	now := time.Now()
	filter, err := parseCacheFilter(p.filters, now)
	if err != nil {
		return err
	}
	if _, err := p.limits(0); err != nil {
		return err
	}
	if !p.force {
		if ok, err := a.confirm(ctx, p.warning()); err != nil || !ok {
			return err
		}
	}
	s, err := a.store(ctx)
	if err != nil {
		return err
	}
	disk, _, err := s.Disk()
	if err != nil {
		return err
	}
	limits, err := p.limits(disk)
	if err != nil {
		return err
	}
	rows, err := a.cacheRows(ctx, now)
	if err != nil {
		return err
	}
	take := map[string]bool{}
	items := make([]store.CacheItem, len(rows))
	for i, r := range rows {
		items[i] = r.item
		take[r.full] = filter.fits(r) && (p.all || !r.Shared)
	}
	gone, err := s.ChooseCache(items, limits, func(c store.CacheItem) bool { return take[c.ID] })
	if err != nil {
		return err
	}
	removed, err := s.DropCache(ctx, gone)
	if err != nil {
		return err
	}
	left, err := s.Prune(ctx, store.PruneOptions{}) // of processes that died
	if err != nil {
		return err
	}
	return p.print(a, rows, removed, left.Bytes)
}

// warning is what is asked about, in docker's words.
func (p *cachePrune) warning() string {
	what := "all build cache that no image has as well"
	if p.all {
		what = "all build cache"
	}
	if len(p.filters) > 0 {
		what += " that the filters choose"
	}
	if p.reserved != "" || p.maxUsed != "" || p.minFree != "" {
		what += ", within the limits given"
	}
	return "WARNING! This will remove " + what + "."
}

func (p *cachePrune) print(a *app, rows []cacheRow, removed store.CacheRemoved, more int64) error {
	removed.Bytes += more
	gone := map[string]bool{}
	for _, c := range removed.Items {
		gone[c.ID] = true
	}
	if p.verbose {
		rows = slices.DeleteFunc(rows, func(r cacheRow) bool { return !gone[r.full] })
		for i := range rows {
			rows[i].Description = oneLine(rows[i].Description)
		}
		if err := render(a.stdout, "", cacheColumns, rows); err != nil {
			return err
		}
		fmt.Fprintln(a.stdout)
	}
	printPrunedCache(a, removed)
	return nil
}

// printPrunedCache says how much was removed, and lists what can be made again least easily.
func printPrunedCache(a *app, r store.CacheRemoved) {
	if r.Records > 0 {
		fmt.Fprintf(a.stdout, "Deleted build cache: %d records\n", r.Records)
	}
	mounts := 0
	for _, c := range r.Items {
		if c.Kind != store.CacheMount {
			continue
		}
		if mounts++; mounts == 1 {
			fmt.Fprintln(a.stdout, "Deleted Cache Mounts:")
		}
		fmt.Fprintln(a.stdout, c.Mount.ID)
	}
	if r.Records+mounts > 0 {
		fmt.Fprintln(a.stdout)
	}
	fmt.Fprintln(a.stdout, "Total reclaimed space:", fullSize(r.Bytes))
}

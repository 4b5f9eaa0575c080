package main

import (
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"nacre/internal/registry/store"

	"github.com/docker/go-units"
	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"
)

// cacheLimits say how much of the build cache stays, in buildx's words.
type cacheLimits struct{ reserved, maxUsed, minFree string }

func (l *cacheLimits) register(fl *pflag.FlagSet) {
	fl.StringVar(&l.reserved, "reserved-space", "", "keep what was used last, up to this size, whatever else is asked for")
	fl.StringVar(&l.reserved, "keep-storage", "", "the older name of --reserved-space")
	fl.StringVar(&l.maxUsed, "max-used-space", "", "remove until the cache takes no more than this")
	fl.StringVar(&l.minFree, "min-free-space", "", "remove until this much of the disk is free")
}

// keep is how many bytes of the cache stay.
func (l *cacheLimits) keep(ctx context.Context, s *store.Store) (int64, error) {
	var n [3]int64
	for i, f := range []struct{ flag, value string }{
		{"--reserved-space", l.reserved}, {"--max-used-space", l.maxUsed}, {"--min-free-space", l.minFree},
	} {
		if f.value == "" {
			continue
		}
		var err error
		if n[i], err = units.RAMInBytes(f.value); err != nil || n[i] < 0 {
			return 0, fmt.Errorf("%s %q: want a size, such as 10GB", f.flag, f.value)
		}
	}
	if l.maxUsed == "" && l.minFree == "" {
		return n[0], nil
	}
	u, err := s.Usage(ctx, false)
	if err != nil {
		return 0, err
	}
	var disk unix.Statfs_t
	if err := unix.Statfs(s.Root(), &disk); err != nil {
		return 0, fmt.Errorf("free space of %s: %w", s.Root(), err)
	}
	return kept(u.Cache.Size+u.CacheDirs.Size, int64(disk.Bavail)*disk.Bsize, n[0], n[1], n[2]), nil
}

// kept is how much of used bytes stays, of a disk with free bytes: no more than maxUsed where that is not 0, less where
// minFree bytes are to be free, but never less than reserved. Where nothing has to go it is more than any cache has: what images
// share with the cache is not in used.
func kept(used, free, reserved, maxUsed, minFree int64) int64 {
	keep := int64(math.MaxInt64)
	if maxUsed > 0 && used > maxUsed {
		keep = maxUsed
	}
	if lack := minFree - free; lack > 0 {
		keep = min(keep, used-lack)
	}
	return max(keep, reserved, 0)
}

// pruneVerbosely is prune with a list of what went.
func (a *app) pruneVerbosely(ctx context.Context, force bool, s *store.Store, o store.PruneOptions) error {
	before, err := s.Usage(ctx, true)
	if err != nil {
		return err
	}
	if err := a.prune(ctx, force, "build cache", o); err != nil {
		return err
	}
	after, err := s.Usage(ctx, true)
	if err != nil {
		return err
	}
	now := time.Now()
	left := builderRows(after, now)
	gone := slices.DeleteFunc(builderRows(before, now), func(r builderRow) bool {
		return slices.ContainsFunc(left, func(l builderRow) bool { return l.ID == r.ID })
	})
	return render(a.stdout, "", []column{{"ID", "ID"}, {"TYPE", "CacheType"}, {"SIZE", "Size"}, {"LAST USED", "LastUsedAt"}, {"DESCRIPTION", "Description"}}, gone)
}

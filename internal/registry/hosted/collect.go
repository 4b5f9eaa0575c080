package hosted

import (
	"context"
	"fmt"
	"time"

	"nacre/internal/registry/store"
)

// CollectOptions of Collect.
type CollectOptions struct {
	DryRun bool // only report
}

// Report says what Collect did, or would do.
type Report struct {
	Tags []Verdict // of repositories with a rule
	// Parts is how many blobs and manifests repositories lost. A dry run counts those that nothing refers to now.
	Parts int
	// What nothing at all needs any more, and was removed from the store. A dry run lists what could go at once.
	store.Removed
}

// longGrace is more than the grace of anybody who collects this store. What stays longer was recorded while
// the clock was ahead, and would stay for years.
const longGrace = 60 * 24 * time.Hour

// Collect applies the rules of retention, and then removes what nothing refers to and whose time of
// grace is over, while others push and pull: they wait for some milliseconds at most. Whatever is
// being pushed, or was said to be there by Has, Stat or Mount, stays for the time of grace.
func (r *Registry) Collect(ctx context.Context, o CollectOptions) (Report, error) {
	if err := r.writable(); err != nil {
		return Report{}, err
	}
	var report Report
	var err error
	if report.Tags, err = r.Retain(ctx, o.DryRun); err != nil {
		return report, fmt.Errorf("collect: %w", err)
	}
	if !o.DryRun {
		now := r.o.Clock()
		if err := r.s.BoundParts(ctx, now.Add(max(r.o.Grace, longGrace)), forEver, now.Add(r.o.Grace)); err != nil {
			return report, fmt.Errorf("collect: %w", err)
		}
	}
	if report.Parts, err = r.s.ExpireParts(ctx, r.o.Clock(), o.DryRun); err != nil {
		return report, fmt.Errorf("collect: %w", err)
	}
	if report.Removed, err = r.s.CollectOnline(ctx, o.DryRun); err != nil {
		return report, fmt.Errorf("collect: %w", err)
	}
	return report, nil
}

// Used is how many bytes count for the quota of a repository.
func (r *Registry) Used(ctx context.Context, repo string) (int64, error) {
	in, err := r.names.repo(repo)
	if err != nil {
		return 0, err
	}
	return r.s.PartBytes(ctx, in.Name)
}

package store

import (
	"context"
	"errors"
	"slices"
	"time"

	"nacre/internal/registry"

	"github.com/opencontainers/go-digest"
)

// PruneImages says which images Prune removes.
type PruneImages int

// Which images to prune.
const (
	PruneNone     PruneImages = iota
	PruneDangling             // those without a name
	PruneAll                  // all that no container and no named lease holds
)

// PruneOptions of Prune. The zero value removes only leftovers.
type PruneOptions struct {
	Images PruneImages
	// Until, where not zero, spares images created at or after it.
	Until time.Time
	// Labels that an image must have, or must not have, to be removed.
	Labels []LabelFilter
}

// LabelFilter is fulfilled by a label Key, of the value Value where that is
// not empty; with Not, by its absence.
type LabelFilter struct {
	Key, Value string
	Not        bool
}

func (f LabelFilter) fits(labels map[string]string) bool {
	v, ok := labels[f.Key]
	return (ok && (f.Value == "" || f.Value == v)) != f.Not
}

// PruneReport says what Prune removed.
type PruneReport struct {
	Images []PrunedImage // in the order they went
	Removed
}

// PrunedImage is an image that Prune removed, with what went with it.
type PrunedImage struct {
	ID       digest.Digest
	Untagged []registry.Ref
	// Layers that are gone, those added last first. One that several images had is with the last of them.
	Layers []digest.Digest
}

// Prune removes images as asked, and then every blob and layer that nothing needs, with what processes that
// died have left.
func (s *Store) Prune(ctx context.Context, o PruneOptions) (PruneReport, error) {
	var report PruneReport
	if err := s.writable(); err != nil {
		return report, err
	}
	err := s.freeing(func() error {
		report = PruneReport{}
		return s.updateDurably(ctx, func(tx querier) error {
			if err := s.dropDeadLeases(ctx, tx); err != nil {
				return err
			}
			if err := s.expireParts(ctx, tx); err != nil {
				return err
			}
			if err := pruneOrigins(ctx, tx); err != nil {
				return err
			}
			return s.pruneImages(ctx, tx, o, &report)
		})
	})
	if err != nil {
		return PruneReport{}, err
	}
	report.Removed, err = s.collectAll(ctx)
	if err != nil {
		return report, err
	}
	report.keepGone()
	strays, err := s.removeStrays(ctx)
	report.Bytes += strays
	report.Bytes += s.prunePartials(func(time.Time, int64) bool { return false })
	err = errors.Join(err, s.sweep(ctx))
	s.keepReserve()
	return report, err
}

// pruneImages goes over the images until none is left to remove: one may become
// removable because its last child went.
func (s *Store) pruneImages(ctx context.Context, tx querier, o PruneOptions, report *PruneReport) error {
	at := map[digest.Digest]int{} // in report.Images
	for again := o.Images != PruneNone; again; {
		again = false
		images, err := s.images(ctx, tx, "")
		if err != nil {
			return err
		}
		for _, img := range images {
			if !o.takes(img) {
				continue
			}
			if user, err := s.holder(ctx, tx, img.Target.Digest); err != nil {
				return err
			} else if user.is() {
				continue
			}
			layers, err := layersOf(ctx, tx, img.Target.Digest)
			if err != nil {
				return err
			}
			if err := deleteImage(ctx, tx, img.Target.Digest); err != nil {
				return err
			}
			i, ok := at[img.ID]
			if !ok {
				i = len(report.Images)
				at[img.ID] = i
				report.Images = append(report.Images, PrunedImage{ID: img.ID})
			}
			p := &report.Images[i]
			p.Untagged, p.Layers = append(p.Untagged, img.Names...), append(p.Layers, layers...)
			again = again || img.Parent != ""
		}
	}
	return nil
}

// layersOf lists the layers that a manifest or index refers to and that are here, those added last first.
func layersOf(ctx context.Context, tx querier, d digest.Digest) ([]digest.Digest, error) {
	return texts[digest.Digest](ctx, tx, `WITH RECURSIVE need (d) AS (SELECT ?1
		UNION SELECT dst FROM need CROSS JOIN edge ON src = d
		UNION SELECT layer FROM need CROSS JOIN blob ON digest = d WHERE layer IS NOT NULL)
		SELECT diffid FROM need CROSS JOIN layer ON diffid = d ORDER BY added DESC, diffid`, d)
}

// keepGone leaves of the images' layers those that are gone, each with the last image that had it.
func (r *PruneReport) keepGone() {
	left := make(map[digest.Digest]bool, len(r.Removed.Layers))
	for _, d := range r.Removed.Layers {
		left[d] = true
	}
	for i := len(r.Images) - 1; i >= 0; i-- {
		r.Images[i].Layers = slices.DeleteFunc(r.Images[i].Layers, func(d digest.Digest) bool {
			gone := left[d]
			delete(left, d)
			return !gone
		})
	}
}

func (o PruneOptions) takes(img Image) bool {
	if o.Images == PruneDangling && !img.Dangling {
		return false
	}
	if img.Children > 0 || (!o.Until.IsZero() && !img.Created.Before(o.Until)) {
		return false
	}
	return o.FitsLabels(img.Labels)
}

// FitsLabels tells whether all of o.Labels are fulfilled.
func (o PruneOptions) FitsLabels(labels map[string]string) bool {
	for _, f := range o.Labels {
		if !f.fits(labels) {
			return false
		}
	}
	return true
}

// strays lists files of blobs/, layers/, trees/ and containers/ that no row tells of: what
// a process left that died between a rename and its commit. The caller is in a
// transaction, so none is on its way.
func (s *Store) strays(ctx context.Context, tx querier) ([]string, error) {
	var strays []string
	for _, in := range []struct{ dir, query string }{
		{s.path("blobs", "sha256"), "SELECT substr(digest, 8) FROM blob WHERE digest < 'sha512'"},
		{s.path("blobs", "sha512"), "SELECT substr(digest, 8) FROM blob WHERE digest > 'sha512'"},
		{s.path("layers"), "SELECT substr(diffid, 8) FROM layer"},
		{s.path("containers"), "SELECT id FROM container"},
		{s.path("trees"), "SELECT substr(diffid, 8) FROM layer WHERE tree IS NOT NULL"},
	} {
		known, err := texts[string](ctx, tx, in.query)
		if err != nil {
			return nil, err
		}
		set := make(map[string]bool, len(known))
		for _, name := range known {
			set[name] = true
		}
		names, err := readNames(in.dir)
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			if !set[name] {
				strays = append(strays, in.dir+"/"+name)
			}
		}
	}
	return strays, nil
}

func (s *Store) removeStrays(ctx context.Context) (freed int64, err error) {
	gone, err := s.remove(ctx, func(tx querier, r *removal) error {
		strays, err := s.strays(ctx, tx)
		if err != nil {
			return err
		}
		for _, path := range strays {
			r.gone.Bytes += diskUsage(path)
			if err := r.moved.away(path); err != nil {
				return err
			}
		}
		return nil
	})
	return gone.Bytes, err
}

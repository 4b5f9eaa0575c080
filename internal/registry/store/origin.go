package store

import (
	"context"
	"errors"
	"fmt"

	"nacre/internal/image"
	"nacre/internal/registry"

	"github.com/opencontainers/go-digest"
)

// Origin is where a manifest that an index lists was found. It need not be here: then this is where it can be had.
type Origin struct {
	Digest digest.Digest
	Ref    registry.Ref // with a tag or a digest
}

// PutIndex keeps an index of images under a name. Those it lists are here, or have an origin: so an index may
// be here none of whose images is. The index that had the name before goes, unless it has others.
//
// Errors: registry.ErrAbsent (a listed image is neither here nor known to be anywhere), registry.ErrInvalid.
func (s *Store) PutIndex(ctx context.Context, data []byte, name registry.Ref, origins []Origin) (Image, error) {
	img, err := s.putIndex(ctx, data, name, origins)
	if err != nil {
		return Image{}, fmt.Errorf("put index: %w", err)
	}
	return img, nil
}

func (s *Store) putIndex(ctx context.Context, data []byte, name registry.Ref, origins []Origin) (Image, error) {
	if err := s.writable(); err != nil {
		return Image{}, err
	}
	if name.Repo == "" || name.Tag == "" || name.Digest != "" {
		return Image{}, fmt.Errorf("%q: %w: not a name with a tag", name, registry.ErrInvalid)
	}
	x, err := image.ParseIndex(data)
	if err != nil {
		return Image{}, fmt.Errorf("%w: %w", registry.ErrInvalid, err)
	}
	mediaType, err := image.MediaTypeOf(data)
	if err != nil {
		return Image{}, fmt.Errorf("%w: %w", registry.ErrInvalid, err)
	}
	l, err := s.Lease(ctx)
	if err != nil {
		return Image{}, err
	}
	defer l.Release()
	d := image.Describe(mediaType, data)
	if err := s.putBlob(ctx, l, d, data); err != nil {
		return Image{}, err
	}
	if err := s.addOrigins(ctx, origins); err != nil {
		return Image{}, err
	}
	for _, c := range x.Manifests {
		if err := s.listable(ctx, c); err != nil {
			return Image{}, err
		}
	}
	before, err := s.Resolve(ctx, name)
	if err != nil {
		before.Digest = ""
	}
	if err := s.Tag(ctx, name, d); err != nil {
		return Image{}, err
	}
	if before.Digest != "" && before.Digest != d.Digest && image.IsIndex(before.MediaType) {
		if err := s.dropUnnamed(ctx, before.Digest); err != nil {
			return Image{}, err
		}
	}
	img, err := s.Lookup(ctx, name.String())
	if errors.Is(err, registry.ErrAbsent) { // it was kept, and somebody has removed it since
		return Image{ID: d.Digest, Target: d, Dangling: true}, nil
	}
	return img, err
}

// listable tells whether an index here may list d.
func (s *Store) listable(ctx context.Context, d registry.Descriptor) error {
	if s.hasBlobRow(ctx, d.Digest) {
		return nil
	}
	origins, err := s.Origins(ctx, d.Digest)
	if err == nil && len(origins) == 0 {
		err = fmt.Errorf("%s: %w", d.Digest, registry.ErrAbsent)
	}
	return err
}

// listed tells whether all images of an index were found somewhere: then none needs to be here.
func (s *Store) listed(ctx context.Context, x image.Index) bool {
	for _, c := range x.Manifests {
		if s.listable(ctx, c) != nil {
			return false
		}
	}
	return true
}

func (s *Store) addOrigins(ctx context.Context, origins []Origin) error {
	if len(origins) == 0 {
		return nil
	}
	return s.update(ctx, func(tx querier) error {
		for _, o := range origins {
			if o.Ref.Repo == "" || o.Ref.Tag == "" && o.Ref.Digest == "" {
				return fmt.Errorf("origin %q of %s: %w", o.Ref, o.Digest, registry.ErrInvalid)
			}
			if _, err := tx.ExecContext(ctx, "INSERT OR IGNORE INTO origin (digest, ref) VALUES (?, ?)", o.Digest, o.Ref.String()); err != nil {
				return err
			}
		}
		return nil
	})
}

// Origins are what a listed manifest was found as, in order.
func (s *Store) Origins(ctx context.Context, d digest.Digest) ([]registry.Ref, error) {
	names, err := texts[string](ctx, s.db, "SELECT ref FROM origin WHERE digest = ? ORDER BY ref", d)
	if err != nil {
		return nil, s.fail(err)
	}
	var refs []registry.Ref
	for _, name := range names {
		ref, err := registry.ParseRef(name)
		if err != nil {
			return nil, fmt.Errorf("origin of %s: %w: %w", d, ErrDamaged, err)
		}
		refs = append(refs, ref)
	}
	return refs, nil
}

// dropUnnamed removes the record of an image that has lost its last name and that nothing runs on, and what only it needed.
func (s *Store) dropUnnamed(ctx context.Context, d digest.Digest) error {
	dropped := false
	err := s.freeing(func() error {
		return s.updateDurably(ctx, func(tx querier) error {
			var n int
			err := tx.QueryRowContext(ctx, `SELECT (SELECT count(*) FROM name WHERE target = ?1) + (SELECT count(*) FROM container WHERE image = ?1)`, d).Scan(&n)
			if dropped = err == nil && n == 0; !dropped {
				return err
			}
			return deleteImage(ctx, tx, d)
		})
	})
	if err != nil || !dropped {
		return err
	}
	_, err = s.collect(ctx, []digest.Digest{d})
	return err
}

// pruneOrigins forgets where images were found that no index lists any more.
func pruneOrigins(ctx context.Context, tx querier) error {
	_, err := tx.ExecContext(ctx, "DELETE FROM origin WHERE digest NOT IN (SELECT dst FROM edge)")
	return err
}

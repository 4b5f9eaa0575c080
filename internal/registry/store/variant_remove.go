package store

import (
	"context"
	"fmt"

	"nacre/internal/image"
	"nacre/internal/registry"

	"github.com/opencontainers/go-digest"
)

// RemoveVariant removes what is here of an index for one platform: the manifest d, and what only it needs. The index
// and its names stay, without it. uses tells whether a container, all of which are on img, runs on d.
//
// It returns d and the layers that are gone. Errors: registry.ErrAbsent; ErrInUse, also where nothing would be left.
func (s *Store) RemoveVariant(ctx context.Context, img Image, d digest.Digest, uses func(ContainerRow) bool) ([]digest.Digest, error) {
	if !image.IsIndex(img.Target.MediaType) {
		return nil, conflictf("unable to delete %s - the image is for one platform alone", short(img.ID))
	}
	gone, err := s.remove(ctx, func(tx querier, r *removal) error {
		if err := s.dropDeadLeases(ctx, tx); err != nil {
			return err
		}
		if err := s.spareVariant(ctx, tx, img, d, uses); err != nil {
			return err
		}
		freed, err := texts[digest.Digest](ctx, tx, "SELECT dst FROM edge WHERE src = ?", d)
		if err != nil {
			return err
		}
		if err := s.removeContent(ctx, tx, r, d); err != nil {
			return err
		}
		if err := s.collectList(ctx, tx, r, freed); err != nil {
			return err
		}
		return s.redescribe(ctx, tx, img.Target)
	})
	if err != nil {
		return nil, err
	}
	return append([]digest.Digest{d}, gone.Layers...), nil
}

// spareVariant says why d must not be removed from img.
func (s *Store) spareVariant(ctx context.Context, tx querier, img Image, d digest.Digest, uses func(ContainerRow) bool) error {
	if _, err := s.blobRow(ctx, tx, d); err != nil {
		return err
	}
	rows, err := s.containers(ctx, tx, "WHERE image = ?", img.Target.Digest)
	if err != nil {
		return err
	}
	for _, c := range rows {
		if uses(c) {
			who := user{text: "container " + c.ID[:12], container: c.Name}
			return who.conflictf("unable to delete %s (cannot be forced) - it is being used by %s", short(d), who.text)
		}
	}
	if ok, err := held(ctx, tx, d); err != nil {
		return err
	} else if ok {
		return conflictf("unable to delete %s (cannot be forced) - another process is using it", short(d))
	}
	var other string
	err = tx.QueryRowContext(ctx, `SELECT coalesce(
		(SELECT 'image ' || digest FROM image WHERE digest = ?1),
		(SELECT 'image ' || src FROM edge WHERE dst = ?1 AND src <> ?2 LIMIT 1),
		(SELECT 'repository ' || repo FROM part WHERE digest = ?1 LIMIT 1), '')`, d, img.Target.Digest).Scan(&other)
	if err != nil {
		return err
	}
	if other != "" {
		return conflictf("unable to delete %s (cannot be forced) - %s has it, too", short(d), other)
	}
	list, err := s.variants(ctx, tx, img)
	if err != nil {
		return err
	}
	for _, v := range list {
		if v.Present && v.Target.Digest != d {
			return nil
		}
	}
	return conflictf("unable to delete %s (cannot be forced) - nothing would be left of the image: remove that", short(d))
}

// redescribe records anew what an index looks like of which a part is gone.
func (s *Store) redescribe(ctx context.Context, tx querier, d registry.Descriptor) error {
	data, err := s.readBlob(ctx, d)
	if err != nil {
		return fmt.Errorf("%s: %w", d.Digest, err)
	}
	row, _ := s.describe(ctx, tx, d, data, 0)
	return s.insertImage(ctx, tx, row)
}

package store

import (
	"context"
	"errors"
	"fmt"

	"nacre/internal/image"
	"nacre/internal/registry"

	"github.com/opencontainers/go-digest"
)

// RemoveVariant removes what is here of an index for one platform: the manifest d, the attestations about it, and what only they
// need. The index and its names stay, without them. uses tells whether a container, all of which are on img, runs on d.
//
// It returns d, the attestations and the layers that are gone. Errors: registry.ErrAbsent; ErrInUse, also where nothing would be left.
func (s *Store) RemoveVariant(ctx context.Context, img Image, d digest.Digest, uses func(ContainerRow) bool) ([]digest.Digest, error) {
	if !image.IsIndex(img.Target.MediaType) {
		return nil, conflictf("unable to delete %s - the image is for one platform alone", short(img.ID))
	}
	var manifests []digest.Digest
	gone, err := s.remove(ctx, func(tx querier, r *removal) error {
		if err := s.dropDeadLeases(ctx, tx); err != nil {
			return err
		}
		if err := s.spareVariant(ctx, tx, img, d, uses); err != nil {
			return err
		}
		about, err := s.attestations(ctx, tx, img, d)
		if err != nil {
			return err
		}
		manifests = append([]digest.Digest{d}, about...)
		for _, m := range manifests {
			freed, err := texts[digest.Digest](ctx, tx, "SELECT dst FROM edge WHERE src = ?", m)
			if err == nil {
				err = s.removeContent(ctx, tx, r, m)
			}
			if err == nil {
				err = s.collectList(ctx, tx, r, freed)
			}
			if err != nil {
				return err
			}
		}
		return s.redescribe(ctx, tx, img.Target)
	})
	if err != nil {
		return nil, err
	}
	return append(manifests, gone.Layers...), nil
}

// attestations lists those here that img has about its manifest d and that nothing else needs.
func (s *Store) attestations(ctx context.Context, tx querier, img Image, d digest.Digest) ([]digest.Digest, error) {
	x, err := s.index(ctx, img)
	if err != nil {
		return nil, err
	}
	var about []digest.Digest
	for _, c := range x.Manifests {
		if c.Annotations[image.AboutAnnotation] != d.String() || c.Digest == d {
			continue
		}
		if _, err := s.blobRow(ctx, tx, c.Digest); errors.Is(err, registry.ErrAbsent) {
			continue
		} else if err != nil {
			return nil, err
		}
		other, err := s.otherOwner(ctx, tx, img, c.Digest)
		if err != nil {
			return nil, err
		}
		if ok, err := held(ctx, tx, c.Digest); err != nil {
			return nil, err
		} else if !ok && other == "" {
			about = append(about, c.Digest)
		}
	}
	return about, nil
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
	other, err := s.otherOwner(ctx, tx, img, d)
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

// otherOwner tells what besides img has the manifest d; empty: nothing.
func (s *Store) otherOwner(ctx context.Context, tx querier, img Image, d digest.Digest) (other string, err error) {
	err = tx.QueryRowContext(ctx, `SELECT coalesce(
		(SELECT 'image ' || digest FROM image WHERE digest = ?1),
		(SELECT 'image ' || src FROM edge WHERE dst = ?1 AND src <> ?2 LIMIT 1),
		(SELECT 'repository ' || repo FROM part WHERE digest = ?1 LIMIT 1), '')`, d, img.Target.Digest).Scan(&other)
	return other, err
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

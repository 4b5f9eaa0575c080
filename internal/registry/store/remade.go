package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"nacre/internal/image"
	"nacre/internal/registry"

	"github.com/opencontainers/go-digest"
)

// A manifest or index whose layers are uncompressed leaves the store remade: with other
// forms of them. What it was remade into is kept beside it, so that it is found by its digest later, and goes with it.

// Remade returns what src was remade into by the means how. Errors: registry.ErrAbsent.
func (s *Store) Remade(ctx context.Context, src digest.Digest, how string) (registry.Descriptor, error) {
	d, err := scanDescriptor(s.db.QueryRowContext(ctx, `SELECT blob.digest, blob.media, blob.size
		FROM remade JOIN blob ON blob.digest = remade.digest WHERE src = ? AND how = ?`, src, how))
	if errors.Is(err, sql.ErrNoRows) {
		err = registry.ErrAbsent
	}
	if err != nil {
		return d, fmt.Errorf("%s remade as %s: %w", src, how, s.fail(err))
	}
	_, err = s.ensureBlob(ctx, d.Digest)
	return d, err
}

// KeepRemade keeps what src, which is here, was remade into: a manifest or index as bytes,
// and its config where that is another than src's (else nil). Errors: registry.ErrAbsent, registry.ErrInvalid.
func (s *Store) KeepRemade(ctx context.Context, src digest.Digest, how string, config, manifest []byte) (registry.Descriptor, error) {
	if err := s.writable(); err != nil {
		return registry.Descriptor{}, err
	}
	mediaType, err := image.MediaTypeOf(manifest)
	if err != nil {
		return registry.Descriptor{}, fmt.Errorf("%w: %w", registry.ErrInvalid, err)
	}
	d := image.Describe(mediaType, manifest)
	l, err := s.Lease(ctx) // holds both until the record does
	if err != nil {
		return d, err
	}
	defer l.Release()
	var other digest.Digest
	if config != nil {
		c := image.Describe(image.TypeConfig, config)
		other = c.Digest
		if err := s.putBlob(ctx, l, c, config); err != nil {
			return d, err
		}
	}
	if err := s.putBlob(ctx, l, d, manifest); err != nil {
		return d, err
	}
	return d, s.update(ctx, func(tx querier) error {
		if _, err := s.blobRow(ctx, tx, src); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, "INSERT OR REPLACE INTO remade (src, how, digest, config) VALUES (?, ?, ?, ?)", src, how, d.Digest, other)
		return err
	})
}

package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"iter"

	"nacre/internal/image"
	"nacre/internal/registry"

	"github.com/opencontainers/go-digest"
)

var _ registry.Registry = (*Store)(nil)

// Resolve implements registry.Reader.
func (s *Store) Resolve(ctx context.Context, ref registry.Ref) (registry.Descriptor, error) {
	if ref.Digest != "" {
		row, err := s.blobRow(ctx, s.db, ref.Digest)
		if err == nil && !image.IsManifestOrIndex(row.desc.MediaType) {
			err = registry.ErrAbsent
		}
		if err != nil {
			return registry.Descriptor{}, fmt.Errorf("%s: %w", ref.Familiar(), err)
		}
		return row.desc, nil
	}
	d, err := scanDescriptor(s.db.QueryRowContext(ctx, `SELECT image.digest, image.media, image.size
		FROM name JOIN image ON image.digest = name.target
		WHERE repo = ? AND tag = ? AND name.digest = ''`, ref.Repo, ref.Tag))
	if errors.Is(err, sql.ErrNoRows) {
		err = registry.ErrAbsent
	}
	if err != nil {
		return registry.Descriptor{}, fmt.Errorf("%s: %w", ref.Familiar(), s.fail(err))
	}
	return d, nil
}

func scanDescriptor(r interface{ Scan(...any) error }) (d registry.Descriptor, err error) {
	err = r.Scan((*string)(&d.Digest), &d.MediaType, &d.Size)
	return d, err
}

// Has implements registry.Writer. What is there is held from then on, until it is
// part of an image or the store is closed: the caller is not going to upload it.
func (s *Store) Has(ctx context.Context, _ string, d registry.Descriptor) (bool, error) {
	if checkDigest(d.Digest) != nil {
		return false, nil
	}
	ok, size, err := s.has(ctx, d)
	if err != nil || !ok || (d.Size > 0 && d.Size != size) {
		return false, err
	}
	if s.o.ReadOnly {
		return true, nil
	}
	l, err := s.ownLease(ctx)
	if err != nil {
		return false, err
	}
	if ok, err := s.holdBlob(ctx, l, d); err != nil || ok {
		return ok, err
	}
	err = l.Layer(ctx, d.Digest)
	if errors.Is(err, registry.ErrAbsent) {
		return false, nil
	}
	return err == nil, err
}

func (s *Store) has(ctx context.Context, d registry.Descriptor) (bool, int64, error) {
	row, err := s.ensureBlob(ctx, d.Digest)
	if err == nil || !errors.Is(err, registry.ErrAbsent) {
		return err == nil, row.desc.Size, err
	}
	err = s.ensureLayer(ctx, d.Digest)
	if errors.Is(err, registry.ErrAbsent) {
		return false, 0, nil
	}
	if err != nil {
		return false, 0, err
	}
	info, err := s.LayerInfo(ctx, d.Digest)
	return err == nil, info.Size, err
}

// Tag implements registry.Writer. It makes an image of d: all that d refers to must be
// there (of an index: the children that are), with layers that are those the config names.
// The name survives power loss.
func (s *Store) Tag(ctx context.Context, ref registry.Ref, d registry.Descriptor) error {
	if err := s.writable(); err != nil {
		return err
	}
	if (ref.Repo == "" || ref.Tag == "") && ref.Digest == "" {
		return fmt.Errorf("tag %q: %w: no name", ref, registry.ErrInvalid)
	}
	if ref.Tag == "" && ref.Digest != d.Digest {
		return fmt.Errorf("tag %s: %w: it is to name %s", ref, registry.ErrInvalid, d.Digest)
	}
	if ref.Tag != "" {
		ref.Digest = ""
	}
	row, err := s.examine(ctx, d)
	if err != nil {
		return fmt.Errorf("tag %s: %w", ref.Familiar(), err)
	}
	refs := []registry.Ref{ref}
	if ref.Repo == "" {
		refs = nil // wanted for itself, by its digest alone
	}
	if err := s.name(ctx, row, refs); err != nil {
		return fmt.Errorf("tag %s: %w", ref.Familiar(), err)
	}
	return s.unpin(ctx, row.parts)
}

// name records an image and names of it, for good.
func (s *Store) name(ctx context.Context, row imageRow, refs []registry.Ref) error {
	if done, err := s.named(ctx, row, refs); err != nil || done {
		return err
	}
	if err := syncPaths(s.blobDirs()...); err != nil {
		return s.fail(err)
	}
	return s.updateDurably(ctx, func(tx querier) error {
		// It was all there when it was examined and has been held since, but
		// content that was there from before may have gone in between.
		if err := s.complete(ctx, tx, row); err != nil {
			return err
		}
		if err := s.insertImage(ctx, tx, row); err != nil {
			return err
		}
		for _, ref := range refs {
			if err := s.insertName(ctx, tx, ref, row.desc.Digest); err != nil {
				return err
			}
		}
		return nil
	})
}

// named tells whether the image and its names are recorded already, as they are
// when a build changed nothing: then nothing needs to be written.
func (s *Store) named(ctx context.Context, row imageRow, refs []registry.Ref) (bool, error) {
	old, err := scanImage(s.db.QueryRowContext(ctx, "SELECT "+imageColumns+" FROM image WHERE digest = ?", row.desc.Digest))
	if errors.Is(err, sql.ErrNoRows) || (err == nil && !old.same(row)) {
		return false, nil
	}
	if err != nil {
		return false, s.fail(err)
	}
	for _, ref := range refs {
		d, err := s.Resolve(ctx, ref)
		if ref.Digest != "" {
			var n int
			err = s.db.QueryRowContext(ctx, "SELECT 1 FROM name WHERE repo = ? AND tag = '' AND digest = ?", ref.Repo, ref.Digest).Scan(&n)
			d.Digest = row.desc.Digest
		}
		if errors.Is(err, registry.ErrAbsent) || errors.Is(err, sql.ErrNoRows) || (err == nil && d.Digest != row.desc.Digest) {
			return false, nil
		}
		if err != nil {
			return false, s.fail(err)
		}
	}
	return true, nil
}

func (s *Store) insertName(ctx context.Context, tx querier, ref registry.Ref, target digest.Digest) error {
	_, err := tx.ExecContext(ctx, "INSERT OR REPLACE INTO name (repo, tag, digest, target, added) VALUES (?, ?, ?, ?, ?)",
		ref.Repo, ref.Tag, ref.Digest, target, s.now().UnixNano())
	return err
}

// Refs implements registry.Lister. What Pushed recorded is not among them: it is the name of
// another manifest, which a registry has.
func (s *Store) Refs(ctx context.Context) iter.Seq2[registry.Named, error] {
	return func(yield func(registry.Named, error) bool) {
		names, err := all(ctx, s.db, func(r *sql.Rows) (n registry.Named, err error) {
			err = r.Scan(&n.Ref.Repo, &n.Ref.Tag, (*string)(&n.Ref.Digest), (*string)(&n.Desc.Digest), &n.Desc.MediaType, &n.Desc.Size)
			return n, err
		}, `SELECT repo, tag, name.digest, image.digest, image.media, image.size
			FROM name JOIN image ON image.digest = name.target
			WHERE name.digest IN ('', name.target)
			ORDER BY repo || ':' || tag || '@' || name.digest`)
		if err != nil {
			yield(registry.Named{}, s.fail(err))
			return
		}
		for _, n := range names {
			if !yield(n, nil) {
				return
			}
		}
	}
}

// Untag implements registry.Deleter.
func (s *Store) Untag(ctx context.Context, ref registry.Ref) error {
	if err := s.writable(); err != nil {
		return err
	}
	if ref.Tag != "" {
		ref.Digest = ""
	}
	return s.freeing(func() error {
		return s.updateDurably(ctx, func(tx querier) error {
			ok, err := deleteName(ctx, tx, ref)
			if err == nil && !ok {
				err = fmt.Errorf("%s: %w", ref.Familiar(), registry.ErrAbsent)
			}
			return err
		})
	})
}

func deleteName(ctx context.Context, tx querier, ref registry.Ref) (bool, error) {
	r, err := tx.ExecContext(ctx, "DELETE FROM name WHERE repo = ? AND tag = ? AND digest = ?", ref.Repo, ref.Tag, ref.Digest)
	if err != nil {
		return false, err
	}
	n, err := r.RowsAffected()
	return n > 0, err
}

// Delete implements registry.Deleter. Deleting an image takes its names in repo
// with it, and the image itself unless other repositories name it. A blob that
// an image needs is not deleted: ErrInUse.
func (s *Store) Delete(ctx context.Context, repo string, d digest.Digest) error {
	if err := s.writable(); err != nil {
		return err
	}
	if err := checkDigest(d); err != nil {
		return fmt.Errorf("%s: %w: %w", d, registry.ErrAbsent, err)
	}
	var n int
	err := s.db.QueryRowContext(ctx, "SELECT count(*) FROM image WHERE digest = ?", d).Scan(&n)
	if err != nil {
		return s.fail(err)
	}
	if n == 0 {
		return s.deleteBlob(ctx, d)
	}
	var left int
	err = s.freeing(func() error {
		return s.updateDurably(ctx, func(tx querier) error {
			if _, err := tx.ExecContext(ctx, "DELETE FROM name WHERE repo = ? AND target = ?", repo, d); err != nil {
				return err
			}
			if err := tx.QueryRowContext(ctx, "SELECT count(*) FROM name WHERE target = ?", d).Scan(&left); err != nil || left > 0 {
				return err
			}
			return deleteImage(ctx, tx, d)
		})
	})
	if err != nil || left > 0 {
		return err
	}
	_, err = s.collect(ctx, []digest.Digest{d})
	return err
}

// deleteBlob removes a blob or layer that nothing refers to, pinned or not.
func (s *Store) deleteBlob(ctx context.Context, d digest.Digest) error {
	return s.removing(ctx, func(tx querier, r *removal) error {
		user, err := referrer(ctx, tx, d)
		if err != nil {
			return err
		}
		if user != "" {
			return fmt.Errorf("%s: %w by %s", d, ErrInUse, user)
		}
		_, err = s.blobRow(ctx, tx, d)
		switch {
		case err == nil:
			return r.blob(ctx, tx, d)
		case !errors.Is(err, registry.ErrAbsent):
			return err
		}
		if ok, err := s.hasLayer(ctx, tx, d); err != nil || !ok {
			return errors.Join(err, fmt.Errorf("%s: %w", d, registry.ErrAbsent))
		}
		return r.layer(ctx, tx, d)
	})
}

// Stat implements registry.Stater. What it describes may turn out to be damaged when it is opened.
func (s *Store) Stat(ctx context.Context, _ string, d digest.Digest) (registry.Descriptor, error) {
	row, err := s.blobRow(ctx, s.db, d)
	if err == nil || !errors.Is(err, registry.ErrAbsent) {
		return row.desc, err
	}
	info, err := s.LayerInfo(ctx, d)
	return registry.Descriptor{MediaType: image.TypeLayer, Digest: d, Size: info.Size}, err
}

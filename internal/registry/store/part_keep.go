package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"nacre/internal/image"
	"nacre/internal/registry"

	"github.com/opencontainers/go-digest"
)

// Keeping is a manifest or index to be kept in a repository.
type Keeping struct {
	Repo Repo
	Tag  string // "": it is wanted by its digest
	Desc registry.Descriptor
	Data []byte
	// Until is how long it stays at least without a tag, and what had the tag before.
	Until time.Time
	// Fixed: the tag, if it names something else, must not be moved.
	Fixed bool
	// Sparse: what it refers to need not be in the repository. Children of an index need not be anyway.
	Sparse bool
	Quota  int64
}

// KeepManifest keeps a manifest that is in the repository already, and gives it a tag. All it refers to
// must be in the repository; no layer is read for it. It is an image of the store from then on for as long as it
// has a tag. It survives power loss.
//
// Errors: registry.ErrAbsent, registry.ErrInvalid, ErrFixed, ErrQuota.
func (s *Store) KeepManifest(ctx context.Context, k Keeping) error {
	if err := s.writable(); err != nil {
		return err
	}
	refs, err := registry.Refers(k.Desc, k.Data)
	if err != nil {
		return err
	}
	row, claims := s.describe(ctx, s.db, k.Desc, k.Data, 0)
	return s.changeDurably(ctx, func(tx querier, m *moves) error {
		if err := s.keepParts(ctx, tx, k, refs); err != nil {
			return err
		}
		if err := s.insertMeaning(ctx, tx, k.Desc, k.Data, refs); err != nil {
			return err
		}
		if err := insertClaims(ctx, tx, claims); err != nil {
			return err
		}
		m.sync = append(m.sync, filepath.Dir(s.blobPath(k.Desc.Digest))) // PutPart did not
		if k.Tag == "" {
			return nil
		}
		return s.keepTag(ctx, tx, k, row)
	})
}

// keepParts makes the manifest and what it refers to parts of the repository.
func (s *Store) keepParts(ctx context.Context, tx querier, k Keeping, refs []registry.Descriptor) error {
	if p, err := s.part(ctx, tx, k.Repo, k.Desc.Digest); err != nil {
		return err
	} else if _, err := os.Lstat(s.blobPath(p.Digest)); err != nil {
		return fmt.Errorf("%s: %w", p.Digest, registry.ErrAbsent)
	}
	for _, r := range refs {
		p, err := s.part(ctx, tx, k.Repo, r.Digest)
		if err == nil {
			_, err = s.content(ctx, tx, r.Digest)
		}
		if errors.Is(err, registry.ErrAbsent) && (registry.MayLack(r) || k.Sparse || image.IsIndex(k.Desc.MediaType)) {
			continue
		}
		if err != nil {
			return err
		}
		if err := s.keepChild(ctx, tx, k, p); err != nil {
			return err
		}
	}
	return s.insertPart(ctx, tx, k.Repo.Name, Part{Descriptor: k.Desc, Kept: true, Until: k.Until}, k.Quota)
}

// keepChild keeps p, which a manifest that is kept refers to.
func (s *Store) keepChild(ctx context.Context, tx querier, k Keeping, p Part) error {
	if p.Until.IsZero() { // of an image that is named here
		return s.keepNamed(ctx, tx, k.Repo.Name, p.Digest, k.Until, k.Quota)
	}
	if p.Kept || !image.IsIndex(k.Desc.MediaType) || !image.IsManifestOrIndex(p.MediaType) {
		return nil
	}
	// It came as a manifest, and nobody has looked yet what it refers to.
	data, err := s.readBlob(ctx, p.Descriptor)
	if err != nil {
		return err
	}
	refs, err := registry.Refers(p.Descriptor, data)
	if err != nil {
		return err
	}
	k.Desc, k.Data = p.Descriptor, data
	if err := s.keepParts(ctx, tx, k, refs); err != nil {
		return err
	}
	_, claims := s.describe(ctx, tx, k.Desc, data, 0)
	return insertClaims(ctx, tx, claims)
}

// keepNamed makes d, of an image that is named here, and all that it refers to parts of a repository.
func (s *Store) keepNamed(ctx context.Context, tx querier, repo string, d digest.Digest, until time.Time, quota int64) error {
	all, err := texts[digest.Digest](ctx, tx, `WITH RECURSIVE down (d) AS (SELECT ?1 UNION SELECT dst FROM down JOIN edge ON src = d)
		SELECT d FROM down`, d)
	if err != nil {
		return err
	}
	for _, d := range all {
		desc, err := s.content(ctx, tx, d)
		if errors.Is(err, registry.ErrAbsent) {
			continue
		}
		if err != nil {
			return err
		}
		kept := image.IsManifestOrIndex(desc.MediaType)
		if err := s.insertPart(ctx, tx, repo, Part{Descriptor: desc, Kept: kept, Until: until}, quota); err != nil {
			return err
		}
	}
	return nil
}

// keepTag lets the tag name the manifest, and makes an image of it.
func (s *Store) keepTag(ctx context.Context, tx querier, k Keeping, row imageRow) error {
	old, err := tagTarget(ctx, tx, k.Repo, k.Tag)
	if err != nil && !errors.Is(err, registry.ErrAbsent) {
		return err
	}
	moved := err == nil && old.Digest != k.Desc.Digest
	if moved && k.Fixed {
		return fmt.Errorf("%s: %w: it names %s", registry.Ref{Repo: k.Repo.Name, Tag: k.Tag}.Familiar(), ErrFixed, old.Digest)
	}
	if err := s.insertImage(ctx, tx, row); err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, `INSERT INTO name (repo, tag, digest, target, added, pushed) VALUES (?, ?, '', ?, ?, 1)
		ON CONFLICT (repo, tag, digest) DO UPDATE SET target = excluded.target, added = excluded.added, pushed = 1,
			pulled = CASE WHEN target = excluded.target THEN pulled ELSE 0 END`, k.Repo.Name, k.Tag, k.Desc.Digest, s.now().UnixNano())
	if err != nil {
		return err
	}
	if !moved {
		return nil
	}
	return s.unnamed(ctx, tx, k.Repo.Name, old.Digest, k.Until)
}

// unnamed deals with an image that lost a tag in a repository: a part of it stays for a while, and is no image of the
// store any more if it has no name left. One that was made here is left as it is.
func (s *Store) unnamed(ctx context.Context, tx querier, repo string, d digest.Digest, until time.Time) error {
	if _, err := tx.ExecContext(ctx, "UPDATE part SET until = max(until, ?) WHERE repo = ? AND digest = ?", until.UnixNano(), repo, d); err != nil {
		return err
	}
	_, err := tx.ExecContext(ctx, `DELETE FROM image WHERE digest = ?1 AND NOT EXISTS (SELECT 1 FROM name WHERE target = ?1)
		AND EXISTS (SELECT 1 FROM part WHERE digest = ?1 AND kept = 1)`, d)
	return err
}

// insertMeaning records what the manifest or index d, whose bytes are data, refers to. Of anything else there is nothing to
// record.
func (s *Store) insertMeaning(ctx context.Context, tx querier, d registry.Descriptor, data []byte, refs []registry.Descriptor) error {
	if !image.IsManifestOrIndex(d.MediaType) {
		return nil
	}
	if _, err := tx.ExecContext(ctx, "UPDATE blob SET media = ? WHERE digest = ? AND media <> ?", d.MediaType, d.Digest, d.MediaType); err != nil {
		return err
	}
	if err := insertReferrer(ctx, tx, d, data); err != nil {
		return err
	}
	return insertEdges(ctx, tx, d.Digest, refs)
}

func insertReferrer(ctx context.Context, tx querier, d registry.Descriptor, data []byte) error {
	subject, as := registry.Subject(d, data)
	if subject == "" || subject.Validate() != nil {
		return nil
	}
	var notes []byte
	if len(as.Annotations) > 0 {
		var err error
		if notes, err = json.Marshal(as.Annotations); err != nil {
			return err
		}
	}
	_, err := tx.ExecContext(ctx, "INSERT OR REPLACE INTO referrer (subject, digest, media, size, type, annotations) VALUES (?, ?, ?, ?, ?, ?)",
		subject, as.Digest, as.MediaType, as.Size, as.ArtifactType, string(notes))
	return err
}

func insertClaims(ctx context.Context, tx querier, claims []claim) error {
	for _, c := range claims {
		_, err := tx.ExecContext(ctx, `INSERT OR IGNORE INTO claim (diffid, blob)
			SELECT ?1, ?2 WHERE EXISTS (SELECT 1 FROM blob WHERE digest = ?2 AND layer IS NULL)`, c.diffID, c.blob)
		if err != nil {
			return err
		}
	}
	return nil
}

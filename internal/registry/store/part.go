package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"nacre/internal/image"
	"nacre/internal/registry"

	"github.com/opencontainers/go-digest"
)

// A part is what a repository has by its own right: content that was uploaded, mounted or kept
// there. Images that were built, pulled or tagged here are named, and have no parts; what they
// refer to is in their repositories all the same. Package hosted shows the store so to others,
// and says who may do what; here is what must be true of the records.

// Repo is a repository of the store: the parts and images named Name, and the images named Also ("": none).
type Repo struct{ Name, Also string }

// Part is content of a repository.
type Part struct {
	registry.Descriptor // the media type where it is known
	// Kept: it is a manifest or index, and may be asked for as one.
	Kept bool
	// Remake: it is a compressed form whose blob was dropped. Package compressed makes it again.
	Remake bool
	// Until is how long it stays though nothing refers to it. Zero: it is no part of its own, but one
	// of a named image.
	Until time.Time
}

// Part finds content of a repository. Errors: registry.ErrAbsent, also where the store has
// it and the repository does not.
func (s *Store) Part(ctx context.Context, r Repo, d digest.Digest) (Part, error) {
	p, err := s.part(ctx, s.db, r, d)
	if err != nil || p.Remake {
		return p, err
	}
	// It may have been torn since by a loss of power.
	ok, size, err := s.has(ctx, p.Descriptor)
	if err == nil && !ok {
		err = fmt.Errorf("%s: %w", d, registry.ErrAbsent)
	}
	p.Size = size
	return p, err
}

// part is Part by the records alone.
func (s *Store) part(ctx context.Context, q querier, r Repo, d digest.Digest) (Part, error) {
	p := Part{Descriptor: registry.Descriptor{Digest: d}}
	var until int64
	err := q.QueryRowContext(ctx, "SELECT media, size, kept, until FROM part WHERE repo = ? AND digest = ?", r.Name, d).
		Scan(&p.MediaType, &p.Size, &p.Kept, &until)
	if err == nil {
		p.Until = time.Unix(0, until)
		return p, nil
	}
	if !errors.Is(err, sql.ErrNoRows) {
		return p, s.fail(err)
	}
	named, err := inNamed(ctx, q, r, d)
	if err == nil && !named {
		err = fmt.Errorf("%s: %w", d, registry.ErrAbsent)
	}
	if err != nil {
		return p, s.fail(err)
	}
	p.Descriptor, err = s.content(ctx, q, d)
	if errors.Is(err, registry.ErrAbsent) {
		// A form whose blob was dropped can be made again.
		if f, ferr := scanForm(q.QueryRowContext(ctx, "SELECT "+formColumns+" FROM form WHERE digest = ? LIMIT 1", d)); ferr == nil {
			p.Descriptor, p.Remake, err = f.Desc, true, nil
		}
	}
	if err != nil {
		return p, err
	}
	p.Kept = image.IsManifestOrIndex(p.MediaType)
	return p, nil
}

// inNamed tells whether an image that was named here refers to d, however far down. Images
// that were pushed are told by their parts: what their manifests only claim to be theirs, and is
// another repository's, is not shown.
//
// It looks from the repository's own images down. From d upwards would tell by its time whether
// other repositories have d.
func inNamed(ctx context.Context, q querier, r Repo, d digest.Digest) (is bool, err error) {
	err = q.QueryRowContext(ctx, `WITH RECURSIVE made (d) AS (
			SELECT target FROM name INDEXED BY name_made WHERE repo IN (?2, ?3) AND pushed = 0
				AND NOT EXISTS (SELECT 1 FROM part WHERE part.repo = ?2 AND part.digest = target AND kept = 1)
			UNION SELECT dst FROM made JOIN edge ON src = d
			UNION SELECT digest FROM made JOIN remade ON src = d
			UNION SELECT config FROM made JOIN remade ON src = d AND config <> '')
		SELECT EXISTS (SELECT 1 FROM made WHERE d = ?1)`, d, r.Name, r.Also).Scan(&is)
	return is, err
}

// content describes a blob, or a layer as the blob it is. Errors: registry.ErrAbsent.
func (s *Store) content(ctx context.Context, q querier, d digest.Digest) (registry.Descriptor, error) {
	blob, err := s.blobRow(ctx, q, d)
	if err == nil || !errors.Is(err, registry.ErrAbsent) {
		return blob.desc, err
	}
	row, err := s.layerRow(ctx, q, d)
	if err != nil {
		return registry.Descriptor{}, fmt.Errorf("%s: %w", d, err)
	}
	return registry.Descriptor{MediaType: image.TypeLayer, Digest: d, Size: row.info.Size}, nil
}

// TagTarget finds what a tag names; of two images named alike, one by each name of the repository, the
// one named last. pushed tells whether it is kept in the repository, rather than only named there.
// Errors: registry.ErrAbsent.
func (s *Store) TagTarget(ctx context.Context, r Repo, tag string) (d registry.Descriptor, pushed bool, err error) {
	if d, err = tagTarget(ctx, s.db, r, tag); err == nil {
		err = s.db.QueryRowContext(ctx, "SELECT EXISTS (SELECT 1 FROM part WHERE repo = ? AND digest = ? AND kept = 1)", r.Name, d.Digest).Scan(&pushed)
	}
	return d, pushed, s.fail(err)
}

func tagTarget(ctx context.Context, q querier, r Repo, tag string) (registry.Descriptor, error) {
	d, err := scanDescriptor(q.QueryRowContext(ctx, `SELECT image.digest, image.media, image.size
		FROM name JOIN image ON image.digest = name.target
		WHERE repo IN (?1, ?2) AND tag = ?3 AND name.digest = '' ORDER BY name.added DESC, repo = ?1 LIMIT 1`, r.Name, r.Also, tag))
	if errors.Is(err, sql.ErrNoRows) {
		err = fmt.Errorf("%s: %w", registry.Ref{Repo: r.Name, Tag: tag}.Familiar(), registry.ErrAbsent)
	}
	return d, err
}

// insertPart makes d a part, or lets one stay longer. Errors: ErrQuota.
func (s *Store) insertPart(ctx context.Context, tx querier, repo string, p Part, quota int64) error {
	if quota > 0 {
		if err := checkQuota(ctx, tx, repo, p, quota); err != nil {
			return err
		}
	}
	_, err := tx.ExecContext(ctx, `INSERT INTO part (repo, digest, media, size, kept, added, until) VALUES (?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (repo, digest) DO UPDATE SET until = max(until, excluded.until), kept = max(kept, excluded.kept),
			media = CASE WHEN excluded.kept OR media = '' THEN excluded.media ELSE media END`,
		repo, p.Digest, p.MediaType, p.Size, p.Kept, s.now().UnixNano(), p.Until.UnixNano())
	return err
}

// checkQuota counts every part once.
func checkQuota(ctx context.Context, tx querier, repo string, p Part, quota int64) error {
	var has bool
	var used int64
	err := tx.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM part WHERE repo = ?1 AND digest = ?2),
		coalesce((SELECT sum(size) FROM part WHERE repo = ?1), 0)`, repo, p.Digest).Scan(&has, &used)
	if err == nil && !has && used+p.Size > quota {
		err = fmt.Errorf("%w: the repository has %d bytes of at most %d, and %d more do not fit", ErrQuota, used, quota, p.Size)
	}
	return err
}

// PartBytes is how many bytes the parts of a repository have.
func (s *Store) PartBytes(ctx context.Context, repo string) (n int64, err error) {
	err = s.db.QueryRowContext(ctx, "SELECT coalesce(sum(size), 0) FROM part WHERE repo = ?", repo).Scan(&n)
	return n, s.fail(err)
}

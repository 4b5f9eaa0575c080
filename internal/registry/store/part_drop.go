package store

import (
	"context"
	"fmt"
	"time"

	"nacre/internal/registry"

	"github.com/opencontainers/go-digest"
)

// DropTag removes a tag from a repository; with only, if it names that still. What it named can be had by its
// digest until then. Errors: registry.ErrAbsent.
func (s *Store) DropTag(ctx context.Context, r Repo, tag string, only digest.Digest, until time.Time) error {
	return s.freeing(func() error {
		return s.changeDurably(ctx, func(tx querier, _ *moves) error {
			return s.dropTag(ctx, tx, r, tag, only, until)
		})
	})
}

func (s *Store) dropTag(ctx context.Context, tx querier, r Repo, tag string, only digest.Digest, until time.Time) error {
	targets, err := texts[digest.Digest](ctx, tx, "SELECT target FROM name WHERE repo IN (?1, ?2) AND tag = ?3 AND digest = '' AND ?4 IN ('', target)",
		r.Name, r.Also, tag, only)
	if err == nil && len(targets) == 0 {
		err = fmt.Errorf("%s: %w", registry.Ref{Repo: r.Name, Tag: tag}.Familiar(), registry.ErrAbsent)
	}
	if err != nil {
		return err
	}
	for _, d := range targets {
		if p, err := s.part(ctx, tx, r, d); err == nil && p.Until.IsZero() {
			err = s.keepNamed(ctx, tx, r.Name, d, until, 0)
			if err != nil {
				return err
			}
		}
	}
	if _, err := tx.ExecContext(ctx, "DELETE FROM name WHERE repo IN (?1, ?2) AND tag = ?3 AND digest = '' AND ?4 IN ('', target)",
		r.Name, r.Also, tag, only); err != nil {
		return err
	}
	for _, d := range targets {
		if err := s.unnamed(ctx, tx, r.Name, d, until); err != nil {
			return err
		}
	}
	return nil
}

// DropPart removes content from a repository: a manifest with its tags there, or a blob. Other repositories
// keep it. What only the manifest referred to stays a part until then.
//
// Errors: registry.ErrAbsent; ErrInUse (a manifest of the repository refers to it); ErrFixed, where fixed says
// so of one of the tags.
func (s *Store) DropPart(ctx context.Context, r Repo, d digest.Digest, until time.Time, fixed func(tag string) bool) error {
	return s.freeing(func() error {
		return s.changeDurably(ctx, func(tx querier, _ *moves) error {
			return s.dropPart(ctx, tx, r, d, until, fixed)
		})
	})
}

func (s *Store) dropPart(ctx context.Context, tx querier, r Repo, d digest.Digest, until time.Time, fixed func(tag string) bool) error {
	p, err := s.part(ctx, tx, r, d)
	if err == nil {
		_, err = s.content(ctx, tx, d)
	}
	if err != nil {
		return err
	}
	if err := s.unreferred(ctx, tx, r, d, p.Kept); err != nil {
		return err
	}
	tags, err := texts[string](ctx, tx, "SELECT tag FROM name WHERE repo IN (?, ?) AND target = ?", r.Name, r.Also, d)
	if err != nil {
		return err
	}
	for _, t := range tags {
		if t != "" && fixed(t) {
			return fmt.Errorf("%s: %w", registry.Ref{Repo: r.Name, Tag: t}.Familiar(), ErrFixed)
		}
	}
	for _, q := range []string{
		"UPDATE part SET until = max(until, ?4) WHERE repo = ?1 AND digest IN (SELECT dst FROM edge WHERE src = ?3)",
		"DELETE FROM part WHERE repo = ?1 AND digest = ?3",
		"DELETE FROM name WHERE repo IN (?1, ?2) AND target = ?3",
		"DELETE FROM image WHERE digest = ?3 AND NOT EXISTS (SELECT 1 FROM name WHERE target = ?3)",
	} {
		if _, err := tx.ExecContext(ctx, q, r.Name, r.Also, d, until.UnixNano()); err != nil {
			return err
		}
	}
	return nil
}

// unreferred fails where something in the repository needs d. A manifest may go although
// an index has it: the index is whole without, as when it was never fetched.
func (s *Store) unreferred(ctx context.Context, tx querier, r Repo, d digest.Digest, kept bool) error {
	if kept {
		return nil
	}
	src, err := texts[digest.Digest](ctx, tx, `SELECT src FROM edge CROSS JOIN part ON repo = ? AND part.digest = src AND kept = 1 WHERE dst = ? LIMIT 1`, r.Name, d)
	if err == nil && len(src) == 0 {
		var named bool
		if named, err = inNamed(ctx, tx, r, d); named {
			src = []digest.Digest{"an image that is named here"}
		}
	}
	if err == nil && len(src) > 0 {
		err = conflictf("%s is needed by %s", d, src[0])
	}
	return err
}

package store

import (
	"context"
	"errors"
	"fmt"

	"nacre/internal/registry"

	"github.com/opencontainers/go-digest"
)

// Pushed records that a registry has image target in repo as d: d becomes a name by digest of
// it. That is another digest than target's where layers left compressed. Errors: registry.ErrAbsent.
func (s *Store) Pushed(ctx context.Context, repo string, target, d digest.Digest) error {
	if err := s.writable(); err != nil {
		return err
	}
	if err := errors.Join(target.Validate(), d.Validate()); err != nil || repo == "" {
		return fmt.Errorf("pushed %s@%s: %w", repo, d, registry.ErrInvalid)
	}
	return s.updateDurably(ctx, func(tx querier) error {
		var n int
		if err := tx.QueryRowContext(ctx, "SELECT count(*) FROM image WHERE digest = ?", target).Scan(&n); err != nil {
			return err
		}
		if n == 0 {
			return fmt.Errorf("image %s: %w", target, registry.ErrAbsent)
		}
		return s.insertName(ctx, tx, registry.Ref{Repo: repo, Digest: d}, target)
	})
}

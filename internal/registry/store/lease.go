package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"

	"nacre/internal/registry"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
)

// Lease keeps content from being collected while its holder lives. It ends with
// Release, with Close of the store, or with the process.
type Lease struct {
	s      *Store
	id     string
	holder string

	mu   sync.Mutex
	pins map[digest.Digest]bool
	made bool // the row exists
}

// Lease begins a lease that holds nothing yet.
func (s *Store) Lease(ctx context.Context) (*Lease, error) { return s.LeaseFor(ctx, "") }

// LeaseFor is Lease with a name of its holder, such as "container 1f2e". An image
// that a named lease holds is not removed, not even by force, and the error
// says who holds it.
func (s *Store) LeaseFor(ctx context.Context, holder string) (*Lease, error) {
	id, err := s.ownerID()
	if err != nil {
		return nil, err
	}
	s.owner.made.Store(true)
	return &Lease{s: s, id: fmt.Sprintf("%s-%d", id, s.owner.next.Add(1)), holder: holder, pins: map[digest.Digest]bool{}}, nil
}

// Layer holds layers. Errors: registry.ErrAbsent, with none of them held.
func (l *Lease) Layer(ctx context.Context, diffIDs ...digest.Digest) error {
	var fresh []digest.Digest
	l.mu.Lock()
	for _, d := range diffIDs {
		if !l.pins[d] {
			fresh = append(fresh, d)
		}
	}
	l.mu.Unlock()
	if len(fresh) == 0 {
		return nil
	}
	for _, d := range fresh {
		if err := l.s.ensureLayer(ctx, d); err != nil {
			return err
		}
	}
	return l.pin(ctx, func(tx querier) error {
		for _, d := range fresh {
			if ok, err := l.s.hasLayer(ctx, tx, d); err != nil {
				return err
			} else if !ok {
				return fmt.Errorf("layer %s: %w", d, registry.ErrAbsent)
			}
		}
		return nil
	}, fresh...)
}

// Image holds an image with all it refers to. Errors: registry.ErrAbsent.
func (l *Lease) Image(ctx context.Context, img Image) error {
	return l.pin(ctx, func(tx querier) error {
		var n int
		if err := tx.QueryRowContext(ctx, "SELECT count(*) FROM image WHERE digest = ?", img.Target.Digest).Scan(&n); err != nil {
			return err
		}
		if n == 0 {
			return fmt.Errorf("image %s: %w", img.Target.Digest, registry.ErrAbsent)
		}
		return nil
	}, img.Target.Digest)
}

// pin records digests as held in one transaction with check, so that nothing is
// collected between the two.
func (l *Lease) pin(ctx context.Context, check func(tx querier) error, digests ...digest.Digest) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	made := l.made
	err := l.s.update(ctx, func(tx querier) error {
		if err := check(tx); err != nil {
			return err
		}
		for _, d := range digests {
			if err := l.insert(ctx, tx, d); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		l.made = made
		return err
	}
	for _, d := range digests {
		l.pins[d] = true
	}
	return nil
}

// insert writes a pin within a transaction. The caller holds l.mu.
func (l *Lease) insert(ctx context.Context, tx querier, d digest.Digest) error {
	if !l.made {
		_, err := tx.ExecContext(ctx, "INSERT OR IGNORE INTO lease (id, owner, holder, started) VALUES (?, ?, ?, ?)",
			l.id, l.s.owner.id, l.holder, l.s.now().UnixNano())
		if err != nil {
			return err
		}
		l.made = true
	}
	_, err := tx.ExecContext(ctx, "INSERT OR IGNORE INTO pin (digest, lease) VALUES (?, ?)", d, l.id)
	return err
}

// Release ends the lease. What it held and nothing else refers to stays until it is pruned.
func (l *Lease) Release() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.made {
		return nil
	}
	l.made = false
	clear(l.pins)
	ctx := context.Background()
	return l.s.update(ctx, func(tx querier) error {
		if _, err := tx.ExecContext(ctx, "DELETE FROM pin WHERE lease = ?", l.id); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, "DELETE FROM lease WHERE id = ?", l.id)
		return err
	})
}

// dropLeases removes the leases of an owner.
func dropLeases(ctx context.Context, tx querier, owner string) error {
	_, err := tx.ExecContext(ctx, "DELETE FROM pin WHERE lease IN (SELECT id FROM lease WHERE owner = ?)", owner)
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, "DELETE FROM lease WHERE owner = ?", owner)
	return err
}

// dropDeadLeases removes the leases whose process is gone, so that what
// follows in the transaction may take every lease for a live one.
func (s *Store) dropDeadLeases(ctx context.Context, tx querier) error {
	owners, err := texts[string](ctx, tx, "SELECT DISTINCT owner FROM lease")
	if err != nil {
		return err
	}
	for _, id := range owners {
		if s.alive(id) {
			continue
		}
		if err := dropLeases(ctx, tx, id); err != nil {
			return err
		}
	}
	return nil
}

// alive tells whether the process of an owner still runs.
func (s *Store) alive(owner string) bool {
	f, err := os.OpenFile(s.path("owners", owner), os.O_RDWR, 0)
	if err != nil {
		return !errors.Is(err, os.ErrNotExist)
	}
	defer f.Close()
	return unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB) != nil
}

// ownLease returns the lease of uploads: they arrive through methods that know
// of no lease, and nothing refers to them until they are tagged.
func (s *Store) ownLease(ctx context.Context) (*Lease, error) {
	s.ownMu.Lock()
	defer s.ownMu.Unlock()
	if s.own == nil {
		l, err := s.Lease(ctx)
		if err != nil {
			return nil, err
		}
		s.own = l
	}
	return s.own, nil
}

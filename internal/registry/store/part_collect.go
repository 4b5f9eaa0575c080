package store

import (
	"context"
	"database/sql"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"
)

// Collection while others push goes in small transactions, so that nobody waits long. Whatever was
// found to be unneeded may be needed again by the time it is its turn: each transaction looks
// again. Who pushes and relies on something that is there has said so before, which keeps
// it for a while (RevivePart).

const (
	// collectBatch bounds the candidates of one transaction, and collectFor its time: pushes wait for it.
	collectBatch = 100
	collectFor   = 4 * time.Millisecond
)

// unreferredPart is true of a row of part, called p, that nothing in its repository refers to: no manifest kept
// there, no tag, and of a manifest no subject. (CROSS JOIN has SQLite take the tables in this order: few
// manifests refer to a blob, many parts are in a repository.)
const unreferredPart = `
	NOT EXISTS (SELECT 1 FROM edge CROSS JOIN part m ON m.repo = p.repo AND m.digest = edge.src AND m.kept = 1 WHERE edge.dst = p.digest)
	AND (p.kept = 0 OR NOT EXISTS (SELECT 1 FROM name WHERE name.repo = p.repo AND name.target = p.digest)
		AND NOT EXISTS (SELECT 1 FROM referrer f JOIN part m ON m.repo = p.repo AND m.digest = f.subject AND m.kept = 1 WHERE f.digest = p.digest))`

type partKey struct {
	repo   string
	digest digest.Digest
}

// expired lists parts that may go: their time is over and nothing refers to them.
func expired(ctx context.Context, q querier, now time.Time, after partKey, n int) ([]partKey, error) {
	return all(ctx, q, func(r *sql.Rows) (k partKey, err error) {
		err = r.Scan(&k.repo, (*string)(&k.digest))
		return k, err
	}, "SELECT repo, digest FROM part p WHERE until <= ?1 AND (repo, digest) > (?2, ?3) AND "+unreferredPart+" ORDER BY repo, digest LIMIT ?4",
		now.UnixNano(), after.repo, after.digest, n)
}

// BoundParts lets no part stay longer than latest: what is to stay until then was recorded by a wrong clock, and stays
// until to. What stays for ever (from forEver on) is left alone.
func (s *Store) BoundParts(ctx context.Context, latest, forEver, to time.Time) error {
	var some bool
	if err := s.db.QueryRowContext(ctx, "SELECT EXISTS (SELECT 1 FROM part WHERE until > ? AND until < ?)", latest.UnixNano(), forEver.UnixNano()).Scan(&some); err != nil || !some {
		return s.fail(err)
	}
	return s.update(ctx, func(tx querier) error {
		_, err := tx.ExecContext(ctx, "UPDATE part SET until = ? WHERE until > ? AND until < ?", to.UnixNano(), latest.UnixNano(), forEver.UnixNano())
		return err
	})
}

// ExpireParts removes parts whose time is over and that nothing refers to, and then those that only they
// referred to. With dry it only counts those of the first round.
func (s *Store) ExpireParts(ctx context.Context, now time.Time, dry bool) (n int, err error) {
	for again := true; again; {
		again = false
		var at partKey
		for {
			list, err := expired(ctx, s.db, now, at, collectBatch)
			if err != nil {
				return n, s.fail(err)
			}
			if len(list) == 0 {
				break
			}
			at = list[len(list)-1]
			if dry {
				n += len(list)
				continue
			}
			gone, err := s.expireSome(ctx, now, list)
			if err != nil {
				return n, err
			}
			n += gone
			again = again || gone > 0
			if err := breathe(ctx); err != nil {
				return n, err
			}
		}
	}
	return n, nil
}

func (s *Store) expireSome(ctx context.Context, now time.Time, list []partKey) (n int, err error) {
	err = s.update(ctx, func(tx querier) error {
		for _, k := range list {
			r, err := tx.ExecContext(ctx, "DELETE FROM part AS p WHERE repo = ? AND digest = ? AND until <= ? AND "+unreferredPart, k.repo, k.digest, now.UnixNano())
			if err != nil {
				return err
			}
			gone, err := r.RowsAffected()
			if err != nil {
				return err
			}
			n += int(gone)
		}
		return nil
	})
	return n, err
}

// expireParts is ExpireParts within a transaction.
func (s *Store) expireParts(ctx context.Context, tx querier) error {
	for {
		r, err := tx.ExecContext(ctx, "DELETE FROM part AS p WHERE until <= ? AND "+unreferredPart, s.now().UnixNano())
		if err != nil {
			return err
		}
		if n, err := r.RowsAffected(); err != nil || n == 0 {
			return err
		}
	}
}

// breathe lets those in who wait to write.
func breathe(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(collectFor):
		return nil
	}
}

// CollectOnline removes all content that nothing needs, in small transactions. With dry it only lists it.
func (s *Store) CollectOnline(ctx context.Context, dry bool) (Removed, error) {
	var gone Removed
	if dry {
		return s.wouldCollect(ctx)
	}
	if err := s.update(ctx, func(tx querier) error { return s.dropDeadLeases(ctx, tx) }); err != nil {
		return gone, err
	}
	for {
		before := len(gone.Blobs) + len(gone.Layers)
		if err := s.collectRounds(ctx, &gone); err != nil || len(gone.Blobs)+len(gone.Layers) == before {
			return gone, err
		}
		// With a layer its compressed forms become unneeded.
	}
}

// unneededOnline is unneeded without the compressed forms of layers that are there: they could be made again,
// but at the cost of whoever pulls next.
func (s *Store) unneededOnline(ctx context.Context) ([]digest.Digest, error) {
	list, err := s.unneeded(ctx, s.db)
	if err != nil {
		return nil, s.fail(err)
	}
	forms, err := texts[digest.Digest](ctx, s.db, "SELECT form.digest FROM form JOIN layer ON layer.diffid = form.layer")
	spare := map[digest.Digest]bool{}
	for _, d := range forms {
		spare[d] = true
	}
	return slices.DeleteFunc(list, func(d digest.Digest) bool { return spare[d] }), s.fail(err)
}

func (s *Store) collectRounds(ctx context.Context, gone *Removed) error {
	todo, err := s.unneededOnline(ctx)
	if err != nil {
		return err
	}
	// What a candidate still refers to stays until that is gone: as many rounds as
	// manifests are nested, each over what the last one left.
	for len(todo) > 0 {
		var left []digest.Digest
		for rest := todo; len(rest) > 0; {
			n, kept, some, err := s.collectSome(ctx, rest)
			gone.Blobs, gone.Layers, gone.Bytes = append(gone.Blobs, some.Blobs...), append(gone.Layers, some.Layers...), gone.Bytes+some.Bytes
			if err != nil {
				return err
			}
			left, rest = append(left, kept...), rest[n:]
			if err := breathe(ctx); err != nil {
				return err
			}
		}
		if len(left) == len(todo) {
			break // revived since
		}
		todo = left
	}
	return nil
}

// collectSome removes those of the first candidates that nothing needs still, and returns how many it
// looked at and which it left.
func (s *Store) collectSome(ctx context.Context, list []digest.Digest) (n int, left []digest.Digest, gone Removed, err error) {
	gone, err = s.remove(ctx, func(tx querier, r *removal) error {
		n, left = 0, nil
		begin := time.Now()
		for n < min(len(list), collectBatch) && (n == 0 || time.Since(begin) < collectFor) {
			d := list[n]
			n++
			needed, err := s.stillNeeded(ctx, tx, d)
			if err != nil {
				return err
			}
			if needed {
				left = append(left, d)
				continue
			}
			if err := s.removeContent(ctx, tx, r, d); err != nil {
				return err
			}
		}
		return nil
	})
	return n, left, gone, err
}

// stillNeeded tells whether something refers to d, which nothing did a while ago: by itself, by another form of
// it, or from a manifest that is still there.
func (s *Store) stillNeeded(ctx context.Context, tx querier, d digest.Digest) (needed bool, err error) {
	err = tx.QueryRowContext(ctx, `
		WITH same (d) AS (SELECT ?1
			UNION SELECT layer FROM blob WHERE digest = ?1 AND layer IS NOT NULL
			UNION SELECT digest FROM blob WHERE layer = ?1
			UNION SELECT b.digest FROM blob a JOIN blob b ON b.layer = a.layer WHERE a.digest = ?1)
		SELECT EXISTS (SELECT 1 FROM image WHERE digest IN (SELECT d FROM same))
			OR EXISTS (SELECT 1 FROM edge CROSS JOIN blob ON digest = src WHERE dst IN (SELECT d FROM same))
			OR EXISTS (SELECT 1 FROM part WHERE digest IN (SELECT d FROM same))
			OR EXISTS (SELECT 1 FROM remade JOIN blob ON blob.digest = src WHERE remade.digest = ?1 OR config <> '' AND config = ?1)
			OR EXISTS (SELECT 1 FROM cache WHERE layer IN (SELECT d FROM same))
			OR EXISTS (SELECT 1 FROM pin WHERE digest IN (SELECT d FROM same))`, d).Scan(&needed)
	return needed, err
}

// removeContent removes d as what it is, blob or layer or both.
func (s *Store) removeContent(ctx context.Context, tx querier, r *removal, d digest.Digest) error {
	if _, err := tx.ExecContext(ctx, "DELETE FROM edge WHERE src = ?", d); err != nil {
		return err
	}
	if _, err := s.blobRow(ctx, tx, d); err == nil {
		if err := r.blob(ctx, tx, d); err != nil {
			return err
		}
	}
	if _, err := s.layerRow(ctx, tx, d); err == nil {
		return r.layer(ctx, tx, d)
	}
	return nil
}

// wouldCollect lists what CollectOnline would remove.
func (s *Store) wouldCollect(ctx context.Context) (Removed, error) {
	var r Removed
	list, err := s.unneededOnline(ctx)
	if err != nil {
		return r, err
	}
	for _, d := range list {
		if _, err := s.blobRow(ctx, s.db, d); err == nil {
			r.Blobs = append(r.Blobs, d)
			r.Bytes += diskUsage(s.blobPath(d))
		}
		if _, err := s.layerRow(ctx, s.db, d); err == nil {
			r.Layers = append(r.Layers, d)
			r.Bytes += diskUsage(s.LayerDir(d)) + diskUsage(s.treeDir(d))
		}
	}
	return r, nil
}

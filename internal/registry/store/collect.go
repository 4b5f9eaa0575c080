package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"time"

	"nacre/internal/registry"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
)

// Deleting takes two transactions. The first removes the record that refers to
// content: an image, a name, a cache record. The second, here, removes
// content that nothing refers to by then. Whoever wants to refer to content
// holds it by a lease first, in a transaction that fails where it is gone.

// removal is what a transaction takes out of the store. Files are moved to tmp/
// within the transaction, while no other can record the same content, and
// unlinked after it.
type removal struct {
	s     *Store
	moved moves
	gone  Removed
}

// Removed is what was taken out of the store.
type Removed struct {
	Blobs, Layers []digest.Digest
	Bytes         int64 // of disk
}

// removing runs f in a transaction and completes or undoes the removal. On a
// full disk it draws on the reserve.
func (s *Store) removing(ctx context.Context, f func(tx querier, r *removal) error) error {
	_, err := s.remove(ctx, f)
	return err
}

func (s *Store) remove(ctx context.Context, f func(tx querier, r *removal) error) (Removed, error) {
	if err := s.writable(); err != nil {
		return Removed{}, err
	}
	var r *removal
	err := s.freeing(func() error {
		r = &removal{s: s, moved: moves{s: s}}
		err := s.update(ctx, func(tx querier) error { return f(tx, r) })
		if err != nil {
			r.moved.undo()
		}
		return err
	})
	if err != nil {
		return Removed{}, err
	}
	for _, d := range r.gone.Layers {
		s.forgetLayer(d)
	}
	s.unlink(r.moved.trash...)
	return r.gone, nil
}

// layer removes a layer, and what is recorded of compressed forms of it.
func (r *removal) layer(ctx context.Context, tx querier, d digest.Digest) error {
	for _, q := range []string{"DELETE FROM layer WHERE diffid = ?", "DELETE FROM form WHERE layer = ?"} {
		if _, err := tx.ExecContext(ctx, q, d); err != nil {
			return err
		}
	}
	dir, tree := r.s.LayerDir(d), r.s.treeDir(d)
	r.gone.Bytes += diskUsage(dir) + diskUsage(tree)
	r.gone.Layers = append(r.gone.Layers, d)
	if err := r.moved.away(dir); err != nil {
		return err
	}
	return r.moved.away(tree)
}

// blob removes a blob. What a manifest refers to stays on record: see forgetBlob.
func (r *removal) blob(ctx context.Context, tx querier, d digest.Digest) error {
	for _, q := range []string{
		"DELETE FROM blob WHERE digest = ?", "DELETE FROM remade WHERE src = ?1 OR digest = ?1",
		"DELETE FROM claim WHERE blob = ?", "DELETE FROM referrer WHERE digest = ?",
	} {
		if _, err := tx.ExecContext(ctx, q, d); err != nil {
			return err
		}
	}
	r.gone.Bytes += diskUsage(r.s.blobPath(d))
	r.gone.Blobs = append(r.gone.Blobs, d)
	return r.moved.away(r.s.blobPath(d))
}

// referrer says what needs d, which is a blob or a layer, other than a lease, or "".
// A layer and its compressed form need each other: they go together.
func referrer(ctx context.Context, tx querier, d digest.Digest) (string, error) {
	var user string
	err := tx.QueryRowContext(ctx, `
		WITH same (d) AS (SELECT ?1
			UNION SELECT layer FROM blob WHERE digest = ?1 AND layer IS NOT NULL
			UNION SELECT digest FROM blob WHERE layer = ?1
			UNION SELECT b.digest FROM blob a JOIN blob b ON b.layer = a.layer WHERE a.digest = ?1)
		SELECT coalesce(
			(SELECT 'image ' || digest FROM image WHERE digest = ?1),
			(SELECT 'container ' || name FROM container WHERE image = ?1 LIMIT 1),
			(SELECT 'manifest ' || src FROM edge WHERE dst IN (SELECT d FROM same) LIMIT 1),
			(SELECT 'repository ' || repo FROM part WHERE digest IN (SELECT d FROM same) LIMIT 1),
			(SELECT 'a cache record' FROM cache WHERE layer IN (SELECT d FROM same) LIMIT 1),
			(SELECT 'manifest ' || src FROM remade WHERE digest = ?1 OR config <> '' AND config = ?1 LIMIT 1),
			'')`, d).Scan(&user)
	return user, err
}

// held tells whether a lease holds d or another form of it.
func held(ctx context.Context, tx querier, d digest.Digest) (bool, error) {
	var n int
	err := tx.QueryRowContext(ctx, `
		WITH same (d) AS (SELECT ?1
			UNION SELECT layer FROM blob WHERE digest = ?1 AND layer IS NOT NULL
			UNION SELECT digest FROM blob WHERE layer = ?1
			UNION SELECT b.digest FROM blob a JOIN blob b ON b.layer = a.layer WHERE a.digest = ?1)
		SELECT EXISTS (SELECT 1 FROM pin WHERE digest IN (SELECT d FROM same))`, d).Scan(&n)
	return n > 0, err
}

// collect removes those of candidates that nothing needs, and then what only
// they needed.
func (s *Store) collect(ctx context.Context, candidates []digest.Digest) (Removed, error) {
	return s.remove(ctx, func(tx querier, r *removal) error {
		if err := s.dropDeadLeases(ctx, tx); err != nil {
			return err
		}
		return s.collectList(ctx, tx, r, candidates)
	})
}

// collectList is collect within a transaction.
func (s *Store) collectList(ctx context.Context, tx querier, r *removal, candidates []digest.Digest) error {
	todo := slices.Clone(candidates)
	for len(todo) > 0 {
		d := todo[0]
		todo = todo[1:]
		freed, err := s.collectOne(ctx, tx, r, d)
		if err != nil {
			return err
		}
		todo = append(todo, freed...)
	}
	return nil
}

// Collect removes those of layers, and what only they needed, that nothing needs by now. That this process
// received them holds them no more.
func (s *Store) Collect(ctx context.Context, layers ...digest.Digest) (Removed, error) {
	all := slices.Clone(layers)
	for _, d := range layers {
		blobs, err := texts[digest.Digest](ctx, s.db, "SELECT digest FROM blob WHERE layer = ?", d)
		if err != nil {
			return Removed{}, s.fail(err)
		}
		all = append(all, blobs...)
	}
	if err := s.unpin(ctx, all); err != nil {
		return Removed{}, err
	}
	return s.collect(ctx, layers)
}

// collectOne removes d if nothing needs it and returns what may have become unneeded by that.
func (s *Store) collectOne(ctx context.Context, tx querier, r *removal, d digest.Digest) ([]digest.Digest, error) {
	if user, err := referrer(ctx, tx, d); err != nil || user != "" {
		return nil, err
	}
	if ok, err := held(ctx, tx, d); err != nil || ok {
		return nil, err
	}
	blob, err := s.blobRow(ctx, tx, d)
	if err != nil && !errors.Is(err, registry.ErrAbsent) {
		return nil, err
	}
	freed, ferr := texts[digest.Digest](ctx, tx, `SELECT digest FROM remade WHERE src = ?1
		UNION SELECT config FROM remade WHERE src = ?1 AND config <> ''
		UNION SELECT digest FROM form WHERE layer = ?1
		UNION SELECT dst FROM edge WHERE src = ?1
		UNION SELECT layer FROM blob WHERE digest = ?1 AND layer IS NOT NULL
		UNION SELECT digest FROM blob WHERE layer = ?1`, d)
	if ferr != nil {
		return nil, ferr
	}
	if _, err := tx.ExecContext(ctx, "DELETE FROM edge WHERE src = ?", d); err != nil {
		return nil, err
	}
	if err == nil {
		if err := r.blob(ctx, tx, blob.desc.Digest); err != nil {
			return nil, err
		}
	}
	if _, err := s.layerRow(ctx, tx, d); err == nil {
		return freed, r.layer(ctx, tx, d)
	} else if !errors.Is(err, registry.ErrAbsent) {
		return nil, err
	}
	return freed, nil
}

// unneeded lists every blob and layer that no image, cache record or lease reaches, those that refer to others first.
func (s *Store) unneeded(ctx context.Context, tx querier) ([]digest.Digest, error) {
	live, err := s.liveOwners(ctx, tx)
	if err != nil {
		return nil, err
	}
	return texts[digest.Digest](ctx, tx, reach+`
		SELECT d FROM (SELECT digest AS d FROM blob WHERE digest NOT IN (SELECT d FROM reach)
			UNION SELECT diffid FROM layer WHERE diffid NOT IN (SELECT d FROM reach))
		ORDER BY d IN (SELECT src FROM edge) DESC`, live)
}

// reached tells whether d is needed.
func (s *Store) reached(ctx context.Context, q querier, d digest.Digest) (bool, error) {
	live, err := s.liveOwners(ctx, q)
	if err != nil {
		return false, err
	}
	var n int
	err = q.QueryRowContext(ctx, reach+"SELECT EXISTS (SELECT 1 FROM reach WHERE d = ?2)", live, d).Scan(&n)
	return n > 0, err
}

// liveOwners lists the owners of leases that still run, as a JSON array.
func (s *Store) liveOwners(ctx context.Context, q querier) (string, error) {
	owners, err := texts[string](ctx, q, "SELECT DISTINCT owner FROM lease")
	if err != nil {
		return "", err
	}
	owners = slices.DeleteFunc(owners, func(id string) bool { return !s.alive(id) })
	list, err := json.Marshal(owners)
	return string(list), err
}

// reach is all that is needed: from images, cache records, parts of repositories, containers and leases of the owners in ?1 along the
// edges, and from compressed forms to layers and back. A form that was made here can be made again, and the
// layer alone does not need it. A remade manifest goes with what it was made of, but does not hold its layers.
const reach = `
	WITH RECURSIVE way (d) AS (
		SELECT digest FROM image UNION SELECT layer FROM cache UNION SELECT digest FROM part UNION SELECT image FROM container
		UNION SELECT digest FROM pin JOIN lease ON lease.id = pin.lease WHERE owner IN (SELECT value FROM json_each(?1))
		UNION SELECT dst FROM way JOIN edge ON src = d
		UNION SELECT layer FROM way JOIN blob ON digest = d WHERE layer IS NOT NULL
		UNION SELECT digest FROM way JOIN blob ON layer = d WHERE digest NOT IN (SELECT digest FROM form)),
	reach (d) AS (
		SELECT d FROM way
		UNION SELECT digest FROM way JOIN remade ON src = d
		UNION SELECT config FROM way JOIN remade ON src = d)`

// collectSlice is how long collectAll lets others wait who want to write, at least: looking for what is unneeded takes
// part of it, and goes over everything each time. They do not wait for ever (openDB).
const collectSlice = 500 * time.Millisecond

// collectAll removes all that nothing needs, manifests first. It can be much, and goes in several transactions then.
func (s *Store) collectAll(ctx context.Context) (gone Removed, err error) {
	for more := true; more && err == nil; {
		var some Removed
		some, err = s.remove(ctx, func(tx querier, r *removal) (err error) {
			more, err = s.collectPart(ctx, tx, r, collectSlice)
			return err
		})
		gone.Blobs, gone.Layers, gone.Bytes = append(gone.Blobs, some.Blobs...), append(gone.Layers, some.Layers...), gone.Bytes+some.Bytes
		if more && err == nil {
			err = breathe(ctx)
		}
	}
	return gone, err
}

// collectPart removes what nothing needs for about as long as slice (0: only the first), and tells whether there is more.
func (s *Store) collectPart(ctx context.Context, tx querier, r *removal, slice time.Duration) (more bool, err error) {
	begin := time.Now()
	list, err := s.unneeded(ctx, tx)
	if err != nil {
		return false, err
	}
	if slice > 0 {
		slice = max(slice, 4*time.Since(begin))
	}
	for i, d := range list {
		if i > 0 && time.Since(begin) > slice {
			return true, nil
		}
		if err := s.removeContent(ctx, tx, r, d); err != nil {
			return false, err
		}
	}
	return false, nil
}

// diskUsage is the disk space that a file or directory with its files takes. What
// cannot be read takes none.
func diskUsage(path string) int64 {
	var n int64
	filepath.WalkDir(path, func(p string, _ fs.DirEntry, err error) error {
		var st unix.Stat_t
		if err == nil && unix.Lstat(p, &st) == nil {
			n += st.Blocks * 512
		}
		return nil
	})
	return n
}

// unpin ends the hold of uploads on what an image keeps from now on, or nothing is to keep.
func (s *Store) unpin(ctx context.Context, digests []digest.Digest) error {
	s.ownMu.Lock()
	l := s.own
	s.ownMu.Unlock()
	if l == nil {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	var pinned []digest.Digest
	for _, d := range digests {
		if l.pins[d] {
			pinned = append(pinned, d)
		}
	}
	if len(pinned) == 0 {
		return nil
	}
	err := s.update(ctx, func(tx querier) error {
		for _, d := range pinned {
			if _, err := tx.ExecContext(ctx, "DELETE FROM pin WHERE digest = ? AND lease = ?", d, l.id); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("release uploads: %w", err)
	}
	for _, d := range pinned {
		delete(l.pins, d)
	}
	return nil
}

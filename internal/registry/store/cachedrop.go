package store

import (
	"context"
	"fmt"
	"os"

	"nacre/internal/registry"

	"github.com/opencontainers/go-digest"
)

// CacheRemoved is what DropCache removed.
type CacheRemoved struct {
	Items   []CacheItem // with the sizes that they had on disk
	Records int
	Bytes   int64
}

// dropAtOnce is how many layers go in one transaction: others wait for it.
const dropAtOnce = 64

// DropCache removes items. What was used since they were listed, or is in use, stays: it is not in the result, which is right after
// an error, too.
func (s *Store) DropCache(ctx context.Context, items []CacheItem) (r CacheRemoved, err error) {
	if err := s.writable(); err != nil {
		return r, err
	}
	var layers []CacheItem
	flush := func() error {
		err := s.dropCacheLayers(ctx, layers, &r)
		layers = layers[:0]
		return err
	}
	for _, c := range items {
		if err := ctx.Err(); err != nil {
			return r, err
		}
		switch c.Kind {
		case CacheLayer:
			if layers = append(layers, c); len(layers) == dropAtOnce {
				err = flush()
			}
		case CacheMount:
			err = s.dropCacheMount(ctx, c, &r)
		case CacheContext:
			if os.Remove(s.path("contexts", c.ID)) == nil {
				r.Items, r.Bytes = append(r.Items, c), r.Bytes+c.Size
			}
		default:
			err = fmt.Errorf("%s: %w", c.ID, registry.ErrInvalid)
		}
		if err != nil {
			return r, err
		}
	}
	return r, flush()
}

func (s *Store) dropCacheMount(ctx context.Context, c CacheItem, r *CacheRemoved) error {
	c.Size = diskUsage(s.path("caches", c.ID))
	ok, err := s.removeCacheDir(ctx, c.ID)
	if ok {
		r.Items, r.Bytes = append(r.Items, c), r.Bytes+c.Size
	}
	return err
}

// dropCacheLayers removes the records of layers, and then the layers that nothing else needs.
func (s *Store) dropCacheLayers(ctx context.Context, layers []CacheItem, r *CacheRemoved) error {
	if len(layers) == 0 {
		return nil
	}
	var gone []CacheItem
	var records int
	err := s.freeing(func() error {
		return s.update(ctx, func(tx querier) error {
			gone, records = nil, 0
			for _, c := range layers {
				n, err := dropRecords(ctx, tx, c)
				if err != nil {
					return err
				}
				if n > 0 {
					gone, records = append(gone, c), records+n
				}
			}
			return dropGoneNotes(ctx, tx)
		})
	})
	if err != nil {
		return err
	}
	r.Records += records
	digests := make([]digest.Digest, len(gone))
	for i, c := range gone {
		gone[i].Size, digests[i] = s.layerUsage(ctx, c.Layer), c.Layer
	}
	removed, err := s.collect(context.WithoutCancel(ctx), digests) // or nobody would know of them any more
	r.Bytes += removed.Bytes
	r.Items = append(r.Items, gone...)
	return err
}

// dropRecords removes the records that lead to c, unless one of them was used or made since c was listed.
func dropRecords(ctx context.Context, tx querier, c CacheItem) (int, error) {
	var latest int64
	if err := tx.QueryRowContext(ctx, "SELECT coalesce(max(used), 0) FROM cache WHERE layer = ?", c.Layer).Scan(&latest); err != nil {
		return 0, err
	}
	if latest == 0 || latest > c.Used.UnixNano() {
		return 0, nil
	}
	res, err := tx.ExecContext(ctx, "DELETE FROM cache WHERE layer = ?", c.Layer)
	if err != nil {
		return 0, err
	}
	n, err := res.RowsAffected()
	return int(n), err
}

package store

import (
	"context"
	"database/sql"
	"os"
	"time"

	"nacre/internal/cache"
	"nacre/internal/cache/trim"

	"github.com/opencontainers/go-digest"
)

// CacheItem is one thing that the build cache may give up: a layer with all records that lead to it, a directory of RUN
// --mount=type=cache, or what is remembered of the files of a build context.
type CacheItem struct {
	ID            string // hex digits of a layer or of a context's file; the name of a directory
	Kind          CacheKind
	Layer         digest.Digest // of CacheLayer
	Mount         CacheDir      // of CacheMount
	Created, Used time.Time
	Size          int64
	// Shared: an image or a repository needs the layer, too. No room is won by its removal.
	Shared bool
	// InUse: a process that runs uses it.
	InUse bool
	// Records of CacheLayer, those used last first, with their notes; where they were asked for.
	Records []cache.Record
}

// CacheKind is what a CacheItem is.
type CacheKind int

// The kinds of things in the build cache.
const (
	CacheLayer CacheKind = iota + 1
	CacheMount
	CacheContext
)

// item is what decides over c. keep says what stays.
func (c CacheItem) item(keep bool) trim.Item {
	it := trim.Item{Size: c.Size, Used: c.Used, Fixed: keep || c.InUse}
	if c.Shared {
		it.Size = 0
	}
	return it
}

// ChooseCache lists those of items that go for l to hold, of those that take has, on the disk as it is.
func (s *Store) ChooseCache(items []CacheItem, l trim.Limits, take func(CacheItem) bool) ([]CacheItem, error) {
	_, free, err := s.Disk()
	if err != nil {
		return nil, err
	}
	list := make([]trim.Item, len(items))
	for i, c := range items {
		list[i] = c.item(!take(c))
	}
	var gone []CacheItem
	for _, i := range l.Choose(list, free, s.now()) {
		gone = append(gone, items[i])
	}
	return gone, nil
}

// CacheItems lists what the build cache has, in no order. With details there are the records, and sizes are those of the
// disk; otherwise layers have the sizes that are on record, which costs no look at them.
func (s *Store) CacheItems(ctx context.Context, details bool) ([]CacheItem, error) {
	items, err := s.cacheLayers(ctx, details)
	if err != nil {
		return nil, err
	}
	size := diskUsage
	if !details {
		size = func(path string) int64 { return diskUsageUntil(ctx, path) }
	}
	dirs, err := s.cacheDirs(ctx, size)
	if err != nil {
		return nil, err
	}
	for _, d := range dirs {
		items = append(items, CacheItem{ID: d.Name, Kind: CacheMount, Mount: d, Created: d.Created, Used: d.Used, Size: d.Size, InUse: d.InUse})
	}
	entries, err := os.ReadDir(s.path("contexts"))
	if err != nil {
		return nil, s.fail(err)
	}
	for _, e := range entries {
		if st, err := e.Info(); err == nil {
			items = append(items, CacheItem{
				ID: e.Name(), Kind: CacheContext, Created: st.ModTime(), Used: st.ModTime(), Size: diskUsage(s.path("contexts", e.Name())),
			})
		}
	}
	return items, nil
}

// cacheLayers are the layers that records lead to.
func (s *Store) cacheLayers(ctx context.Context, details bool) ([]CacheItem, error) {
	held, err := s.heldLayers(ctx)
	if err != nil {
		return nil, err
	}
	type row struct {
		layer         digest.Digest
		created       string
		used, size    int64
		shared        bool
		slot          string
		fields, notes []byte
	}
	record, rest, order := "'', max(cache.used)", "'', NULL, NULL", "GROUP BY cache.layer"
	if details {
		record, rest = "cache.created, cache.used", "cache.slot, cache.fields, (SELECT data FROM note WHERE note.key = cache.key)"
		order = "ORDER BY cache.used DESC, cache.rowid DESC"
	}
	rows, err := all(ctx, s.db, func(r *sql.Rows) (v row, err error) {
		err = r.Scan((*string)(&v.layer), &v.created, &v.used, &v.size, &v.shared, &v.slot, &v.fields, &v.notes)
		return v, err
	}, "SELECT cache.layer, "+record+`, coalesce(layer.size * (1 + (layer.tree IS NOT NULL)), 0)
		+ coalesce((SELECT sum(blob.size) FROM form JOIN blob ON blob.digest = form.digest WHERE form.layer = cache.layer), 0),
		EXISTS (SELECT 1 FROM edge WHERE dst = cache.layer) OR EXISTS (SELECT 1 FROM part WHERE part.digest = cache.layer)
		OR EXISTS (SELECT 1 FROM blob JOIN edge ON dst = blob.digest WHERE blob.layer = cache.layer)
		OR EXISTS (SELECT 1 FROM blob JOIN part ON part.digest = blob.digest WHERE blob.layer = cache.layer), `+rest+`
		FROM cache LEFT JOIN layer ON diffid = cache.layer `+order)
	if err != nil {
		return nil, s.fail(err)
	}
	at := map[digest.Digest]int{}
	var items []CacheItem
	for _, v := range rows {
		i, ok := at[v.layer]
		if !ok {
			i = len(items)
			at[v.layer] = i
			items = append(items, CacheItem{
				ID: v.layer.Encoded(), Kind: CacheLayer, Layer: v.layer, Used: time.Unix(0, v.used), Size: v.size,
				Shared: v.shared, InUse: held[v.layer],
			})
			if details {
				items[i].Size = s.layerUsage(ctx, v.layer)
			}
		}
		if t, err := time.Parse(time.RFC3339Nano, v.created); err == nil && (items[i].Created.IsZero() || t.Before(items[i].Created)) {
			items[i].Created = t
		}
		if !details {
			continue
		}
		if rec, err := cache.Decode(v.slot, v.fields); err == nil {
			rec.Note = v.notes
			items[i].Records = append(items[i].Records, rec)
		}
	}
	return items, nil
}

// heldLayers are those that processes which run hold.
func (s *Store) heldLayers(ctx context.Context) (map[digest.Digest]bool, error) {
	live, err := s.liveOwners(ctx, s.db)
	if err != nil {
		return nil, err
	}
	list, err := texts[digest.Digest](ctx, s.db, `WITH RECURSIVE need (d) AS (SELECT pin.digest FROM pin JOIN lease ON lease.id = pin.lease
			WHERE owner IN (SELECT value FROM json_each(?1))
		UNION SELECT dst FROM need CROSS JOIN edge ON src = d
		UNION SELECT layer FROM need CROSS JOIN blob ON digest = d WHERE layer IS NOT NULL) SELECT d FROM need`, live)
	held := make(map[digest.Digest]bool, len(list))
	for _, d := range list {
		held[d] = true
	}
	return held, s.fail(err)
}

// layerUsage is what a layer takes of the disk, with its compressed forms.
func (s *Store) layerUsage(ctx context.Context, d digest.Digest) int64 {
	n := diskUsage(s.LayerDir(d)) + diskUsage(s.treeDir(d))
	forms, _ := texts[digest.Digest](ctx, s.db, "SELECT form.digest FROM form JOIN blob ON blob.digest = form.digest WHERE form.layer = ?", d)
	for _, f := range forms {
		n += diskUsage(s.blobPath(f))
	}
	return n
}

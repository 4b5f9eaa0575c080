package store

import (
	"context"
	"database/sql"
	"time"

	"github.com/opencontainers/go-digest"
)

// Usage says what takes how much of the disk. Sizes are those of the files as
// allocated, holes not counted.
type Usage struct {
	Images    UsageTotal // layers, manifests, configs and compressed forms that images need
	Cache     UsageTotal // layers that only cache records need; Total counts all records
	CacheDirs UsageTotal // what RUN --mount=type=cache keeps
	Contexts  UsageTotal // stat caches
	Temp      UsageTotal // tmp/ and partial/: work going on, and leftovers
	Forms     UsageTotal // compressed forms of layers, which can be made again
	Pushed    UsageTotal // what only repositories need: pushed without a tag, or not tagged yet; Reclaimable when its grace is over
	Unused    UsageTotal // blobs and layers that nothing needs

	// With verbose:
	ImageList    []ImageUsage
	CacheList    []CacheUsage
	CacheDirList []CacheDir
}

// UsageTotal is one line of a table of usage.
type UsageTotal struct {
	Total, Active int // Active: in use right now
	Size          int64
	Reclaimable   int64 // of Size, by pruning all of the kind
}

// ImageUsage is one image.
type ImageUsage struct {
	Image  Image
	Shared int64 // what other images need too
	Unique int64
}

// CacheUsage is one cache record.
type CacheUsage struct {
	Slot          string
	Layer         digest.Digest
	Created, Used time.Time
	Size          int64
	Shared        bool // an image needs the layer too
}

// Usage adds up what is in the store; with verbose, for every image and record.
func (s *Store) Usage(ctx context.Context, verbose bool) (Usage, error) {
	var u Usage
	sizes, err := s.diskSizes(ctx)
	if err != nil {
		return u, err
	}
	need, err := s.needs(ctx)
	if err != nil {
		return u, err
	}
	inImages, err := s.imageUsage(ctx, &u, sizes, need, verbose)
	if err != nil {
		return u, err
	}
	inCache, err := s.cacheUsage(ctx, &u, sizes, inImages, verbose)
	if err != nil {
		return u, err
	}
	if err := s.formUsage(ctx, &u, sizes, inImages); err != nil {
		return u, err
	}
	inRepos, err := s.pushedUsage(ctx, &u, sizes, inImages, inCache)
	if err != nil {
		return u, err
	}
	for d, n := range sizes {
		if inImages[d] == 0 && !inCache[d] && !inRepos[d] {
			u.Unused.Total++
			u.Unused.Size += n
		}
	}
	u.Unused.Reclaimable = u.Unused.Size
	if err := s.cacheDirUsage(ctx, &u, verbose); err != nil {
		return u, err
	}
	u.Contexts = folderUsage(s.path("contexts"))
	u.Contexts.Reclaimable = u.Contexts.Size
	u.Temp = folderUsage(s.path("tmp"))
	partial := s.partialUsage()
	u.Temp.Total += partial.Total
	u.Temp.Size += partial.Size
	u.Temp.Reclaimable += partial.Reclaimable
	return u, nil
}

// pushedUsage counts what repositories need and neither images nor the cache do.
func (s *Store) pushedUsage(ctx context.Context, u *Usage, sizes map[digest.Digest]int64, inImages map[digest.Digest]int, inCache map[digest.Digest]bool) (map[digest.Digest]bool, error) {
	list, err := texts[digest.Digest](ctx, s.db, `WITH RECURSIVE need (d) AS (SELECT digest FROM part UNION SELECT dst FROM need JOIN edge ON src = d
		UNION SELECT layer FROM need JOIN blob ON digest = d WHERE layer IS NOT NULL) SELECT d FROM need`)
	if err != nil {
		return nil, s.fail(err)
	}
	now, err := texts[digest.Digest](ctx, s.db, "SELECT digest FROM part p GROUP BY digest HAVING max(until) <= ?", s.now().UnixNano())
	if err != nil {
		return nil, s.fail(err)
	}
	over := map[digest.Digest]bool{}
	for _, d := range now {
		over[d] = true
	}
	in := map[digest.Digest]bool{}
	for _, d := range list {
		n, ok := sizes[d]
		if !ok || inImages[d] > 0 || inCache[d] {
			continue
		}
		in[d] = true
		u.Pushed.Total++
		u.Pushed.Size += n
		if over[d] {
			u.Pushed.Reclaimable += n
		}
	}
	return in, nil
}

// formUsage counts the forms that no image refers to, and with them what was remade of manifests, which
// goes with its image alone. All of it is taken out of sizes, so that it is not counted twice.
func (s *Store) formUsage(ctx context.Context, u *Usage, sizes map[digest.Digest]int64, inImages map[digest.Digest]int) error {
	for i, query := range []string{"SELECT digest FROM form", "SELECT digest FROM remade UNION SELECT config FROM remade"} {
		list, err := texts[digest.Digest](ctx, s.db, query)
		if err != nil {
			return s.fail(err)
		}
		for _, d := range list {
			n, ok := sizes[d]
			if !ok || inImages[d] > 0 {
				continue
			}
			u.Forms.Size += n
			if i == 0 {
				u.Forms.Total++
				u.Forms.Reclaimable += n
			}
			delete(sizes, d)
		}
	}
	return nil
}

// diskSizes returns what every blob and layer takes.
func (s *Store) diskSizes(ctx context.Context) (map[digest.Digest]int64, error) {
	sizes := map[digest.Digest]int64{}
	blobs, err := texts[digest.Digest](ctx, s.db, "SELECT digest FROM blob")
	if err != nil {
		return nil, s.fail(err)
	}
	for _, d := range blobs {
		sizes[d] = diskUsage(s.blobPath(d))
	}
	layers, err := texts[digest.Digest](ctx, s.db, "SELECT diffid FROM layer")
	if err != nil {
		return nil, s.fail(err)
	}
	for _, d := range layers {
		sizes[d] += diskUsage(s.LayerDir(d)) + diskUsage(s.treeDir(d))
	}
	return sizes, nil
}

// needs returns, by manifest or index of an image, all that the image needs.
func (s *Store) needs(ctx context.Context) (map[digest.Digest][]digest.Digest, error) {
	rows, err := s.db.QueryContext(ctx, `
		WITH RECURSIVE need (img, d) AS (
			SELECT digest, digest FROM image
			UNION SELECT img, dst FROM need JOIN edge ON src = d
			UNION SELECT img, layer FROM need JOIN blob ON digest = d WHERE layer IS NOT NULL)
		SELECT img, d FROM need`)
	if err != nil {
		return nil, s.fail(err)
	}
	defer rows.Close()
	need := map[digest.Digest][]digest.Digest{}
	for rows.Next() {
		var img, d string
		if err := rows.Scan(&img, &d); err != nil {
			return nil, err
		}
		need[digest.Digest(img)] = append(need[digest.Digest(img)], digest.Digest(d))
	}
	return need, s.fail(rows.Err())
}

// imageUsage returns how many images need each digest.
func (s *Store) imageUsage(ctx context.Context, u *Usage, sizes map[digest.Digest]int64, need map[digest.Digest][]digest.Digest, verbose bool) (map[digest.Digest]int, error) {
	count := map[digest.Digest]int{}
	for _, list := range need {
		for _, d := range list {
			count[d]++
		}
	}
	active, err := s.activeImages(ctx)
	if err != nil {
		return nil, err
	}
	inActive := map[digest.Digest]bool{}
	for img, list := range need {
		u.Images.Total++
		if active[img] {
			u.Images.Active++
			for _, d := range list {
				inActive[d] = true
			}
		}
	}
	for d := range count {
		u.Images.Size += sizes[d]
		if !inActive[d] {
			u.Images.Reclaimable += sizes[d]
		}
	}
	if !verbose {
		return count, nil
	}
	for img, err := range s.Images(ctx) {
		if err != nil {
			return nil, err
		}
		iu := ImageUsage{Image: img}
		for _, d := range need[img.Target.Digest] {
			if count[d] > 1 {
				iu.Shared += sizes[d]
			} else {
				iu.Unique += sizes[d]
			}
		}
		u.ImageList = append(u.ImageList, iu)
	}
	return count, nil
}

// activeImages are those that a container, running or not, or a named lease holds.
func (s *Store) activeImages(ctx context.Context) (map[digest.Digest]bool, error) {
	type row struct {
		digest digest.Digest
		owner  string
	}
	rows, err := all(ctx, s.db, func(r *sql.Rows) (v row, err error) {
		err = r.Scan((*string)(&v.digest), &v.owner)
		return v, err
	}, `SELECT pin.digest, owner FROM pin JOIN lease ON lease.id = pin.lease JOIN image ON image.digest = pin.digest WHERE holder <> ''`)
	if err != nil {
		return nil, s.fail(err)
	}
	active := map[digest.Digest]bool{}
	for _, r := range rows {
		if s.alive(r.owner) {
			active[r.digest] = true
		}
	}
	used, err := texts[digest.Digest](ctx, s.db, "SELECT DISTINCT image FROM container")
	for _, d := range used {
		active[d] = true
	}
	return active, s.fail(err)
}

func (s *Store) cacheUsage(ctx context.Context, u *Usage, sizes map[digest.Digest]int64, inImages map[digest.Digest]int, verbose bool) (map[digest.Digest]bool, error) {
	records, err := all(ctx, s.db, func(r *sql.Rows) (v CacheUsage, err error) {
		var created string
		var used int64
		if err = r.Scan(&v.Slot, (*string)(&v.Layer), &created, &used); err != nil {
			return v, err
		}
		v.Used = time.Unix(0, used)
		v.Created, _ = time.Parse(time.RFC3339Nano, created)
		return v, nil
	}, "SELECT slot, layer, created, used FROM cache ORDER BY used DESC")
	if err != nil {
		return nil, s.fail(err)
	}
	seen := map[digest.Digest]bool{}
	for _, r := range records {
		u.Cache.Total++
		r.Size, r.Shared = sizes[r.Layer], inImages[r.Layer] > 0
		if !r.Shared && !seen[r.Layer] {
			u.Cache.Size += r.Size
		}
		if r.Shared {
			u.Cache.Active++
		}
		seen[r.Layer] = true
		if verbose {
			u.CacheList = append(u.CacheList, r)
		}
	}
	u.Cache.Reclaimable = u.Cache.Size
	return seen, nil
}

func (s *Store) cacheDirUsage(ctx context.Context, u *Usage, verbose bool) error {
	list, err := s.CacheDirs(ctx)
	for _, c := range list {
		u.CacheDirs.Total++
		u.CacheDirs.Size += c.Size
		if c.InUse {
			u.CacheDirs.Active++
		} else {
			u.CacheDirs.Reclaimable += c.Size
		}
	}
	if verbose {
		u.CacheDirList = list
	}
	return err
}

func folderUsage(dir string) UsageTotal {
	names, _ := readNames(dir)
	var t UsageTotal
	for _, name := range names {
		t.Total++
		t.Size += diskUsage(dir + "/" + name)
	}
	return t
}

package store

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"

	"nacre/internal/image"
	"nacre/internal/registry"

	"github.com/opencontainers/go-digest"
)

// Image is an image of the store: a manifest or index that was named once, whether or
// not it still is.
type Image struct {
	// ID is the digest of the config; of an index: that of its child for the
	// platform of this machine, else of the first child that is here.
	ID digest.Digest
	// Target is the manifest or index.
	Target registry.Descriptor
	// Names that it has, in order: tags, then names by digest alone.
	Names []registry.Ref
	// Digests are what registries have it as, "repo@sha256:...": where names by digest say
	// so for a repository of Names, those, else its own digest.
	Digests []registry.Ref
	Created time.Time // from the config; zero where it says none
	Added   time.Time // to this store
	// Size is the sum of the sizes of the files in its layers (of an index: of the
	// child that ID is of).
	Size     int64
	Platform image.Platform // of the config
	Labels   map[string]string
	// Dangling: it has no name any more, or never had.
	Dangling bool
	// Parent is the ID of the image it was made from by a change to it, as commit does;
	// builds set none. Children is the number of images it is the parent of.
	Parent   digest.Digest
	Children int
}

// imageRow is a row of table image.
type imageRow struct {
	desc     registry.Descriptor
	id       digest.Digest
	created  string // RFC 3339 with fraction, or empty
	bytes    int64
	platform string // JSON of image.Platform
	labels   string // JSON object
	parent   digest.Digest
	added    int64
	parts    []digest.Digest // all that it refers to that must be there; not a column
}

const imageColumns = "image.digest, image.media, image.size, id, created, bytes, platform, labels, parent, image.added"

func scanImage(r interface{ Scan(...any) error }) (v imageRow, err error) {
	err = r.Scan((*string)(&v.desc.Digest), &v.desc.MediaType, &v.desc.Size, (*string)(&v.id), &v.created,
		&v.bytes, &v.platform, &v.labels, (*string)(&v.parent), &v.added)
	return v, err
}

// same tells whether two rows say the same of an image, whenever it was added.
func (v imageRow) same(w imageRow) bool {
	return v.desc.Digest == w.desc.Digest && v.desc.MediaType == w.desc.MediaType && v.desc.Size == w.desc.Size &&
		v.id == w.id && v.created == w.created && v.bytes == w.bytes && v.platform == w.platform && v.labels == w.labels &&
		(w.parent == "" || v.parent == w.parent)
}

func (s *Store) insertImage(ctx context.Context, tx querier, v imageRow) error {
	// An image tagged again keeps the parent and the time it came with.
	_, err := tx.ExecContext(ctx, `INSERT INTO image (digest, media, size, id, created, bytes, platform, labels, parent, added)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (digest) DO UPDATE SET media = excluded.media, size = excluded.size, id = excluded.id, created = excluded.created,
			bytes = excluded.bytes, platform = excluded.platform, labels = excluded.labels,
			parent = CASE WHEN excluded.parent = '' THEN parent ELSE excluded.parent END`,
		v.desc.Digest, v.desc.MediaType, v.desc.Size, v.id, v.created, v.bytes, v.platform, v.labels, v.parent, s.now().UnixNano())
	return err
}

// deleteImage removes the record of an image; its content is left to collect.
func deleteImage(ctx context.Context, tx querier, d digest.Digest) error {
	if _, err := tx.ExecContext(ctx, "DELETE FROM name WHERE target = ?", d); err != nil {
		return err
	}
	_, err := tx.ExecContext(ctx, "DELETE FROM image WHERE digest = ?", d)
	return err
}

// Images yields every image, newest first. No file is read.
func (s *Store) Images(ctx context.Context) iter.Seq2[Image, error] {
	return func(yield func(Image, error) bool) {
		images, err := s.images(ctx, s.db, "")
		if err != nil {
			yield(Image{}, err)
			return
		}
		for _, img := range images {
			if !yield(img, nil) {
				return
			}
		}
	}
}

// images reads the images that fit where, a condition on table image, newest first.
func (s *Store) images(ctx context.Context, q querier, where string, args ...any) ([]Image, error) {
	if where != "" {
		where = " WHERE " + where
	}
	rows, err := all(ctx, q, func(r *sql.Rows) (imageRow, error) { return scanImage(r) }, "SELECT "+imageColumns+" FROM image"+where, args...)
	if err != nil || len(rows) == 0 {
		return nil, s.fail(err)
	}
	index := make(map[digest.Digest]int, len(rows))
	platforms := map[string]image.Platform{} // there are few different ones
	images := make([]Image, len(rows))
	for i, row := range rows {
		if images[i], err = row.image(platforms); err != nil {
			return nil, fmt.Errorf("image %s: %w: %w", row.desc.Digest, ErrDamaged, err)
		}
		index[row.desc.Digest] = i
	}
	if err := s.addNames(ctx, q, images, index, where, args); err != nil {
		return nil, s.fail(err)
	}
	if err := addChildren(ctx, q, images); err != nil {
		return nil, s.fail(err)
	}
	// Newest first; what was made at the same time, such as one image in two forms, in the same order each time, for people.
	slices.SortFunc(images, func(a, b Image) int {
		return cmp.Or(b.Created.Compare(a.Created), strings.Compare(firstName(a), firstName(b)), cmp.Compare(a.Target.Digest, b.Target.Digest))
	})
	return images, nil
}

// firstName is what an image is sorted by among those as old as it is.
func firstName(img Image) string {
	if len(img.Names) == 0 {
		return "\xff"
	}
	return img.Names[0].Repo + ":" + img.Names[0].Tag
}

func (v imageRow) image(platforms map[string]image.Platform) (Image, error) {
	img := Image{ID: v.id, Target: v.desc, Size: v.bytes, Parent: v.parent, Added: time.Unix(0, v.added), Dangling: true}
	var err error
	if v.created != "" {
		if img.Created, err = time.Parse(time.RFC3339Nano, v.created); err != nil {
			return img, err
		}
	}
	p, ok := platforms[v.platform]
	if !ok {
		if err := json.Unmarshal([]byte(v.platform), &p); err != nil {
			return img, err
		}
		platforms[v.platform] = p
	}
	img.Platform = p
	if v.labels != "{}" {
		err = json.Unmarshal([]byte(v.labels), &img.Labels)
	}
	return img, err
}

// addNames gives images their names, in order.
func (s *Store) addNames(ctx context.Context, q querier, images []Image, index map[digest.Digest]int, where string, args []any) error {
	query := "SELECT repo, tag, name.digest, target FROM name"
	if where != "" {
		query += " JOIN image ON image.digest = name.target" + where
	}
	rows, err := q.QueryContext(ctx, query+" ORDER BY repo, tag, name.digest", args...) // the order of the table

	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var ref registry.Ref
		var target digest.Digest
		if err := rows.Scan(&ref.Repo, &ref.Tag, (*string)(&ref.Digest), (*string)(&target)); err != nil {
			return err
		}
		i, ok := index[target]
		if !ok {
			continue // named since the images were read
		}
		images[i].Names = append(images[i].Names, ref)
		images[i].Dangling = false
	}
	for i := range images {
		images[i].Digests = digests(images[i])
		slices.SortStableFunc(images[i].Names, func(a, b registry.Ref) int { return cmp.Compare(len(a.Digest), len(b.Digest)) })
	}
	return rows.Err()
}

// digests makes Image.Digests. Its Names are in the order of repositories.
func digests(img Image) (out []registry.Ref) {
	for _, n := range img.Names {
		if n.Digest != "" {
			out = append(out, n)
		}
	}
	for _, n := range img.Names {
		if !slices.ContainsFunc(out, func(d registry.Ref) bool { return d.Repo == n.Repo }) {
			out = append(out, registry.Ref{Repo: n.Repo, Digest: img.Target.Digest})
		}
	}
	slices.SortStableFunc(out, func(a, b registry.Ref) int { return cmp.Compare(a.Repo, b.Repo) })
	return out
}

func addChildren(ctx context.Context, q querier, images []Image) error {
	type family struct {
		parent digest.Digest
		n      int
	}
	rows, err := all(ctx, q, func(r *sql.Rows) (f family, err error) {
		err = r.Scan((*string)(&f.parent), &f.n)
		return f, err
	}, "SELECT parent, count(DISTINCT id) FROM image WHERE parent <> '' GROUP BY parent")
	if err != nil || len(rows) == 0 {
		return err
	}
	n := map[digest.Digest]int{}
	for _, f := range rows {
		n[f.parent] = f.n
	}
	for i := range images {
		images[i].Children = n[images[i].ID]
	}
	return nil
}

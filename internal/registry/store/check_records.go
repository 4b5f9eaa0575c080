package store

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"time"

	"nacre/internal/cache"
	"nacre/internal/image"
	"nacre/internal/registry"

	"github.com/opencontainers/go-digest"
)

// images compares every image with what its manifest and config say.
func (c *checker) images(ctx context.Context) error {
	rows, err := all(ctx, c.s.db, func(r *sql.Rows) (imageRow, error) { return scanImage(r) }, "SELECT "+imageColumns+" FROM image")
	if err != nil {
		return err
	}
	c.report.Images = len(rows)
	for _, row := range rows {
		if err := c.image(ctx, row); err != nil {
			return err
		}
	}
	return nil
}

func (c *checker) image(ctx context.Context, row imageRow) error {
	d := row.desc.Digest
	object := "image " + c.nameOf(ctx, row)
	pushed, err := c.count(ctx, "SELECT count(*) FROM part WHERE digest = ? AND kept = 1", d)
	if err != nil {
		return err
	}
	now, err := c.examine(ctx, row.desc, pushed > 0)
	if n, cerr := c.count(ctx, "SELECT count(*) FROM image WHERE digest = ?", d); cerr != nil || n == 0 {
		return cerr // removed meanwhile
	}
	var part *partError
	switch {
	case errors.As(err, &part) && part.spare:
		return c.problem(Problem{Object: object, Text: part.Error(), Fix: "it still runs; pull or load it again to have it whole"}, nil)
	case errors.As(err, &part), errors.Is(err, registry.ErrAbsent), errors.Is(err, registry.ErrInvalid), errors.Is(err, image.ErrInvalid),
		errors.Is(err, registry.ErrDigest), errors.Is(err, registry.ErrSize), errors.Is(err, registry.ErrUnsupported):
		return c.problem(Problem{Object: object, Text: err.Error(), Fix: "the image and its names are dropped"}, func() error {
			return c.s.updateDurably(ctx, func(tx querier) error { return deleteImage(ctx, tx, d) })
		})
	case err != nil:
		return err
	}
	if pushed > 0 {
		now.bytes = row.bytes // known when its layers are made
	}
	if row.same(now) {
		return nil
	}
	// A list is described by what was here when it was made: more of it may have come, or gone, since.
	if n, err := c.count(ctx, "SELECT count(*) FROM edge JOIN origin ON origin.digest = edge.dst WHERE edge.src = ?", d); err != nil || n > 0 {
		return err
	}
	return c.problem(Problem{Object: object, Text: "the record does not match the manifest", Fix: "the record is put right"}, func() error {
		return c.s.updateDurably(ctx, func(tx querier) error { return c.s.insertImage(ctx, tx, now) })
	})
}

// partError: a part of an image is lost or damaged.
type partError struct {
	what  string
	spare bool // only needed to pass the image on
	bad   bool // it is on record, and its file is not right
}

func (e *partError) Error() string { return e.what }

// examine is Store.examine after looking, without changing anything, whether
// every part is fit to be examined. One that was pushed is only described: its layers need not be made yet.
func (c *checker) examine(ctx context.Context, d registry.Descriptor, pushed bool) (imageRow, error) {
	if err := c.parts(ctx, d, pushed); err != nil {
		return imageRow{}, err
	}
	if !pushed {
		return c.s.examine(ctx, d)
	}
	data, err := c.s.readBlob(ctx, d)
	if err != nil {
		return imageRow{}, err
	}
	row, _ := c.s.describe(ctx, c.s.db, d, data, 0)
	return row, nil
}

func (c *checker) parts(ctx context.Context, d registry.Descriptor, pushed bool) error {
	if ok, err := c.fit(ctx, d.Digest); err != nil {
		return err
	} else if !ok {
		return &partError{what: fmt.Sprintf("manifest %s is missing or damaged", d.Digest), bad: c.bad[d.Digest]}
	}
	data, err := c.s.readBlob(ctx, d)
	if err != nil {
		return err
	}
	if image.IsIndex(d.MediaType) {
		x, err := image.ParseIndex(data)
		if err != nil {
			return err
		}
		for _, child := range x.Manifests {
			if !image.IsManifestOrIndex(child.MediaType) {
				continue
			}
			if !c.s.hasBlobRow(ctx, child.Digest) && !c.bad[child.Digest] {
				continue // never fetched
			}
			err := c.parts(ctx, child, pushed)
			if part := new(partError); errors.As(err, &part) && !part.bad && c.s.elsewhere(ctx, child.Digest) {
				continue // it was never here as a whole
			}
			if err != nil {
				return err
			}
		}
		return nil
	}
	m, err := image.ParseManifest(data)
	if err != nil {
		return err
	}
	ok, err := c.fit(ctx, m.Config.Digest)
	if err == nil && !ok && pushed {
		// What was never pushed is not lost.
		if n, err := c.count(ctx, "SELECT count(*) FROM part WHERE digest = ?", m.Config.Digest); err != nil || n == 0 {
			return err
		}
	}
	if err != nil {
		return err
	}
	if !ok {
		return &partError{what: fmt.Sprintf("config %s is missing or damaged", m.Config.Digest), bad: c.bad[m.Config.Digest]}
	}
	if !image.IsConfig(m.Config.MediaType) {
		return nil
	}
	cfg, _, err := c.s.Config(ctx, m.Config)
	if errors.Is(err, registry.ErrInvalid) || err == nil && len(cfg.RootFS.DiffIDs) != len(m.Layers) {
		return nil // what was pushed may be so; of others examine says it
	}
	if err != nil {
		return err
	}
	for i, l := range m.Layers {
		if err := c.layerPart(ctx, l, cfg.RootFS.DiffIDs[i], pushed); err != nil {
			return err
		}
	}
	return nil
}

func (c *checker) layerPart(ctx context.Context, l registry.Descriptor, diffID digest.Digest, pushed bool) error {
	blob, err := c.fit(ctx, l.Digest)
	if err != nil {
		return err
	}
	tar, err := c.fit(ctx, diffID)
	switch {
	case err != nil:
		return err
	case !tar && !blob && registry.MayLack(l):
		return nil
	case !tar && blob && c.unmade(ctx, l.Digest):
		return nil
	case pushed && !blob && !c.bad[l.Digest]:
		n, err := c.count(ctx, "SELECT count(*) FROM part WHERE digest = ?", l.Digest)
		if err != nil || n == 0 {
			return err // never pushed
		}
		return &partError{what: fmt.Sprintf("layer %s is missing", l.Digest), bad: c.bad[l.Digest]}
	case !tar:
		return &partError{what: fmt.Sprintf("layer %s is missing or damaged", diffID), bad: c.bad[l.Digest] || c.bad[diffID]}
	case !blob && !registry.MayLack(l):
		return &partError{what: fmt.Sprintf("the compressed form %s of layer %s is missing or damaged", l.Digest, diffID), spare: true, bad: c.bad[l.Digest]}
	}
	return nil
}

// unmade tells whether a blob was pushed as a layer and nobody has needed the layer yet.
func (c *checker) unmade(ctx context.Context, d digest.Digest) bool {
	n, err := c.count(ctx, "SELECT count(*) FROM blob WHERE digest = ? AND layer IS NULL", d)
	return err == nil && n > 0
}

// fit tells whether a blob or layer is there and was found right.
func (c *checker) fit(ctx context.Context, d digest.Digest) (bool, error) {
	if c.bad[d] {
		return false, nil
	}
	if _, err := c.s.blobRow(ctx, c.s.db, d); err == nil {
		_, err := os.Lstat(c.s.blobPath(d))
		return err == nil, nil
	}
	return c.s.hasLayer(ctx, c.s.db, d)
}

// nameOf is how people know an image: its first name or its ID.
func (c *checker) nameOf(ctx context.Context, row imageRow) string {
	var ref registry.Ref
	err := c.s.db.QueryRowContext(ctx, "SELECT repo, tag, digest FROM name WHERE target = ? ORDER BY tag = '', repo, tag LIMIT 1", row.desc.Digest).
		Scan(&ref.Repo, &ref.Tag, (*string)(&ref.Digest))
	if err != nil {
		return row.desc.Digest.String()
	}
	return ref.Familiar()
}

func (c *checker) count(ctx context.Context, query string, args ...any) (n int, err error) {
	err = c.s.db.QueryRowContext(ctx, query, args...).Scan(&n)
	return n, err
}

// names looks for names of nothing and names that nobody could type.
func (c *checker) names(ctx context.Context) error {
	type name struct {
		ref    registry.Ref
		target digest.Digest
		known  bool
	}
	rows, err := all(ctx, c.s.db, func(r *sql.Rows) (v name, err error) {
		err = r.Scan(&v.ref.Repo, &v.ref.Tag, (*string)(&v.ref.Digest), (*string)(&v.target), &v.known)
		return v, err
	}, "SELECT repo, tag, digest, target, EXISTS (SELECT 1 FROM image WHERE image.digest = target) FROM name")
	if err != nil {
		return err
	}
	c.report.Names = len(rows)
	for _, n := range rows {
		parsed, err := registry.ParseRef(n.ref.String())
		if err != nil || parsed != n.ref {
			err := c.problem(Problem{Object: fmt.Sprintf("name %q", n.ref), Text: "it is no name", Fix: "it is dropped"}, func() error {
				return c.dropName(ctx, n.ref)
			})
			if err != nil {
				return err
			}
			continue
		}
		if n.known {
			continue
		}
		if m, err := c.count(ctx, "SELECT count(*) FROM name WHERE repo = ? AND tag = ? AND digest = ? AND target = ?",
			n.ref.Repo, n.ref.Tag, n.ref.Digest, n.target); err != nil || m == 0 {
			return err // removed with its image meanwhile
		}
		if err := c.orphanName(ctx, n.ref, n.target); err != nil {
			return err
		}
	}
	return nil
}

// orphanName deals with a name whose image is not on record: if the manifest is
// there the record is made again.
func (c *checker) orphanName(ctx context.Context, ref registry.Ref, target digest.Digest) error {
	p := Problem{Object: "name " + ref.Familiar(), Text: fmt.Sprintf("it names %s, which is no image here", target)}
	if blob, err := c.s.blobRow(ctx, c.s.db, target); err == nil {
		if row, err := c.examine(ctx, blob.desc, false); err == nil {
			p.Fix = "the image is recorded again"
			return c.problem(p, func() error {
				return c.s.updateDurably(ctx, func(tx querier) error { return c.s.insertImage(ctx, tx, row) })
			})
		}
	}
	p.Fix = "it is dropped"
	return c.problem(p, func() error { return c.dropName(ctx, ref) })
}

func (c *checker) dropName(ctx context.Context, ref registry.Ref) error {
	return c.s.updateDurably(ctx, func(tx querier) error {
		_, err := deleteName(ctx, tx, ref)
		return err
	})
}

// cache looks for records whose key is not that of their fields and for promises of
// layers that are not there.
func (c *checker) cache(ctx context.Context) error {
	type record struct {
		rowid               int64
		key, fields         []byte
		slot, created, diff string
	}
	rows, err := all(ctx, c.s.db, func(r *sql.Rows) (v record, err error) {
		err = r.Scan(&v.rowid, &v.key, &v.slot, &v.fields, &v.diff, &v.created)
		return v, err
	}, "SELECT rowid, key, slot, fields, layer, created FROM cache")
	if err != nil {
		return err
	}
	c.report.Records = len(rows)
	for _, r := range rows {
		text := ""
		rec, err := cache.Decode(r.slot, r.fields)
		_, terr := time.Parse(time.RFC3339Nano, r.created)
		if err != nil || terr != nil || !bytes.Equal(rec.Key[:], r.key) {
			text = "it is damaged"
		} else if ok, err := c.fit(ctx, digest.Digest(r.diff)); err != nil {
			return err
		} else if !ok {
			text = "layer " + r.diff + " is missing or damaged"
		}
		if text == "" {
			continue
		}
		if n, err := c.count(ctx, "SELECT count(*) FROM cache WHERE rowid = ? AND layer = ?", r.rowid, r.diff); err != nil || n == 0 {
			if err != nil {
				return err
			}
			continue // pruned meanwhile
		}
		err = c.problem(Problem{Object: fmt.Sprintf("cache record %.12x", r.key), Text: text, Fix: "it is dropped"}, func() error {
			return c.s.update(ctx, func(tx querier) error {
				_, err := tx.ExecContext(ctx, "DELETE FROM cache WHERE rowid = ?", r.rowid)
				return err
			})
		})
		if err != nil {
			return err
		}
	}
	return nil
}

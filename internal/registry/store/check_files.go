package store

import (
	"context"
	"database/sql"
	"errors"
	"os"
	"path/filepath"

	"nacre/internal/image"
	"nacre/internal/registry"

	"github.com/opencontainers/go-digest"
)

// blobs hashes every blob.
func (c *checker) blobs(ctx context.Context) error {
	rows, err := all(ctx, c.s.db, func(r *sql.Rows) (blobRow, error) { return scanBlob(r) }, "SELECT "+blobColumns+" FROM blob")
	if err != nil {
		return err
	}
	c.report.Blobs = len(rows)
	var total int64
	for _, r := range rows {
		total += r.desc.Size
	}
	return each(ctx, rows, func(ctx context.Context, row blobRow) error { return c.blob(ctx, row, total) })
}

func (c *checker) blob(ctx context.Context, row blobRow, total int64) error {
	d := row.desc.Digest
	wrong, err := c.blobWrong(ctx, row, total)
	if err != nil || wrong == "" {
		return err
	}
	// It may have been removed or made again since the row was read.
	now, err := c.s.blobRow(ctx, c.s.db, d)
	if errors.Is(err, registry.ErrAbsent) {
		return nil
	}
	if err != nil {
		return err
	}
	if wrong, err = c.blobWrong(ctx, now, total); err != nil || wrong == "" {
		return err
	}
	if wrong == missing {
		gone, err := c.remnant(ctx, d, func(tx querier, r *removal) error {
			if _, err := tx.ExecContext(ctx, "DELETE FROM edge WHERE src = ?", d); err != nil {
				return err
			}
			return r.blob(ctx, tx, d)
		})
		if err != nil || gone {
			return err
		}
	}
	if wrong == sizeRecord {
		return c.problem(Problem{Object: "blob " + d.String(), Text: wrong, Fix: "the record is put right"}, func() error {
			st, err := os.Lstat(c.s.blobPath(d))
			if err != nil {
				return err
			}
			return c.s.update(ctx, func(tx querier) error {
				_, err := tx.ExecContext(ctx, "UPDATE blob SET size = ? WHERE digest = ?", st.Size(), d)
				return err
			})
		})
	}
	c.setBad(d, true)
	return c.problem(Problem{Object: "blob " + d.String(), Text: wrong, Fix: "it is dropped"}, func() error { return c.s.dropBlob(ctx, d) })
}

const (
	missing    = "the file is missing"
	sizeRecord = "the record has the wrong size" // and the file is right
)

func (c *checker) blobWrong(ctx context.Context, row blobRow, total int64) (string, error) {
	got, n, err := hashFile(ctx, c.s.blobPath(row.desc.Digest), row.desc.Digest.Algorithm())
	switch {
	case errors.Is(err, os.ErrNotExist):
		return missing, nil
	case ctx.Err() != nil:
		return "", ctx.Err()
	case err != nil:
		return "it cannot be read: " + err.Error(), nil
	}
	c.hashed(n, total)
	switch {
	case got != row.desc.Digest:
		return "the content does not match the digest", nil
	case n != row.desc.Size:
		return sizeRecord, nil
	}
	return "", nil
}

// layers reads every layer whole.
func (c *checker) layers(ctx context.Context) error {
	rows, err := all(ctx, c.s.db, func(r *sql.Rows) (layerRow, error) { return scanLayer(r) }, "SELECT "+layerColumns+" FROM layer")
	if err != nil {
		return err
	}
	c.report.Layers = len(rows)
	var total int64
	for _, r := range rows {
		total += r.info.Size
	}
	c.mu.Lock()
	total += c.report.Bytes
	c.mu.Unlock()
	return each(ctx, rows, func(ctx context.Context, row layerRow) error { return c.layer(ctx, row, total) })
}

func (c *checker) layer(ctx context.Context, row layerRow, total int64) error {
	d := row.info.DiffID
	if !c.s.o.ReadOnly {
		// Nobody verifies or makes it again at the same time.
		unlock, err := c.s.Lock(ctx, "layer-"+d.Encoded())
		if err != nil {
			return err
		}
		defer unlock()
	}
	dir, remove, err := c.s.scratch("check")
	if err != nil {
		return err
	}
	defer remove()
	info, same, err := c.s.compareIndex(ctx, d, dir)
	if ctx.Err() != nil || isFull(err) {
		return errors.Join(ctx.Err(), err)
	}
	c.hashed(row.info.Size, total)
	if gone, gerr := c.layerGone(ctx, d); gerr != nil || gone {
		return gerr
	}
	if err != nil || info.DiffID != d {
		return c.layerLost(ctx, d, err)
	}
	object := "layer " + d.String()
	if !same {
		err := c.problem(Problem{Object: object, Text: "the index does not match the tar", Fix: "the index is made again"}, func() error {
			c.s.forgetLayer(d)
			return os.Rename(filepath.Join(dir, "layer.erofs"), filepath.Join(c.s.LayerDir(d), "layer.erofs"))
		})
		if err != nil {
			return err
		}
	}
	if info != row.info {
		err := c.problem(Problem{Object: object, Text: "the record does not match the tar", Fix: "the record is put right"}, func() error {
			return c.s.update(ctx, func(tx querier) error {
				_, err := tx.ExecContext(ctx, "UPDATE layer SET size = ?, content = ?, entries = ?, files = ? WHERE diffid = ?",
					info.Size, info.Content, info.Entries, info.FileBytes, d)
				return err
			})
		})
		if err != nil {
			return err
		}
	}
	c.s.setWhole(d)
	if row.tree.Valid && c.s.sure(row.tree.String) {
		return c.tree(ctx, d)
	}
	return nil
}

// layerGone tells whether a layer was removed since its row was read, or is
// what a removal left that died.
func (c *checker) layerGone(ctx context.Context, d digest.Digest) (bool, error) {
	_, err := c.s.layerRow(ctx, c.s.db, d)
	if errors.Is(err, registry.ErrAbsent) {
		return true, nil
	}
	if err != nil || c.s.layerFiles(d) {
		return false, err
	}
	return c.remnant(ctx, d, func(tx querier, r *removal) error { return r.layer(ctx, tx, d) })
}

// remnant tells whether a record without its file is what a removal left that
// died between moving files away and committing: nothing needs it then. It is
// removed when repairing.
func (c *checker) remnant(ctx context.Context, d digest.Digest, remove func(tx querier, r *removal) error) (bool, error) {
	if needed, err := c.s.reached(ctx, c.s.db, d); err != nil || needed {
		return false, err
	}
	c.leftover(1)
	if !c.repair {
		return true, nil
	}
	return true, c.s.removing(ctx, func(tx querier, r *removal) error {
		if needed, err := c.s.reached(ctx, tx, d); err != nil || needed {
			return err
		}
		return remove(tx, r)
	})
}

// layerLost deals with a layer whose tar is not what it should be.
func (c *checker) layerLost(ctx context.Context, d digest.Digest, cause error) error {
	text := "the tar does not match the diffID"
	switch {
	case errors.Is(cause, os.ErrNotExist):
		text = "the tar is missing"
	case cause != nil:
		text = "the tar cannot be read: " + cause.Error()
	}
	var blobs int
	err := c.s.db.QueryRowContext(ctx, "SELECT count(*) FROM blob WHERE layer = ?", d).Scan(&blobs)
	if err != nil {
		return err
	}
	p := Problem{Object: "layer " + d.String(), Text: text, Fix: "it is dropped"}
	if blobs > 0 {
		p.Fix = "it is made again from its compressed form"
	}
	c.setBad(d, true)
	return c.problem(p, func() error {
		if blobs == 0 {
			return c.s.dropLayer(ctx, d)
		}
		// The cache records of a layer that comes back stay right.
		err := c.s.removing(ctx, func(tx querier, r *removal) error { return r.layer(ctx, tx, d) })
		if err != nil {
			return err
		}
		err = c.s.remakeLayer(ctx, d)
		if errors.Is(err, registry.ErrAbsent) {
			return c.s.dropLayer(ctx, d)
		}
		if err == nil {
			c.setBad(d, false)
		}
		return err
	})
}

// edges compares what manifests refer to with the record of it.
func (c *checker) edges(ctx context.Context) error {
	rows, err := all(ctx, c.s.db, func(r *sql.Rows) (blobRow, error) { return scanBlob(r) }, "SELECT "+blobColumns+" FROM blob WHERE media LIKE 'application/vnd.%+json'")
	if err != nil {
		return err
	}
	for _, row := range rows {
		if c.bad[row.desc.Digest] || !image.IsManifestOrIndex(row.desc.MediaType) {
			continue
		}
		if err := c.edgesOf(ctx, row.desc); err != nil {
			return err
		}
	}
	return nil
}

func (c *checker) edgesOf(ctx context.Context, d registry.Descriptor) error {
	data, err := c.s.readBlob(ctx, d)
	if errors.Is(err, registry.ErrAbsent) {
		return nil // removed meanwhile
	}
	if err != nil {
		return err
	}
	object := "manifest " + d.Digest.String()
	refs, err := registry.Refers(d, data)
	if err != nil {
		return c.problem(Problem{Object: object, Text: err.Error(), Fix: "it is dropped"}, func() error {
			c.setBad(d.Digest, true)
			return c.s.dropBlob(ctx, d.Digest)
		})
	}
	want := map[digest.Digest]bool{}
	for _, r := range refs {
		want[r.Digest] = true
	}
	have, err := texts[digest.Digest](ctx, c.s.db, "SELECT dst FROM edge WHERE src = ?", d.Digest)
	if err != nil {
		return err
	}
	wrong := len(have) != len(want)
	for _, h := range have {
		wrong = wrong || !want[h]
	}
	if !wrong {
		return c.subject(ctx, d, data)
	}
	if _, err := c.s.blobRow(ctx, c.s.db, d.Digest); errors.Is(err, registry.ErrAbsent) {
		return nil
	}
	return c.problem(Problem{Object: object, Text: "the record of what it refers to is wrong", Fix: "the record is put right"}, func() error {
		return c.s.update(ctx, func(tx querier) error {
			if _, err := tx.ExecContext(ctx, "DELETE FROM edge WHERE src = ?", d.Digest); err != nil {
				return err
			}
			return c.s.insertMeaning(ctx, tx, d, data, refs)
		})
	})
}

package store

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"nacre/internal/cache"
	"nacre/internal/image"
	"nacre/internal/layer"
	"nacre/internal/registry"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
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
	now, err := c.examine(ctx, row.desc)
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
	if row.same(now) {
		return nil
	}
	return c.problem(Problem{Object: object, Text: "the record does not match the manifest", Fix: "the record is put right"}, func() error {
		return c.s.updateDurably(ctx, func(tx querier) error { return c.s.insertImage(ctx, tx, now) })
	})
}

// partError: a part of an image is lost or damaged.
type partError struct {
	what  string
	spare bool // only needed to pass the image on
}

func (e *partError) Error() string { return e.what }

// examine is Store.examine after looking, without changing anything, whether
// every part is fit to be examined.
func (c *checker) examine(ctx context.Context, d registry.Descriptor) (imageRow, error) {
	if err := c.parts(ctx, d); err != nil {
		return imageRow{}, err
	}
	return c.s.examine(ctx, d)
}

func (c *checker) parts(ctx context.Context, d registry.Descriptor) error {
	if ok, err := c.fit(ctx, d.Digest); err != nil {
		return err
	} else if !ok {
		return &partError{what: fmt.Sprintf("manifest %s is missing or damaged", d.Digest)}
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
			if !image.IsManifest(child.MediaType) && !image.IsIndex(child.MediaType) {
				continue
			}
			if !c.s.hasBlobRow(ctx, child.Digest) && !c.bad[child.Digest] {
				continue // never fetched
			}
			if err := c.parts(ctx, child); err != nil {
				return err
			}
		}
		return nil
	}
	m, err := image.ParseManifest(data)
	if err != nil {
		return err
	}
	if ok, err := c.fit(ctx, m.Config.Digest); err != nil {
		return err
	} else if !ok {
		return &partError{what: fmt.Sprintf("config %s is missing or damaged", m.Config.Digest)}
	}
	if !image.IsConfig(m.Config.MediaType) {
		return nil
	}
	cfg, _, err := c.s.Config(ctx, m.Config)
	if err != nil || len(cfg.RootFS.DiffIDs) != len(m.Layers) {
		return err // examine says what about the number
	}
	for i, l := range m.Layers {
		if err := c.layerPart(ctx, l, cfg.RootFS.DiffIDs[i]); err != nil {
			return err
		}
	}
	return nil
}

func (c *checker) layerPart(ctx context.Context, l registry.Descriptor, diffID digest.Digest) error {
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
	case !tar:
		return &partError{what: fmt.Sprintf("layer %s is missing or damaged", diffID)}
	case !blob && !registry.MayLack(l):
		return &partError{what: fmt.Sprintf("the compressed form %s of layer %s is missing or damaged", l.Digest, diffID), spare: true}
	}
	return nil
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
		if row, err := c.examine(ctx, blob.desc); err == nil {
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

// unrecorded looks for files without a record that something needs: the record
// is lost, and can be made again.
func (c *checker) unrecorded(ctx context.Context) error {
	var strays []string
	look := func(tx querier) (err error) {
		strays, err = c.s.strays(ctx, tx)
		return err
	}
	if err := c.still(ctx, look); err != nil {
		return err
	}
	for _, path := range strays {
		d := digest.Digest("sha256:" + filepath.Base(path))
		if _, err := hexOf(d); err != nil {
			continue
		}
		if needed, err := c.needed(ctx, d); err != nil {
			return err
		} else if !needed {
			continue // a leftover
		}
		var err error
		if strings.HasPrefix(path, c.s.path("blobs")) {
			err = c.problem(Problem{Object: "blob " + d.String(), Text: "it is not on record", Fix: "it is recorded again if it is right"}, func() error {
				return c.s.recordBlob(ctx, d)
			})
		} else if strings.HasPrefix(path, c.s.path("layers")) {
			err = c.problem(Problem{Object: "layer " + d.String(), Text: "it is not on record", Fix: "it is recorded again if it is right"}, func() error {
				return c.s.recordLayer(ctx, d)
			})
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// still runs f while nobody writes, where that can be had.
func (c *checker) still(ctx context.Context, f func(tx querier) error) error {
	if c.s.o.ReadOnly {
		return f(c.s.db)
	}
	return c.s.update(ctx, f)
}

// needed tells whether something on record cannot do without d. An index can, without
// its children; a compressed form without its layer, which is made again.
func (c *checker) needed(ctx context.Context, d digest.Digest) (bool, error) {
	n, err := c.count(ctx, `SELECT EXISTS (SELECT 1 FROM edge JOIN blob ON blob.digest = src WHERE dst = ?1 AND media NOT IN (?2, ?3))
		OR EXISTS (SELECT 1 FROM image WHERE digest = ?1 OR id = ?1)
		OR EXISTS (SELECT 1 FROM name WHERE target = ?1) OR EXISTS (SELECT 1 FROM cache WHERE layer = ?1)`,
		d, image.TypeIndex, image.TypeDockerIndex)
	return n > 0, err
}

// recordBlob records a file of blobs/ that has no record, if it is what its name says.
func (s *Store) recordBlob(ctx context.Context, d digest.Digest) error {
	got, size, err := hashFile(ctx, s.blobPath(d))
	if err != nil || got != d {
		return err // a leftover
	}
	desc := registry.Descriptor{MediaType: "application/octet-stream", Digest: d, Size: size}
	var refs []registry.Descriptor
	if size <= image.MaxSize {
		data, err := s.readBlob(ctx, desc)
		if err != nil {
			return err
		}
		// Configs look a little like manifests; only what parses is one.
		if mediaType, err := image.MediaTypeOf(data); err == nil {
			as := desc
			as.MediaType = mediaType
			if refs, err = registry.Refers(as, data); err == nil {
				desc = as
			}
		}
	}
	return s.update(ctx, func(tx querier) error {
		if err := s.insertBlob(ctx, tx, desc, "", s.boot); err != nil {
			return err
		}
		return insertEdges(ctx, tx, d, refs)
	})
}

// recordLayer records a directory of layers/ that has no record, if it is what its name says.
func (s *Store) recordLayer(ctx context.Context, d digest.Digest) error {
	info, err := s.reindex(ctx, d)
	if ctx.Err() != nil || isFull(err) {
		return errors.Join(ctx.Err(), err)
	}
	if err != nil || info.DiffID != d {
		return nil // a leftover
	}
	return s.update(ctx, func(tx querier) error { return s.insertLayer(ctx, tx, info) })
}

// tree compares an unpacked layer with its tar.
func (c *checker) tree(ctx context.Context, d digest.Digest) error {
	l, err := c.s.Layer(ctx, d)
	if err != nil {
		return err
	}
	dir := c.s.treeDir(d)
	text := ""
	for st, err := range l.All() {
		if err != nil {
			return err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if st.Whiteout {
			continue
		}
		if text = differs(l, st, filepath.Join(dir, st.Name)); text != "" {
			text = st.Name + " " + text
			break
		}
	}
	if text == "" {
		return nil
	}
	if row, err := c.s.layerRow(ctx, c.s.db, d); err != nil || !row.tree.Valid {
		return nil // removed meanwhile
	}
	return c.problem(Problem{Object: "tree " + d.String(), Text: text, Fix: "it is dropped and made again when needed"}, func() error {
		return c.s.removing(ctx, func(tx querier, r *removal) error {
			if _, err := tx.ExecContext(ctx, "UPDATE layer SET tree = NULL WHERE diffid = ?", d); err != nil {
				return err
			}
			return r.moved.away(dir)
		})
	})
}

// differs says how the file at path is not the entry st, or "".
func differs(l *layer.Layer, st *layer.Stat, path string) string {
	var have unix.Stat_t
	if err := unix.Lstat(path, &have); err != nil {
		return "is missing"
	}
	kind := st.Mode & unix.S_IFMT
	if (kind == unix.S_IFCHR || kind == unix.S_IFBLK) && have.Mode&unix.S_IFMT == unix.S_IFREG {
		return "" // devices take privileges; without them a file stands in
	}
	if have.Mode&unix.S_IFMT != kind {
		return "is of another type"
	}
	switch kind {
	case unix.S_IFLNK:
		if to, err := os.Readlink(path); err != nil || to != st.Link {
			return "points elsewhere"
		}
	case unix.S_IFREG:
		if have.Size != st.Size || !sameContent(l, st.Name, path) {
			return "has other content"
		}
	}
	return ""
}

func sameContent(l *layer.Layer, name, path string) bool {
	a, err := l.Open(name)
	if err != nil {
		return false
	}
	defer a.Close()
	b, err := os.Open(path)
	if err != nil {
		// Unreadable to its owner, by its mode: not wrong.
		return errors.Is(err, fs.ErrPermission)
	}
	defer b.Close()
	return sameBytes(a, b)
}

func sameBytes(a, b io.Reader) bool {
	x, y := make([]byte, 64<<10), make([]byte, 64<<10)
	for {
		n, err := io.ReadFull(a, x)
		m, merr := io.ReadFull(b, y)
		if !bytes.Equal(x[:n], y[:m]) || (err == nil) != (merr == nil) {
			return false
		}
		if err != nil {
			return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
		}
	}
}

func (c *checker) leftover(n int) {
	c.mu.Lock()
	c.report.Leftovers += n
	c.mu.Unlock()
}

// leftovers counts what processes left that died, and removes it when repairing.
func (c *checker) leftovers(ctx context.Context) error {
	var strays []string
	err := c.still(ctx, func(tx querier) (err error) {
		strays, err = c.s.strays(ctx, tx)
		return err
	})
	if err != nil {
		return err
	}
	orphans, err := c.s.orphans()
	if err != nil {
		return err
	}
	pins, err := c.count(ctx, "SELECT count(*) FROM pin WHERE lease NOT IN (SELECT id FROM lease)")
	if err != nil {
		return err
	}
	owners, err := texts[string](ctx, c.s.db, "SELECT owner FROM lease")
	if err != nil {
		return err
	}
	dead := 0
	for _, id := range owners {
		if !c.s.alive(id) {
			dead++
		}
	}
	c.leftover(len(strays) + len(orphans) + pins + dead)
	if !c.repair {
		return nil
	}
	if _, err := c.s.removeStrays(ctx); err != nil {
		return err
	}
	err = c.s.update(ctx, func(tx querier) error {
		_, err := tx.ExecContext(ctx, "DELETE FROM pin WHERE lease NOT IN (SELECT id FROM lease)")
		return err
	})
	return errors.Join(err, c.s.sweep(ctx))
}

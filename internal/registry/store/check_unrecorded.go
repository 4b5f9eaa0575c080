package store

import (
	"context"
	"errors"
	"path/filepath"
	"strings"

	"nacre/internal/image"
	"nacre/internal/registry"

	"github.com/opencontainers/go-digest"
)

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
		d := digest.NewDigestFromEncoded(strayAlgorithm(path), filepath.Base(path))
		if checkDigest(d) != nil {
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

// strayAlgorithm is what a file of blobs/ or a folder of layers/ is named by.
func strayAlgorithm(path string) digest.Algorithm {
	if filepath.Base(filepath.Dir(path)) == digest.SHA512.String() {
		return digest.SHA512
	}
	return digest.SHA256
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
		OR EXISTS (SELECT 1 FROM container WHERE image = ?1)
		OR EXISTS (SELECT 1 FROM name WHERE target = ?1) OR EXISTS (SELECT 1 FROM cache WHERE layer = ?1)`,
		d, image.TypeIndex, image.TypeDockerIndex)
	return n > 0, err
}

// recordBlob records a file of blobs/ that has no record, if it is what its name says.
func (s *Store) recordBlob(ctx context.Context, d digest.Digest) error {
	got, size, err := hashFile(ctx, s.blobPath(d), d.Algorithm())
	if err != nil || got != d {
		return err // a leftover
	}
	desc := registry.Descriptor{MediaType: "application/octet-stream", Digest: d, Size: size}
	var refs []registry.Descriptor
	var meaning []byte // of a manifest
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
				desc, meaning = as, data
			}
		}
	}
	return s.update(ctx, func(tx querier) error {
		if err := s.insertBlob(ctx, tx, desc, "", s.boot); err != nil {
			return err
		}
		return s.insertMeaning(ctx, tx, desc, meaning, refs)
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

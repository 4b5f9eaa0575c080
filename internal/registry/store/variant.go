package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"nacre/internal/image"
	"nacre/internal/registry"

	"github.com/opencontainers/go-digest"
)

// Variant is an image of an index, or the one that there is without an index.
type Variant struct {
	Target   registry.Descriptor // its manifest
	Platform image.Platform
	// Present: its manifest is here, and with it all that it refers to. What follows is known then alone.
	Present bool
	ID      digest.Digest // of its config
	// Content is the sum of the sizes of manifest, config and layers as they are sent; Size that of the files in
	// its layers.
	Content, Size int64
	// Disk is what it takes of the disk, with what other images need, too.
	Disk int64
}

// ImageTree is an image with those it consists of.
type ImageTree struct {
	Image    Image
	Variants []Variant
	Disk     int64 // of all variants and the index; what several need is counted once
}

// Trees tells what images consist of, with what that takes of the disk. Images that were removed since they were listed are
// left out.
func (s *Store) Trees(ctx context.Context, images []Image) ([]ImageTree, error) {
	g, err := s.loadNeeds(ctx)
	if err != nil {
		return nil, err
	}
	var trees []ImageTree
	for _, img := range images {
		list, err := s.Variants(ctx, img)
		if errors.Is(err, registry.ErrAbsent) {
			if ok, herr := s.hasImage(ctx, s.db, img.Target.Digest); herr == nil && !ok {
				continue
			}
		}
		if err != nil {
			return nil, err
		}
		for j := range list {
			if list[j].Present {
				list[j].Disk = g.disk(list[j].Target.Digest)
			}
		}
		trees = append(trees, ImageTree{Image: img, Variants: list, Disk: g.disk(img.Target.Digest)})
	}
	return trees, nil
}

// Variants tells what an image consists of: platforms of an index in its order, without attestations. Disk is not known.
func (s *Store) Variants(ctx context.Context, img Image) ([]Variant, error) {
	list, err := s.variants(ctx, s.db, img)
	for i := range list {
		if err == nil && list[i].Present {
			err = s.measure(ctx, &list[i])
		}
		if errors.Is(err, registry.ErrAbsent) && image.IsIndex(img.Target.MediaType) && !s.hasBlobRow(ctx, list[i].Target.Digest) {
			list[i].Present, err = false, nil // removed just now
		}
	}
	if err != nil {
		return nil, fmt.Errorf("image %s: %w", img.Target.Digest, err)
	}
	return list, nil
}

// variants lists what img consists of, and what of it is present.
func (s *Store) variants(ctx context.Context, q querier, img Image) ([]Variant, error) {
	if !image.IsIndex(img.Target.MediaType) {
		return []Variant{{Target: img.Target, Platform: img.Platform, Present: true}}, nil
	}
	x, err := s.index(ctx, img)
	if err != nil {
		return nil, err
	}
	var list []Variant
	for _, d := range x.Manifests {
		v := Variant{Target: d, Present: true}
		if _, err := s.blobRow(ctx, q, d.Digest); errors.Is(err, registry.ErrAbsent) {
			v.Present = false
		} else if err != nil {
			return nil, s.fail(err)
		}
		if d.Platform != nil {
			v.Platform = *d.Platform
		}
		if v.Platform.OS != "unknown" { // which is how attestations are kept in an index
			list = append(list, v)
		}
	}
	return list, nil
}

// index reads the index that img is.
func (s *Store) index(ctx context.Context, img Image) (image.Index, error) {
	data, err := s.readBlob(ctx, img.Target)
	if err != nil {
		return image.Index{}, err
	}
	return image.ParseIndex(data)
}

// measure reads the manifest of a variant that is present.
func (s *Store) measure(ctx context.Context, v *Variant) error {
	m, d, err := s.Manifest(ctx, Image{Target: v.Target}, nil)
	if err != nil {
		return err
	}
	v.ID, v.Content = m.Config.Digest, d.Size+m.Config.Size
	for _, l := range m.Layers {
		v.Content += l.Size
	}
	data, err := s.readBlob(ctx, d)
	if err != nil {
		return err
	}
	row, _ := s.describe(ctx, s.db, d, data, 0)
	v.Size = row.bytes
	return nil
}

// LastTagged is when an image last got a name that it still has; zero if it has none.
func (s *Store) LastTagged(ctx context.Context, img Image) (time.Time, error) {
	var at int64
	err := s.db.QueryRowContext(ctx, "SELECT coalesce(max(added), 0) FROM name WHERE target = ?", img.Target.Digest).Scan(&at)
	if err != nil || at == 0 {
		return time.Time{}, s.fail(err)
	}
	return time.Unix(0, at).UTC(), nil
}

// needsGraph is what refers to what in the store, and what everything takes of the disk.
type needsGraph struct {
	to    map[digest.Digest][]digest.Digest
	sizes func(digest.Digest) int64
}

func (s *Store) loadNeeds(ctx context.Context) (needsGraph, error) {
	g := needsGraph{to: map[digest.Digest][]digest.Digest{}}
	type edge struct{ src, dst digest.Digest }
	edges, err := all(ctx, s.db, func(r *sql.Rows) (e edge, err error) {
		err = r.Scan((*string)(&e.src), (*string)(&e.dst))
		return e, err
	}, "SELECT src, dst FROM edge UNION ALL SELECT digest, layer FROM blob WHERE layer IS NOT NULL")
	if err != nil {
		return g, s.fail(err)
	}
	for _, e := range edges {
		g.to[e.src] = append(g.to[e.src], e.dst)
	}
	known := map[digest.Digest]int64{}
	g.sizes = func(d digest.Digest) int64 {
		n, ok := known[d]
		if !ok {
			n = diskUsage(s.blobPath(d)) + diskUsage(s.LayerDir(d)) + diskUsage(s.treeDir(d))
			known[d] = n
		}
		return n
	}
	return g, nil
}

// disk is what d and all that it needs take.
func (g needsGraph) disk(d digest.Digest) (n int64) {
	seen := map[digest.Digest]bool{d: true}
	todo := []digest.Digest{d}
	for len(todo) > 0 {
		d, todo = todo[len(todo)-1], todo[:len(todo)-1]
		n += g.sizes(d)
		for _, next := range g.to[d] {
			if !seen[next] {
				seen[next] = true
				todo = append(todo, next)
			}
		}
	}
	return n
}

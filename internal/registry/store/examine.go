package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"nacre/internal/image"
	"nacre/internal/registry"

	"github.com/opencontainers/go-digest"
)

// examine reads the manifest or index d and what it refers to, and returns the
// row that the image would have. All that it needs must be there: layers that
// arrived as blobs of unknown type are made layers now.
//
// Errors: registry.ErrAbsent, registry.ErrInvalid.
func (s *Store) examine(ctx context.Context, d registry.Descriptor) (imageRow, error) {
	blob, err := s.ensureBlob(ctx, d.Digest)
	if err != nil {
		return imageRow{}, err
	}
	data, err := s.readBlob(ctx, blob.desc)
	if err != nil {
		return imageRow{}, err
	}
	mediaType, err := image.MediaTypeOf(data)
	if err != nil {
		return imageRow{}, fmt.Errorf("%s: %w: %w", d.Digest, registry.ErrInvalid, err)
	}
	desc := registry.Descriptor{MediaType: mediaType, Digest: d.Digest, Size: blob.desc.Size}
	var row imageRow
	if image.IsIndex(mediaType) {
		row, err = s.examineIndex(ctx, desc, data)
	} else {
		row, err = s.examineManifest(ctx, desc, data)
	}
	if err != nil {
		return row, fmt.Errorf("%s: %w", d.Digest, err)
	}
	row.desc = desc
	row.parts = append(row.parts, desc.Digest)
	if blob.desc.MediaType != mediaType {
		err = s.retype(ctx, desc, data)
	}
	return row, err
}

// retype notes what a blob turned out to be, which came as something else.
func (s *Store) retype(ctx context.Context, d registry.Descriptor, data []byte) error {
	refs, err := registry.Refers(d, data)
	if err != nil {
		return err
	}
	return s.update(ctx, func(tx querier) error {
		return s.insertMeaning(ctx, tx, d, data, refs)
	})
}

// examineIndex describes an index by its child for this machine's platform, or
// the first child that is here.
func (s *Store) examineIndex(ctx context.Context, d registry.Descriptor, data []byte) (imageRow, error) {
	x, err := image.ParseIndex(data)
	if err != nil {
		return imageRow{}, fmt.Errorf("%w: %w", registry.ErrInvalid, err)
	}
	best, _ := image.MatchPlatform(x, image.DefaultPlatform()) // none is fine
	row := imageRow{id: d.Digest, platform: "{}", labels: "{}"}
	found := false
	var parts []digest.Digest
	for _, child := range x.Manifests {
		if !image.IsManifestOrIndex(child.MediaType) {
			continue
		}
		c, err := s.examine(ctx, child)
		if errors.Is(err, registry.ErrAbsent) && (!s.hasBlobRow(ctx, child.Digest) || s.elsewhere(ctx, child.Digest)) {
			continue
		}
		if err != nil {
			return imageRow{}, err
		}
		parts = append(parts, c.parts...)
		if !found || child.Digest == best.Digest {
			row = c
		}
		found = true
	}
	if len(x.Manifests) > 0 && !found && !s.listed(ctx, x) {
		return imageRow{}, fmt.Errorf("none of its %d manifests: %w", len(x.Manifests), registry.ErrAbsent)
	}
	row.parts = parts
	return row, nil
}

func (s *Store) hasBlobRow(ctx context.Context, d digest.Digest) bool {
	_, err := s.blobRow(ctx, s.db, d)
	return err == nil
}

// elsewhere tells whether it is known where an image of an index was found: then it need not be here as a whole. Of what was
// sent from here, for one, the manifest stays when its compressed layers are pruned.
func (s *Store) elsewhere(ctx context.Context, d digest.Digest) bool {
	origins, err := s.Origins(ctx, d)
	return err == nil && len(origins) > 0
}

func (s *Store) examineManifest(ctx context.Context, d registry.Descriptor, data []byte) (imageRow, error) {
	m, err := image.ParseManifest(data)
	if err != nil {
		return imageRow{}, fmt.Errorf("%w: %w", registry.ErrInvalid, err)
	}
	if _, err := s.ensureBlob(ctx, m.Config.Digest); err != nil {
		return imageRow{}, fmt.Errorf("config: %w", err)
	}
	row := imageRow{id: m.Config.Digest, platform: "{}", labels: "{}", parts: []digest.Digest{m.Config.Digest}}
	if !image.IsConfig(m.Config.MediaType) {
		return row, s.examineArtifact(ctx, &row, m)
	}
	cfg, _, err := s.Config(ctx, m.Config)
	if err != nil {
		return imageRow{}, err
	}
	if len(m.Layers) != len(cfg.RootFS.DiffIDs) {
		return imageRow{}, fmt.Errorf("%w: %d layers in the manifest, %d diff_ids in the config", registry.ErrInvalid, len(m.Layers), len(cfg.RootFS.DiffIDs))
	}
	for i, l := range m.Layers {
		if err := s.examineLayer(ctx, &row, l, cfg.RootFS.DiffIDs[i]); err != nil {
			return imageRow{}, fmt.Errorf("layer %d: %w", i, err)
		}
	}
	return row, describeConfig(&row, cfg)
}

// describeConfig fills in what the config says of the image.
func describeConfig(row *imageRow, cfg image.Config) error {
	if cfg.Created != nil && !cfg.Created.IsZero() {
		row.created = cfg.Created.Format(time.RFC3339Nano)
	}
	platform, err := image.Marshal(cfg.Platform)
	if err != nil {
		return err
	}
	row.platform = string(platform)
	if len(cfg.Config.Labels) > 0 {
		labels, err := json.Marshal(cfg.Config.Labels)
		if err != nil {
			return err
		}
		row.labels = string(labels)
	}
	return nil
}

// examineArtifact: what is not an image refers to blobs that may be anything.
func (s *Store) examineArtifact(ctx context.Context, row *imageRow, m image.Manifest) error {
	for _, l := range m.Layers {
		ok, size, err := s.has(ctx, l)
		if err == nil && !ok {
			if registry.MayLack(l) {
				continue
			}
			err = registry.ErrAbsent
		}
		if err != nil {
			return fmt.Errorf("%s: %w", l.Digest, err)
		}
		row.bytes += size
		row.parts = append(row.parts, l.Digest)
	}
	return nil
}

// examineLayer makes certain that layer l of an image is there and is diffID.
func (s *Store) examineLayer(ctx context.Context, row *imageRow, l registry.Descriptor, diffID digest.Digest) error {
	if _, err := hexOf(diffID); err != nil {
		return err
	}
	blob, err := s.ensureBlob(ctx, l.Digest)
	switch {
	case err == nil && blob.layer == "":
		if err := s.ingestBlob(ctx, l.Digest, diffID); err != nil {
			return err
		}
	case err == nil && blob.layer != diffID:
		return fmt.Errorf("%s: %w: it unpacks to %s, the config says %s", l.Digest, registry.ErrInvalid, blob.layer, diffID)
	case errors.Is(err, registry.ErrAbsent):
		if l.Digest != diffID {
			if registry.MayLack(l) {
				return nil
			}
			// It may be there uncompressed, and then it is still not what the manifest promises.
			if ok, herr := s.hasLayer(ctx, s.db, l.Digest); herr == nil && ok {
				return fmt.Errorf("%s: %w: the config says %s", l.Digest, registry.ErrInvalid, diffID)
			}
			return err
		}
	case err != nil:
		return err
	}
	if err := s.ensureLayer(ctx, diffID); err != nil {
		return err
	}
	info, err := s.LayerInfo(ctx, diffID)
	if err != nil {
		return err
	}
	row.bytes += info.FileBytes
	row.parts = append(row.parts, diffID, l.Digest)
	return nil
}

// complete tells, within a transaction, whether all parts of an image are there still.
// Errors: registry.ErrAbsent.
func (s *Store) complete(ctx context.Context, tx querier, row imageRow) error {
	for _, d := range row.parts {
		if _, err := os.Lstat(s.blobPath(d)); err == nil {
			if _, err := s.blobRow(ctx, tx, d); err == nil {
				continue
			}
		}
		ok, err := s.hasLayer(ctx, tx, d)
		if err != nil {
			return err
		}
		if !ok {
			return fmt.Errorf("%s: %w", d, registry.ErrAbsent)
		}
	}
	return nil
}

// Manifest returns the manifest of an image for p, which only matters for an index; nil is this
// machine's platform, or where that is not here the first that is. Errors: registry.ErrAbsent (of an index: the
// child was never fetched), image.ErrNoPlatform.
func (s *Store) Manifest(ctx context.Context, img Image, p *image.Platform) (image.Manifest, registry.Descriptor, error) {
	d := img.Target
	for depth := 0; ; depth++ {
		data, err := s.readBlob(ctx, d)
		if err != nil {
			return image.Manifest{}, d, fmt.Errorf("manifest: %w", err)
		}
		if !image.IsIndex(d.MediaType) {
			m, err := image.ParseManifest(data)
			return m, d, err
		}
		// An index of indexes is allowed and rare; one deeper than this is a joke.
		if depth == 4 {
			return image.Manifest{}, d, fmt.Errorf("%s: %w: indexes within indexes", d.Digest, registry.ErrInvalid)
		}
		x, err := image.ParseIndex(data)
		if err != nil {
			return image.Manifest{}, d, err
		}
		if d, err = s.child(ctx, x, p); err != nil {
			return image.Manifest{}, d, err
		}
	}
}

// child chooses from an index.
func (s *Store) child(ctx context.Context, x image.Index, p *image.Platform) (registry.Descriptor, error) {
	if p != nil {
		d, err := image.MatchPlatform(x, *p)
		if err == nil && !s.hasBlobRow(ctx, d.Digest) {
			err = s.notHere(ctx, x, *p)
		}
		return d, err
	}
	best, err := image.MatchPlatform(x, image.DefaultPlatform())
	if err == nil && s.hasBlobRow(ctx, best.Digest) {
		return best, nil
	}
	for _, c := range x.Manifests {
		attestation := c.Platform != nil && c.Platform.OS == "unknown"
		if !attestation && s.hasBlobRow(ctx, c.Digest) {
			return c, nil
		}
	}
	return best, err
}

// notHere says that an index has an image for p which was never fetched, and which ones were.
func (s *Store) notHere(ctx context.Context, x image.Index, p image.Platform) error {
	var here []string
	for _, c := range x.Manifests {
		if c.Platform != nil && c.Platform.OS != "unknown" && s.hasBlobRow(ctx, c.Digest) {
			here = append(here, image.FormatPlatform(*c.Platform))
		}
	}
	list := "none is"
	if len(here) > 0 {
		list = "there are " + strings.Join(here, ", ")
	}
	return &notHereError{fmt.Sprintf("the image for %s is not here: %s", image.FormatPlatform(p), list)}
}

// notHereError: an image of an index was never fetched.
type notHereError struct{ text string }

func (e *notHereError) Error() string { return e.text }
func (e *notHereError) Unwrap() error { return registry.ErrAbsent }

// Config returns the config d of an image, parsed and as it is. Errors:
// registry.ErrAbsent, registry.ErrInvalid.
func (s *Store) Config(ctx context.Context, d registry.Descriptor) (image.Config, []byte, error) {
	data, err := s.readBlob(ctx, d)
	if err != nil {
		return image.Config{}, nil, fmt.Errorf("config: %w", err)
	}
	cfg, err := image.ParseConfig(data)
	if err != nil {
		return cfg, data, fmt.Errorf("config %s: %w: %w", d.Digest, registry.ErrInvalid, err)
	}
	return cfg, data, nil
}

package store

import (
	"context"

	"nacre/internal/image"
	"nacre/internal/registry"

	"github.com/opencontainers/go-digest"
)

// claim: a config says that a blob is a compressed form of a layer. Nobody has looked: it is a hint for where to
// find a layer that is missing, and no more.
type claim struct{ diffID, blob digest.Digest }

// describe is examine of what was pushed: no layer is read, and what cannot be found out
// remains unknown. The size of a layer that was never made is that of its blob.
func (s *Store) describe(ctx context.Context, q querier, d registry.Descriptor, data []byte, depth int) (imageRow, []claim) {
	row := imageRow{desc: d, id: d.Digest, platform: "{}", labels: "{}"}
	if image.IsIndex(d.MediaType) {
		return s.describeIndex(ctx, q, row, data, depth)
	}
	m, err := image.ParseManifest(data)
	if err != nil {
		return row, nil
	}
	row.id = m.Config.Digest
	var ids []digest.Digest
	if image.IsConfig(m.Config.MediaType) {
		if cfg, _, err := s.Config(ctx, m.Config); err == nil && describeConfig(&row, cfg) == nil && len(cfg.RootFS.DiffIDs) == len(m.Layers) {
			ids = cfg.RootFS.DiffIDs
		}
	}
	var claims []claim
	for i, l := range m.Layers {
		if ids == nil {
			row.bytes += l.Size
			continue
		}
		row.bytes += s.knownSize(ctx, q, l, ids[i])
		if _, err := hexOf(ids[i]); err == nil {
			claims = append(claims, claim{ids[i], l.Digest})
		}
	}
	return row, claims
}

// knownSize is that of the files of layer l, if it is known to be diffID.
func (s *Store) knownSize(ctx context.Context, q querier, l registry.Descriptor, diffID digest.Digest) int64 {
	if l.Digest != diffID {
		if blob, err := s.blobRow(ctx, q, l.Digest); err != nil || blob.layer != diffID {
			return l.Size
		}
	}
	row, err := s.layerRow(ctx, q, diffID)
	if err != nil {
		return l.Size
	}
	return row.info.FileBytes
}

// describeIndex describes an index by its child for this machine's platform, or the first that is here.
func (s *Store) describeIndex(ctx context.Context, q querier, row imageRow, data []byte, depth int) (imageRow, []claim) {
	x, err := image.ParseIndex(data)
	if err != nil || depth > 4 {
		return row, nil
	}
	best, _ := image.MatchPlatform(x, image.DefaultPlatform()) // none is fine
	children := x.Manifests
	if best.Digest != "" {
		children = append([]registry.Descriptor{best}, children...)
	}
	for _, c := range children {
		blob, err := s.blobRow(ctx, q, c.Digest)
		if err != nil || !image.IsManifestOrIndex(blob.desc.MediaType) {
			continue
		}
		data, err := s.readBlob(ctx, blob.desc)
		if err != nil {
			continue
		}
		child, _ := s.describe(ctx, q, blob.desc, data, depth+1) // its claims are made when it is kept itself
		child.desc = row.desc
		return child, nil
	}
	return row, nil
}

package store

import (
	"context"
	"fmt"

	"nacre/internal/image"
	"nacre/internal/registry"

	"github.com/opencontainers/go-digest"
)

// NewImage is an image to be put: its config and manifest as bytes, whose
// layers are in the store already. image.Assembled has both.
type NewImage struct {
	Config, Manifest []byte
	// Parent is the image that it is a change of, by ID, as commit makes it; builds have none.
	Parent digest.Digest
}

// PutImage keeps an image, held by l, and gives it names; what had them before keeps its content and, without
// any left, is dangling. Without names the image is dangling from the start. Putting
// what is there already writes nothing. The image survives power loss, its names too.
//
// Errors: registry.ErrAbsent (a layer is not there), registry.ErrInvalid.
func (s *Store) PutImage(ctx context.Context, l *Lease, img NewImage, names []registry.Ref) (Image, error) {
	out, err := s.putImage(ctx, l, img, names)
	if err != nil {
		return Image{}, fmt.Errorf("put image: %w", err)
	}
	return out, nil
}

func (s *Store) putImage(ctx context.Context, l *Lease, img NewImage, names []registry.Ref) (Image, error) {
	if err := s.writable(); err != nil {
		return Image{}, err
	}
	for _, ref := range names {
		if ref.Repo == "" || ref.Tag == "" || ref.Digest != "" {
			return Image{}, fmt.Errorf("%q: %w: not a name with a tag", ref, registry.ErrInvalid)
		}
	}
	m, err := image.ParseManifest(img.Manifest)
	if err != nil {
		return Image{}, fmt.Errorf("%w: %w", registry.ErrInvalid, err)
	}
	if l == nil {
		if l, err = s.ownLease(ctx); err != nil {
			return Image{}, err
		}
	}
	mediaType, err := image.MediaTypeOf(img.Manifest)
	if err != nil {
		return Image{}, fmt.Errorf("%w: %w", registry.ErrInvalid, err)
	}
	config, manifest := image.Describe(m.Config.MediaType, img.Config), image.Describe(mediaType, img.Manifest)
	if config.Digest != m.Config.Digest {
		return Image{}, fmt.Errorf("%w: the manifest is of config %s, not %s", registry.ErrInvalid, m.Config.Digest, config.Digest)
	}
	if err := s.putBlob(ctx, l, config, img.Config); err != nil {
		return Image{}, fmt.Errorf("config: %w", err)
	}
	if err := s.putBlob(ctx, l, manifest, img.Manifest); err != nil {
		return Image{}, fmt.Errorf("manifest: %w", err)
	}
	row, err := s.examine(ctx, manifest)
	if err != nil {
		return Image{}, err
	}
	row.parent = img.Parent
	if err := s.name(ctx, row, names); err != nil {
		return Image{}, err
	}
	images, err := s.images(ctx, s.db, "image.digest = ?", manifest.Digest)
	if err != nil {
		return Image{}, err
	}
	if len(images) == 0 {
		return Image{}, fmt.Errorf("%s: %w", manifest.Digest, registry.ErrAbsent)
	}
	return images[0], nil
}

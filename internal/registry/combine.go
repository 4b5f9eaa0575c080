package registry

import (
	"context"
	"fmt"
	"slices"

	"nacre/internal/image"

	"github.com/opencontainers/go-digest"
)

// Part is an image that Combine found, and the repository it is in.
type Part struct {
	Repo string
	Desc Descriptor // with its platform
}

// Combine lists what an index of all the images that refs name would have: images as they are, and
// of indexes what they list. Of several images for one platform the last counts; attestations of the
// others go with them. Errors: ErrAbsent, ErrInvalid.
func Combine(ctx context.Context, src Reader, refs []Ref) ([]Part, error) {
	var all []Part
	for _, ref := range refs {
		d, err := src.Resolve(ctx, ref)
		if err != nil {
			return nil, err
		}
		parts, err := partsOf(ctx, src, ref.Repo, d)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", ref.Familiar(), err)
		}
		for _, p := range parts {
			all = replace(all, p)
		}
	}
	return all, nil
}

// partsOf lists an image, or what an index lists.
func partsOf(ctx context.Context, src Reader, repo string, d Descriptor) ([]Part, error) {
	data, err := ReadDocument(ctx, src, repo, d)
	if err != nil {
		return nil, err
	}
	if image.IsIndex(d.MediaType) {
		x, err := image.ParseIndex(data)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
		}
		parts := make([]Part, len(x.Manifests))
		for i, m := range x.Manifests {
			parts[i] = Part{repo, m}
		}
		return parts, nil
	}
	m, err := image.ParseManifest(data)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	if image.IsConfig(m.Config.MediaType) {
		config, err := ReadDocument(ctx, src, repo, m.Config)
		if err != nil {
			return nil, err
		}
		c, err := image.ParseConfig(config)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
		}
		p := c.Platform
		d.Platform = &p
	} else {
		d.ArtifactType = m.ArtifactType
	}
	return []Part{{repo, d}}, nil
}

// replace adds p to all, in the place of what is for the same platform.
func replace(all []Part, p Part) []Part {
	i := slices.IndexFunc(all, func(q Part) bool { return q.Desc.Digest == p.Desc.Digest || samePlatform(q.Desc, p.Desc) })
	if i < 0 {
		return append(all, p)
	}
	old := all[i].Desc.Digest
	all[i] = p
	if old == p.Desc.Digest {
		return all
	}
	return slices.DeleteFunc(all, func(q Part) bool { return digest.Digest(q.Desc.Annotations[image.AboutAnnotation]) == old })
}

// samePlatform tells whether two images are for one platform. Attestations, for "unknown", are for none.
func samePlatform(a, b Descriptor) bool {
	if a.Platform == nil || b.Platform == nil || a.Platform.OS == "unknown" || a.Platform.OS == "" {
		return false
	}
	return image.FormatPlatform(*a.Platform) == image.FormatPlatform(*b.Platform) && a.Platform.OSVersion == b.Platform.OSVersion
}

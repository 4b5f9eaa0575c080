package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"nacre/internal/image"
	"nacre/internal/reference"
	"nacre/internal/registry"
	"nacre/internal/registry/store"
)

// saving is an image to be saved.
type saving struct {
	desc      registry.Descriptor // manifest or index
	as        registry.Ref        // its name in the archive; without a tag it has none
	platforms []image.Platform    // of an index: only these
}

// savings finds what names stand for, each image under each name once.
func (a *app) savings(ctx context.Context, names []string, platforms []image.Platform) ([]saving, error) {
	var all []saving
	seen := map[string]bool{}
	for _, name := range names {
		found, err := a.named(ctx, name)
		if err != nil {
			return nil, err
		}
		for _, n := range found {
			s, err := a.saving(ctx, n, platforms)
			if err != nil {
				return nil, err
			}
			if key := s.as.String() + " " + s.desc.Digest.String(); !seen[key] {
				seen[key] = true
				all = append(all, s)
			}
		}
	}
	return all, nil
}

// namedImage is an image and the name it was asked for by; without a tag by an ID or a digest.
type namedImage struct {
	image store.Image
	as    registry.Ref
}

// named finds what a name stands for when images are saved: a repository without a tag for all its tags, as with docker;
// an ID or a digest for an image without a name.
func (a *app) named(ctx context.Context, name string) ([]namedImage, error) {
	s, err := a.store(ctx)
	if err != nil {
		return nil, err
	}
	if n, err := reference.Parse(name); err == nil && n.NameOnly() && !strings.HasPrefix(name, "sha256:") {
		if all, err := a.tagged(ctx, n.Name()); err != nil || len(all) > 0 {
			return all, err
		}
	}
	img, err := a.holdImage(ctx, name)
	if err != nil {
		return nil, err
	}
	ref, err := registry.ParseRef(name)
	if err == nil && ref.Digest == "" {
		if d, err := s.Resolve(ctx, ref); err == nil && d.Digest == img.Target.Digest {
			return []namedImage{{img, ref}}, nil
		}
	}
	return []namedImage{{image: img}}, nil
}

// tagged lists the images that have a tag in a repository.
func (a *app) tagged(ctx context.Context, repo string) ([]namedImage, error) {
	var all []namedImage
	for n, err := range a.opened.Refs(ctx) {
		if err != nil {
			return nil, err
		}
		if n.Ref.Repo != repo || n.Ref.Tag == "" {
			continue
		}
		img, err := a.holdImage(ctx, n.Ref.String())
		if errors.Is(err, registry.ErrAbsent) {
			continue // removed meanwhile
		}
		if err != nil {
			return nil, err
		}
		all = append(all, namedImage{img, n.Ref})
	}
	return all, nil
}

// saving is what is saved of an image for some platforms; none: all that are here. One platform alone makes it an image for that, and
// several leave the index as it is.
func (a *app) saving(ctx context.Context, n namedImage, platforms []image.Platform) (saving, error) {
	s := saving{desc: n.image.Target, as: n.as}
	switch {
	case len(platforms) == 0:
		return s, nil
	case !image.IsIndex(s.desc.MediaType):
		_, cfg, err := a.manifest(ctx, n.image, nil)
		if err != nil {
			return s, err
		}
		return s, checkPlatforms(n.shown(), cfg, platforms)
	}
	var one registry.Descriptor
	for _, p := range platforms {
		var err error
		if _, one, err = a.opened.Manifest(ctx, n.image, &p); err != nil {
			return s, fmt.Errorf("%s: %w", n.shown(), err)
		}
	}
	if len(platforms) == 1 {
		s.desc = registry.Descriptor{MediaType: one.MediaType, Digest: one.Digest, Size: one.Size}
	} else {
		s.platforms = platforms
	}
	return s, nil
}

// shown is the image as messages call it.
func (n namedImage) shown() string {
	if n.as.Tag != "" {
		return n.as.Familiar()
	}
	return shortID(n.image.ID)
}

// parsePlatforms reads a flag that may be repeated and may have several platforms with commas between them.
func parsePlatforms(list []string) ([]image.Platform, error) {
	var all []image.Platform
	for _, s := range list {
		for _, one := range strings.Split(s, ",") {
			p, err := parsePlatform(one)
			if err != nil {
				return nil, err
			}
			all = append(all, p)
		}
	}
	return all, nil
}

package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"nacre/internal/image"
	"nacre/internal/manifest"
	"nacre/internal/registry"
	"nacre/internal/registry/compressed"
	"nacre/internal/registry/store"
)

// send sends what the flags say of an image, as ref.
func (f pushFlags) send(ctx context.Context, a *app, ref registry.Ref, img store.Image, o compressed.Options) (registry.Descriptor, error) {
	none := registry.Descriptor{}
	platforms, err := parsePlatforms(f.platforms)
	if err != nil {
		return none, err
	}
	r, err := a.remote(ctx)
	if err != nil {
		return none, err
	}
	l, err := a.lists(ctx)
	if err != nil {
		return none, err
	}
	p := pushing{a: a, img: img, to: ref.Repo, dst: r, lists: l}
	d, err := p.choose(ctx, platforms)
	if err != nil {
		return none, err
	}
	pr, err := a.newTransfer("Pushing", f.progress, f.quiet)
	if err != nil {
		return none, err
	}
	src := l.Reader()
	o.Source, o.Sink = src, pr.sink
	here, there := a.mountable(ctx, ref.Repo), src.MountFrom(ref.Repo)
	sent, err := compressed.Send(ctx, r, ref, a.opened, registry.Ref{Repo: ref.Repo, Digest: d.Digest}, o, registry.CopyOptions{
		Sink: pr.sink, Partial: p.partial,
		MountFrom: func(d registry.Descriptor) []string { return append(there(d), here(d)...) },
	})
	if cerr := pr.close(err); err == nil {
		err = cerr
	}
	if err == nil {
		err = a.opened.Pushed(ctx, ref.Repo, img.Target.Digest, sent.Digest)
		if errors.Is(err, registry.ErrAbsent) {
			err = nil // it was removed meanwhile: nobody is to know that it was pushed
		}
	}
	return sent, err
}

// pushing is an image on its way to a registry.
type pushing struct {
	a       *app
	img     store.Image
	to      string // the repository
	dst     registry.Writer
	lists   *manifest.Lists
	partial bool // some of it is in the repository, and not here
}

// choose says what is pushed: what an image is, or what platforms say of an index. Where not all of an index can be had,
// the one that can is pushed in its place, as docker does; of several it has to be said which.
func (p *pushing) choose(ctx context.Context, platforms []image.Platform) (registry.Descriptor, error) {
	target := p.img.Target
	if !image.IsIndex(target.MediaType) {
		if len(platforms) > 0 {
			_, cfg, err := p.a.manifest(ctx, p.img, nil)
			if err == nil {
				err = checkPlatforms(shortID(p.img.ID), cfg, platforms)
			}
			return target, err
		}
		return target, nil
	}
	var x image.Index
	if err := readJSON(ctx, p.a.opened, "", target, image.ParseIndex, &x); err != nil {
		return target, err
	}
	if len(platforms) > 0 {
		return p.only(ctx, x, platforms)
	}
	var here []registry.Descriptor
	absent := 0
	for _, c := range x.Manifests {
		ok, err := p.has(ctx, c)
		switch {
		case err != nil:
			return target, err
		case !ok:
			absent++
		case c.Platform != nil && c.Platform.OS != "unknown":
			here = append(here, c)
		}
	}
	switch {
	case absent == 0:
		return target, nil
	case len(here) == 1:
		p.partial = false
		p.a.warnf("not all platforms of the image are here: only that for %s is pushed", image.FormatPlatform(*here[0].Platform))
		return plainDescriptor(here[0]), nil
	}
	return target, p.missing(here)
}

// missing says that not all of an image is here, and what is.
func (p *pushing) missing(here []registry.Descriptor) error {
	var names []string
	for _, d := range here {
		names = append(names, image.FormatPlatform(*d.Platform))
	}
	list := strings.Join(names, ",")
	return &hintError{fmt.Errorf("not all platforms of the image are here: there are %s", strings.Join(names, ", ")),
		"--platform " + list + " pushes those; nacre pull --all-platforms fetches the rest"}
}

// has tells whether a child of the index can be had: here, from where it was found, or as it is in the repository already.
func (p *pushing) has(ctx context.Context, c registry.Descriptor) (bool, error) {
	ok, err := p.a.opened.Has(ctx, "", c)
	if err != nil || ok {
		return ok, err
	}
	origins, err := p.a.opened.Origins(ctx, c.Digest)
	if err != nil || len(origins) > 0 {
		return err == nil, err
	}
	ok, err = p.dst.Has(ctx, p.to, c)
	if errors.Is(err, registry.ErrAbsent) { // no such repository yet
		return false, nil
	}
	p.partial = p.partial || ok
	return ok, err
}

// only is the image for one platform, or an index of those for several.
func (p *pushing) only(ctx context.Context, x image.Index, platforms []image.Platform) (registry.Descriptor, error) {
	var chosen []registry.Descriptor
	for _, want := range platforms {
		_, d, err := p.a.opened.Manifest(ctx, p.img, &want)
		if errors.Is(err, registry.ErrAbsent) {
			err = &hintError{err, "nacre pull --platform " + image.FormatPlatform(want) + " fetches it"}
		}
		if err != nil {
			return d, err
		}
		chosen = append(chosen, d)
	}
	if len(chosen) == 1 {
		return plainDescriptor(chosen[0]), nil
	}
	data, _, err := image.AssembleIndex(chosen, x.Annotations)
	if err != nil {
		return registry.Descriptor{}, err
	}
	return p.a.opened.PutBlob(ctx, image.TypeIndex, data)
}

// plainDescriptor is d by itself, without what an index says of it.
func plainDescriptor(d registry.Descriptor) registry.Descriptor {
	return registry.Descriptor{MediaType: d.MediaType, Digest: d.Digest, Size: d.Size}
}

// checkPlatforms tells whether an image is for any of platforms.
func checkPlatforms(name string, cfg image.Config, platforms []image.Platform) (err error) {
	for _, p := range platforms {
		if err = checkPlatform(name, cfg, p); err == nil {
			return nil
		}
	}
	return err
}

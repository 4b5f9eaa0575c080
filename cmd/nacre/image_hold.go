package main

import (
	"context"
	"errors"

	"nacre/internal/registry"
	"nacre/internal/registry/store"
)

// Between finding an image and using it another process may remove it. Who needs it for long holds it; for others it is
// as if it had not been there.

// holdImage is image, held until this process ends: it may lose its names meanwhile, and stays all the same.
func (a *app) holdImage(ctx context.Context, name string) (store.Image, error) {
	img, err := a.image(ctx, name)
	if err != nil {
		return img, err
	}
	l, err := a.opened.Lease(ctx)
	if errors.Is(err, registry.ErrReadOnly) {
		return img, nil // nobody can remove anything
	}
	if err != nil {
		return img, err
	}
	return img, a.gone(ctx, name, img, l.Image(ctx, img))
}

// gone is err, but that there is no image called name where img, which was found by it, has been removed since.
func (a *app) gone(ctx context.Context, name string, img store.Image, err error) error {
	if !errors.Is(err, registry.ErrAbsent) || a.opened == nil {
		return err
	}
	if _, lerr := a.opened.Lookup(ctx, img.Target.Digest.String()); errors.Is(lerr, registry.ErrAbsent) {
		return absent(name)
	}
	return err
}

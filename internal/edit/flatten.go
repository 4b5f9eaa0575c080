package edit

import (
	"context"
	"fmt"
	"os"
	"slices"
	"time"

	"nacre/internal/image"
	"nacre/internal/imagefs"
	"nacre/internal/layer"
	"nacre/internal/rootfs"
)

// FlattenOptions of Flatten.
type FlattenOptions struct {
	// Keep is how many layers at the bottom stay; of an image with Base those of that base.
	Keep int
	Base *Source
	// Layers reads the image's files; Dir is where new layers are written, until the result was copied.
	Layers *imagefs.Layers
	Dir    string
	// Compression of the new layer; nil: as the topmost one.
	Compression *layer.Compression
	Created     *time.Time
}

// Flatten makes one layer of those above the ones that stay. What these layers deleted is in none of them
// any more. Config and history stay, and history tells of it. Errors: ErrUnsafe where the image is not on o.Base.
func (e *Edit) Flatten(o FlattenOptions) Change {
	return func(ctx context.Context, p *Parts) error {
		keep, n := o.Keep, len(p.Config.RootFS.DiffIDs)
		if o.Base != nil {
			base, err := e.base(ctx, *o.Base, p)
			if err != nil {
				return fmt.Errorf("base: %w", err)
			}
			if err := begins(p, base); err != nil {
				return err
			}
			keep = len(base.Config.RootFS.DiffIDs)
		}
		if keep > n {
			return fmt.Errorf("the image has %d layers, %d cannot stay", n, keep)
		}
		if n-keep <= 1 {
			return nil
		}
		l, err := o.layer(ctx, p, keep)
		if err != nil {
			return err
		}
		c := below(p.Manifest)
		if o.Compression != nil {
			c = *o.Compression
		}
		f, file, err := l.blob(ctx, c, p.docker())
		if err != nil {
			return err
		}
		e.files[f.desc.Digest] = file
		p.tellAll()
		emptyAfter(p.Config.History, keep)
		p.Manifest.Layers = slices.Clone(p.Manifest.Layers[:keep])
		p.Config.RootFS.DiffIDs = slices.Clone(p.Config.RootFS.DiffIDs[:keep])
		if o.Created != nil {
			p.Config.Created = o.Created
		}
		p.add(f.desc, f.diffID, image.History{Created: p.Config.Created, CreatedBy: "nacre image flatten", Comment: "layers made one"})
		return nil
	}
}

// layer writes what the layers above keep make of those below.
func (o FlattenOptions) layer(ctx context.Context, p *Parts, keep int) (*Layer, error) {
	layers, err := o.Layers.Open(ctx, p.image())
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(o.Dir, "flat-")
	if err != nil {
		return nil, err
	}
	if keep == 0 {
		return write(ctx, dir, rootfs.Flatten(rootfs.NewFS(layers...)))
	}
	return write(ctx, dir, rootfs.Difference(rootfs.NewFS(layers[:keep]...), rootfs.NewFS(layers...)))
}

// emptyAfter has history tell of no layers after the first n.
func emptyAfter(h []image.History, n int) {
	for i := range h {
		if h[i].EmptyLayer {
			continue
		}
		if n--; n < 0 {
			h[i].EmptyLayer = true
		}
	}
}

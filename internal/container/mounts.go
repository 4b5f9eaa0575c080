package container

import (
	"context"
	"fmt"
	"slices"

	"nacre/internal/rootfs"
	"nacre/internal/sandbox"
	"nacre/internal/volume"
)

// prepareMounts makes and fills the volumes of a new container, which the hold keeps until it has its folder.
func (c *Container) prepareMounts(ctx context.Context) (*volume.Hold, error) {
	var lower *rootfs.FS
	if slices.ContainsFunc(c.Config.Mounts, func(m volume.Mount) bool { return m.Type == volume.TypeVolume }) {
		lease, err := c.cs.s.LeaseFor(ctx, "container "+c.ShortID())
		if err != nil {
			return nil, err
		}
		defer lease.Release()
		if err := lease.Layer(ctx, c.Config.Layers...); err != nil {
			return nil, err
		}
		if lower, err = c.lower(ctx); err != nil {
			return nil, err
		}
	}
	mounts, hold, err := volume.Open(c.cs.s).Prepare(ctx, c.ID, c.Config.Mounts, lower)
	if err != nil {
		return nil, err
	}
	c.Config.Mounts = mounts
	return hold, nil
}

// releaseMounts lets go of the container's volumes. Those made for it alone go with it where that was asked for, by
// --rm or `rm -v`.
func (c *Container) releaseMounts(ctx context.Context) error {
	return volume.Open(c.cs.s).Release(context.WithoutCancel(ctx), c.ID, c.Config.Mounts, c.Config.AutoRemove || c.WithVolumes)
}

// addMounts is what the user wants to see inside. It takes the place of what would be there otherwise.
func (p *parts) addMounts(ctx context.Context) error {
	if len(p.c.Config.Mounts) == 0 {
		return nil
	}
	r := volume.Resolver{Volumes: volume.Open(p.c.cs.s), Root: p.lower, Image: p.imageRoot}
	mounts, err := r.Resolve(ctx, p.c.Config.Mounts)
	if err != nil {
		return err
	}
	c := sandbox.Config{Spec: p.spec, Files: p.files, Trees: p.trees}
	mounts.AddTo(&c)
	p.files, p.trees = c.Files, c.Trees
	return nil
}

// imageRoot is the root of an image that is mounted. What is written to it is lost at the end of the run.
func (p *parts) imageRoot(ctx context.Context, m volume.Mount) (rootfs.Mount, error) {
	s := p.c.cs.s
	lease, err := s.LeaseFor(ctx, "container "+p.c.Name)
	if err != nil {
		return rootfs.Mount{}, err
	}
	p.undo = append(p.undo, func() { lease.Release() })
	if err := lease.Layer(ctx, m.Layers...); err != nil {
		return rootfs.Mount{}, fmt.Errorf("image %s: %w", m.Source, err)
	}
	scratch, remove, err := s.TempDir("image")
	if err != nil {
		return rootfs.Mount{}, err
	}
	p.undo = append(p.undo, remove)
	form, err := rootfs.Probe(s.Root())
	if err != nil {
		return rootfs.Mount{}, err
	}
	return rootfs.Prepare(ctx, s, form, m.Layers, scratch, m.ReadOnly)
}

package main

import (
	"context"
	"fmt"

	"nacre/internal/container"
	"nacre/internal/image"
	"nacre/internal/volume"

	"github.com/spf13/pflag"
)

// mountFlags are the flags of run and create that say what is mounted.
type mountFlags struct {
	volume.Flags
	driver string
}

func (f *mountFlags) register(fl *pflag.FlagSet) {
	listVar(fl, &f.Volumes, "volume", "v", "[HOST:|VOLUME:]CONTAINER[:OPTIONS], a directory, file or volume to be seen inside")
	listVar(fl, &f.Mounts, "mount", "", "type=bind|volume|tmpfs|image,source=...,target=...[,readonly,...]: the same at more length")
	listVar(fl, &f.Tmpfs, "tmpfs", "", "PATH[:OPTIONS], a directory in memory: size=64m, mode=1777, exec, ...")
	fl.StringVar(&f.driver, "volume-driver", "", "of volumes that -v makes: local is the one there is")
	listVar(fl, &f.VolumesFrom, "volumes-from", "", "CONTAINER[:ro], mount what that container has mounted")
}

func (f *mountFlags) apply(cfg *container.Config, _ image.Config) (err error) {
	if err := volume.CheckDriver(f.driver); err != nil {
		return fmt.Errorf("--volume-driver %q: %w", f.driver, err)
	}
	cfg.VolumesFrom = f.VolumesFrom
	cfg.Mounts, err = f.Parse()
	return err
}

// finishMounts adds the mounts that it takes the store to know: other containers' and the image's; and finds the images to be mounted.
func (f *containerFlags) finishMounts(ctx context.Context, a *app, cs *container.Containers, cfg *container.Config) (err error) {
	mountsOf := func(name string) ([]volume.Mount, error) {
		c, err := cs.Find(ctx, name)
		if err != nil {
			return nil, err
		}
		return c.Config.Mounts, nil
	}
	if cfg.Mounts, err = f.mounts.Merge(cfg.Mounts, mountsOf, cfg.ImageVolumes); err != nil {
		return err
	}
	for i := range cfg.Mounts {
		m := &cfg.Mounts[i]
		if m.Type != volume.TypeImage {
			continue
		}
		img, config, err := a.imageFor(ctx, f, m.Source)
		if err != nil {
			return fmt.Errorf("mount on %s: %w", m.Target, err)
		}
		m.ImageID, m.Layers = img.Target.Digest.String(), config.RootFS.DiffIDs
	}
	return nil
}

package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"nacre/internal/build"
	"nacre/internal/container"
	"nacre/internal/image"
	"nacre/internal/layer"
	"nacre/internal/registry"
	"nacre/internal/registry/store"

	"github.com/spf13/cobra"
)

type commitFlags struct {
	author, message string
	changes         []string
	pause           bool
}

func commitCommand(a *app) *cobra.Command {
	var f commitFlags
	cmd := &cobra.Command{
		Use:   "commit [OPTIONS] CONTAINER [REPOSITORY[:TAG]]",
		Short: "Make an image of what a container changed",
		Long: `Make an image of a container: its own image with one layer more, of what the container changed, and its settings.
What is mounted in it is no part of that. Its processes stand still meanwhile, where that is possible.`,
		Example: `  nacre commit web web:patched
  nacre commit -m 'with curl' -c 'CMD ["curl"]' web tools`,
		Args:              cobra.MatchAll(minArgs(1, "commit needs a container"), maxArgs(2, "commit takes a container and a name")),
		ValidArgsFunction: one(a.completeContainers(nil)),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runCommit(cmd.Context(), a, f, args)
		},
	}
	fl := cmd.Flags()
	fl.StringVarP(&f.author, "author", "a", "", "author of the image")
	fl.StringVarP(&f.message, "message", "m", "", "comment for the image's history")
	listVar(fl, &f.changes, "change", "c", "Dockerfile instruction to apply, such as 'CMD [\"sh\"]'; may be repeated")
	fl.BoolVarP(&f.pause, "pause", "p", true, "let the container's processes stand still meanwhile")
	return cmd
}

func runCommit(ctx context.Context, a *app, f commitFlags, args []string) error {
	var names []registry.Ref
	if len(args) == 2 {
		ref, err := newName(args[1])
		if err != nil {
			return err
		}
		names = append(names, ref)
	}
	c, err := a.container(ctx, args[0])
	if err != nil {
		return err
	}
	cfg, err := a.committed(ctx, c, f)
	if err != nil {
		return err
	}
	lease, err := a.opened.LeaseFor(ctx, "commit")
	if err != nil {
		return err
	}
	defer lease.Release()
	if err := lease.Layer(ctx, c.Config.Layers...); err != nil {
		return err
	}
	info, err := a.commitLayer(ctx, c, lease, f.pause)
	if err != nil {
		return about(err, c)
	}
	layers, err := a.layerSizes(ctx, c)
	if err != nil {
		return err
	}
	as, err := image.Assemble(cfg, append(layers, image.Layer{DiffID: info.DiffID, Size: info.Size}))
	if err != nil {
		return err
	}
	img, err := a.opened.PutImage(ctx, lease, store.NewImage{Config: as.Config, Manifest: as.Manifest, Parent: c.Config.ImageID}, names)
	if err != nil {
		return err
	}
	fmt.Fprintln(a.stdout, img.ID)
	return nil
}

// commitLayer makes the layer of what a container changed.
func (a *app) commitLayer(ctx context.Context, c *container.Container, lease *store.Lease, pause bool) (layer.Info, error) {
	if pause && c.State.Status == container.StatusRunning {
		err := c.Pause(ctx)
		if err == nil {
			defer c.Unpause(context.WithoutCancel(ctx))
		} else if !errors.Is(err, container.ErrNotRunning) {
			a.warnf("container %s is not paused for the commit: %s", c.Name, err)
		}
	}
	note := func(text string) { a.warnf("%s", text) }
	return a.opened.MakeLayer(ctx, lease, func(dir string) (layer.Info, error) { return c.WriteLayer(ctx, dir, note) })
}

// layerSizes describes the layers of a container's image.
func (a *app) layerSizes(ctx context.Context, c *container.Container) ([]image.Layer, error) {
	var layers []image.Layer
	for _, d := range c.Config.Layers {
		info, err := a.opened.LayerInfo(ctx, d)
		if err != nil {
			return nil, err
		}
		layers = append(layers, image.Layer{DiffID: d, Size: info.Size})
	}
	return layers, nil
}

// committed is the config of the new image: that of the container's image with the container's settings and what
// the flags change.
func (a *app) committed(ctx context.Context, c *container.Container, f commitFlags) (image.Config, error) {
	base, err := a.settingsOf(ctx, c)
	if err != nil {
		return base, err
	}
	cfg, err := build.Changed(ctx, base, f.changes)
	if err != nil {
		return cfg, err
	}
	created, err := creation()
	if err != nil {
		return cfg, err
	}
	if f.author != "" {
		cfg.Author = f.author
	}
	cfg.Created = &created
	cfg.History = append(image.WholeHistory(cfg.History, len(cfg.RootFS.DiffIDs)), image.History{
		Created: &created, CreatedBy: strings.Join(c.Config.Args(), " "), Author: f.author, Comment: f.message,
	})
	return cfg, nil
}

// imageHealth is the health check of a container for its image; one that was switched off is so there, too.
func imageHealth(c *container.Config, has bool) *image.Healthcheck {
	h := c.Health
	switch {
	case h != nil:
		return &image.Healthcheck{Test: h.Test, Interval: h.Interval, Timeout: h.Timeout, StartPeriod: h.StartPeriod, StartInterval: h.StartInterval, Retries: h.Retries}
	case has:
		return &image.Healthcheck{Test: []string{"NONE"}}
	}
	return nil
}

// settingsOf is the config of a container's image with the container's settings.
func (a *app) settingsOf(ctx context.Context, c *container.Container) (image.Config, error) {
	cfg, err := a.configOf(ctx, c)
	set := &c.Config
	cfg.Config.Entrypoint, cfg.Config.Cmd, cfg.Config.Env = set.Entrypoint, set.Command, set.Env
	cfg.Config.User, cfg.Config.WorkingDir, cfg.Config.StopSignal = set.User, set.WorkingDir, set.StopSignal
	cfg.Config.Labels, cfg.Config.ExposedPorts, cfg.Config.Volumes = set.Labels, set.Exposed, set.ImageVolumes
	cfg.Config.Healthcheck = imageHealth(set, cfg.Config.Healthcheck != nil)
	return cfg, err
}

// configOf is the config of a container's image.
func (a *app) configOf(ctx context.Context, c *container.Container) (image.Config, error) {
	img, err := a.opened.Lookup(ctx, c.Config.ImageID.String())
	if err != nil {
		return image.Config{}, err
	}
	_, cfg, err := a.manifest(ctx, img, nil)
	return cfg, err
}

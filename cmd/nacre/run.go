package main

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"nacre/internal/container"
	"nacre/internal/image"
	"nacre/internal/isolation"
	"nacre/internal/registry/store"
	"nacre/internal/sandbox"

	"github.com/spf13/cobra"
	"golang.org/x/term"
)

func runCommand(a *app) *cobra.Command {
	var f containerFlags
	var o runFlags
	cmd := &cobra.Command{
		Use:   "run [OPTIONS] IMAGE [COMMAND] [ARG...]",
		Short: "Run a program in a container made from an image",
		Long: `Run a program in a new container and wait for it, or with -d leave it to itself. What it writes
to its root stays with the container until that is removed, as --rm does at its end. The exit code is
the program's; 125 means that nacre failed, 126 that the program could not be executed, 127 that it was
not found.`,
		Example: `  nacre run --rm -it debian:12 bash
  nacre run -d --name web --restart on-failure nginx
  nacre run --rm -v "$PWD:/src" -w /src -e CI=1 golang:1 go test ./...`,
		Args:              minArgs(1, "run needs an image"),
		ValidArgsFunction: a.completeImage,
		RunE: func(cmd *cobra.Command, args []string) error {
			return runContainer(cmd.Context(), a, &f, o, args[0], args[1:])
		},
	}
	f.register(a, cmd.Flags())
	fl := cmd.Flags()
	fl.BoolVarP(&o.detach, "detach", "d", false, "leave the container running in the background and print its ID")
	fl.BoolVar(&o.proxy, "sig-proxy", true, "pass signals on to the container")
	detachKeysVar(fl, &o.keys, "container")
	return cmd
}

// runFlags are those of run alone.
type runFlags struct {
	detach, proxy bool
	keys          string
}

func runContainer(ctx context.Context, a *app, f *containerFlags, o runFlags, name string, args []string) error {
	if o.detach && len(f.attach) > 0 {
		return errors.New("conflicting options: cannot specify both --attach and --detach") // docker's words
	}
	f.detached = o.detach
	if !o.detach && f.tty && f.interactive && !term.IsTerminal(int(a.stdin.Fd())) {
		return &hintError{errors.New("the input device is not a TTY"), "leave out -t to read from a pipe or file"}
	}
	if a.isolation.Kind == isolation.Chroot {
		return a.runByChroot(ctx, f, name, args)
	}
	defer sandbox.Cool()
	c, lock, err := a.newContainer(ctx, f, name, args, &o)
	if err != nil {
		return err
	}
	at := attachment{
		stdin: attached(c, "stdin"), stdout: attached(c, "stdout"), stderr: attached(c, "stderr"),
		proxy: o.proxy, keys: o.keys, start: true,
	}
	switch {
	case o.detach:
		return a.runDetached(ctx, c, lock)
	case here(&c.Config, o):
		return a.runHere(ctx, c, lock)
	}
	return a.startLocked(ctx, c, lock, at)
}

// here tells whether this process can be the container's monitor: it starts soonest so, and ends with us. What
// can be left running by its keys, or is started again, needs one that outlives us.
func here(c *container.Config, o runFlags) bool {
	return !o.detach && c.Restart.None() && c.Health == nil && o.proxy && !(c.TTY && slices.Contains(c.Attached, "stdin"))
}

// runDetached leaves a container to a monitor of its own, and prints its ID once the program was executed.
func (a *app) runDetached(ctx context.Context, c *container.Container, lock *container.Lock) error {
	at, err := c.Start(ctx, lock, container.Attach{})
	var start *container.StartError
	if errors.As(err, &start) {
		fmt.Fprintln(a.stdout, c.ID) // as docker does: the container is there
	}
	if err != nil {
		return startFailure(err)
	}
	a.warnAll(at.Warnings)
	fmt.Fprintln(a.stdout, c.ID)
	return at.Close()
}

// newContainer makes a container of the image called name. With run it is started at once.
func (a *app) newContainer(ctx context.Context, f *containerFlags, name string, args []string, run *runFlags) (*container.Container, *container.Lock, error) {
	img, cfg, err := a.imageFor(ctx, f, name)
	if err != nil {
		return nil, nil, err
	}
	want, err := f.config(cfg, args)
	if err == nil {
		err = want.CheckRuntime()
	}
	if err != nil {
		return nil, nil, err
	}
	want.Image, want.ImageID, want.Target, want.Layers = name, img.ID, img.Target.Digest, cfg.RootFS.DiffIDs
	want.Platform = image.FormatPlatform(image.Platform{OS: cfg.OS, Architecture: cfg.Architecture, Variant: cfg.Variant})
	cs, err := container.Open(ctx, a.opened)
	if err != nil {
		return nil, nil, err
	}
	if err := f.finishMounts(ctx, a, cs, &want); err != nil {
		return nil, nil, err
	}
	if run != nil && here(&want, *run) {
		want.Warm(ctx)
	}
	write, err := writeCidfile(f.cidfile)
	if err != nil {
		return nil, nil, err
	}
	c, lock, err := cs.Create(ctx, want, container.NewOptions{Name: f.name, Start: run != nil})
	if err != nil {
		write("")
		return nil, nil, a.gone(ctx, name, img, err)
	}
	return c, lock, write(c.ID)
}

// imageFor finds the image to run, with its config; it is pulled where the flags say so.
func (a *app) imageFor(ctx context.Context, f *containerFlags, name string) (store.Image, image.Config, error) {
	var p *image.Platform
	if f.platform != "" {
		parsed, err := parsePlatform(f.platform)
		if err != nil {
			return store.Image{}, image.Config{}, err
		}
		p = &parsed
	}
	img, err := a.imageToRun(ctx, name, f.pull, p, f.quiet)
	if err != nil {
		return img, image.Config{}, err
	}
	m, cfg, err := a.manifest(ctx, img, p)
	if err != nil {
		return img, cfg, a.gone(ctx, name, img, err)
	}
	img.ID = m.Config.Digest
	if p == nil {
		if host := image.DefaultPlatform(); checkPlatform(name, cfg, host) != nil {
			a.warnf("%s is an image for %s/%s, this machine is %s", name, cfg.OS, cfg.Architecture, image.FormatPlatform(host))
		}
	} else if err := checkPlatform(name, cfg, *p); err != nil && !image.IsIndex(img.Target.MediaType) { // which decides what its images are for
		return img, cfg, err
	}
	return img, cfg, nil
}

// checkPlatform tells whether an image runs on p; one that says of no platform does.
func checkPlatform(name string, cfg image.Config, p image.Platform) error {
	have := image.Platform{OS: cfg.OS, Architecture: cfg.Architecture, Variant: cfg.Variant}
	only := image.Index{Manifests: []image.Descriptor{{Platform: &have}}}
	if _, err := image.MatchPlatform(only, p); err != nil && have.OS != "" {
		return fmt.Errorf("%s is an image for %s, not for %s", name, image.FormatPlatform(have), image.FormatPlatform(p))
	}
	return nil
}

// runHere runs a container in this process, with its streams and signals.
func (a *app) runHere(ctx context.Context, c *container.Container, lock *container.Lock) error {
	status, err := a.connect(ctx, c, lock)
	var start *sandbox.StartError
	if errors.As(err, &start) {
		return &exitError{code: start.Code, err: err}
	}
	if err != nil {
		return err
	}
	if status.Code != 0 {
		return &exitError{code: status.Code}
	}
	return nil
}

// attached tells whether the maker of a container is connected to one of its streams.
func attached(c *container.Container, stream string) bool {
	return slices.Contains(c.Config.Attached, stream)
}

package main

import (
	"context"
	"fmt"
	"strconv"

	"nacre/internal/edit"
	"nacre/internal/layer"

	"github.com/spf13/cobra"
)

type flattenFlags struct {
	editFlags
	from, compression string
}

func imageFlattenCommand(a *app) *cobra.Command {
	var f flattenFlags
	cmd := &cobra.Command{
		Use:     "flatten [OPTIONS] IMAGE",
		Aliases: []string{"squash"},
		Short:   "Make one layer of an image's layers",
		Long: `Make an image with one layer of all that another one's layers make together; what they deleted is gone. With --from layers at the
bottom stay: so many, or those of a base image. Config and history stay. The layers of an image that is not in the store are read.

` + placesHelp,
		Example: `  nacre image flatten -t web:flat web:1
  nacre image flatten --from debian:12 -t web:squashed web:1`,
		Args:              exactArgs(1, "flatten needs an image"),
		ValidArgsFunction: a.completeImage,
		RunE:              func(cmd *cobra.Command, args []string) error { return runFlatten(cmd.Context(), a, f, args[0]) },
	}
	fl := cmd.Flags()
	f.register(fl)
	f.registerPlatform(fl)
	fl.StringVar(&f.from, "from", "", "number of layers that stay at the bottom, or the base image whose layers stay")
	fl.StringVar(&f.compression, "compression", "", "of the new layer: gzip, zstd, estargz or uncompressed, with :LEVEL (default: as the layers are)")
	a.completeBases(cmd, "from")
	return cmd
}

func runFlatten(ctx context.Context, a *app, f flattenFlags, name string) (err error) {
	from, err := parseImage("store", name)
	if err != nil {
		return err
	}
	var o edit.FlattenOptions
	if o.Created, err = f.time(); err != nil {
		return err
	}
	if f.compression != "" {
		var c layer.Compression
		if c, err = parseCompression(f.compression); err != nil {
			return err
		}
		o.Compression = &c
	}
	ed, err := f.begin(ctx, a, from)
	if err != nil {
		return err
	}
	defer func() { err = ed.end(err) }()
	s, err := ed.open(ctx, from)
	if err != nil {
		return err
	}
	if err := f.keep(ctx, ed, &o); err != nil {
		return fmt.Errorf("--from %s: %w", f.from, err)
	}
	o.Dir = ed.dir
	if o.Layers, err = ed.layers(ctx); err != nil {
		return err
	}
	e := edit.New(s)
	return ed.apply(ctx, e, e.Flatten(o))
}

// keep reads --from.
func (f flattenFlags) keep(ctx context.Context, ed *editing, o *edit.FlattenOptions) error {
	if f.from == "" {
		return nil
	}
	if n, err := strconv.ParseUint(f.from, 10, 16); err == nil {
		o.Keep = int(n)
		return nil
	}
	kind := ed.from.kind
	if kind != "docker" {
		kind = "store"
	}
	p, err := parseImage(kind, f.from)
	if err != nil {
		return err
	}
	s, err := ed.openBase(ctx, p)
	o.Base = &s
	return err
}

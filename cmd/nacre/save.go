package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"nacre/internal/event"
	"nacre/internal/layer"
	"nacre/internal/registry"
	"nacre/internal/registry/archive"
	"nacre/internal/registry/compressed"
	"nacre/internal/registry/layout"

	"github.com/spf13/cobra"
	"golang.org/x/term"
)

type saveFlags struct {
	output, format, compression, progress string
	platforms                             []string
	quiet                                 bool
}

func saveCommand(a *app) *cobra.Command {
	var f saveFlags
	cmd := &cobra.Command{
		Use:   "save [OPTIONS] IMAGE [IMAGE...]",
		Short: "Write images to an archive",
		Long: `Write images to a tar archive. The docker format (the default) is what "docker load",
podman and skopeo read, and is an OCI layout at the same time; the oci format is an OCI layout alone,
oci-dir the same as a folder. An archive whose name ends in .gz, .tgz, .zst or .tzst is compressed.
A repository without a tag stands for all of its tags. Layers are what they are in the store: built ones
uncompressed, and others as they came; --compression says otherwise.
Of an image for several platforms all that are here are saved, unless --platform says which.`,
		Example: `  nacre save -o web.tar web:1
  nacre save web:1 | ssh host docker load
  nacre save --platform linux/arm64 -o web.tar.zst web:1 db:2
  nacre save --format oci-dir -o layout web`,
		Args:              minArgs(1, "save needs at least one image"),
		ValidArgsFunction: each(a.completeImages),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runSave(cmd.Context(), a, f, args)
		},
	}
	fl := cmd.Flags()
	fl.StringVarP(&f.output, "output", "o", "", "file to write (default: standard output)")
	fl.StringVar(&f.format, "format", "docker", "docker, oci or oci-dir")
	listVar(fl, &f.platforms, "platform", "", "of an image for several platforms only this one; may be repeated, or a list with commas")
	fl.StringVar(&f.compression, "compression", "", "of layers: gzip, zstd, estargz or uncompressed, with :LEVEL (default: as they are)")
	fl.BoolVarP(&f.quiet, "quiet", "q", false, "no progress")
	fl.StringVar(&f.progress, "progress", "auto", "how progress is shown: auto (on a terminal only), plain, tty, rawjson or quiet")
	return cmd
}

func runSave(ctx context.Context, a *app, f saveFlags, names []string) error {
	write, err := f.writer(ctx, a)
	if err != nil {
		return err
	}
	platforms, err := parsePlatforms(f.platforms)
	if err != nil {
		return err
	}
	images, err := a.savings(ctx, names, platforms)
	if err != nil {
		return err
	}
	kind := f.progress
	if kind == "auto" && !term.IsTerminal(int(a.stderr.Fd())) {
		kind = "quiet" // docker's says nothing either, and scripts keep what is on standard error
	}
	p, err := a.newTransfer("Saving", kind, f.quiet)
	if err != nil {
		return err
	}
	err = write(func(dst registry.Writer) error { return f.copy(ctx, a, dst, images, p.sink) })
	if cerr := p.close(err); err == nil {
		err = cerr
	}
	return err
}

// writer says how what copies images gets to write them.
func (f saveFlags) writer(ctx context.Context, a *app) (func(copy func(registry.Writer) error) error, error) {
	if f.compression != "" {
		if _, err := parseCompression(f.compression); err != nil {
			return nil, err
		}
	}
	kind := archive.Docker
	switch f.format {
	case "docker", "docker-archive":
	case "oci", "oci-archive":
		kind = archive.OCI
	case "oci-dir":
		if f.output == "" {
			return nil, errors.New("--format=oci-dir: -o says which folder")
		}
		return func(copy func(registry.Writer) error) error {
			l, err := layout.Create(f.output)
			if err != nil {
				return err
			}
			return copy(l)
		}, nil
	default:
		return nil, fmt.Errorf("--format=%s: want docker, oci or oci-dir", f.format)
	}
	if f.output == "" && term.IsTerminal(int(a.stdout.file.Fd())) {
		return nil, errors.New("cowardly refusing to save to a terminal. Use the -o flag or redirect") // docker's words
	}
	return func(copy func(registry.Writer) error) error {
		into := func(w io.Writer) error {
			dst := archive.Create(w, kind)
			if err := copy(dst); err != nil {
				return err
			}
			return dst.Close()
		}
		if f.output == "" {
			return into(a.stdout)
		}
		return replaceFile(f.output, func(w io.Writer) error { return packed(f.output, w, into) })
	}, nil
}

// packed compresses what write writes, as the name of the file says.
func packed(name string, w io.Writer, write func(io.Writer) error) error {
	var c layer.Compression
	switch name = strings.ToLower(name); {
	case strings.HasSuffix(name, ".gz"), strings.HasSuffix(name, ".tgz"):
		c.Kind = layer.Gzip
	case strings.HasSuffix(name, ".zst"), strings.HasSuffix(name, ".zstd"), strings.HasSuffix(name, ".tzst"):
		c.Kind = layer.Zstd
	default:
		return write(w)
	}
	z, err := layer.Compress(w, c)
	if err != nil {
		return err
	}
	if err := write(z); err != nil {
		z.Close() // the file is not going to be there
		return err
	}
	return z.Close()
}

// copy copies images to dst, with their layers compressed where that was asked for.
func (f saveFlags) copy(ctx context.Context, a *app, dst registry.Writer, images []saving, sink event.Sink) error {
	n := 0
	o := registry.CopyOptions{Partial: true, Sink: sink, Step: func() int { n++; return n }}
	var src registry.Reader = a.opened
	var remade *compressed.Reader
	if f.compression != "" {
		c, err := parseCompression(f.compression)
		if err != nil {
			return err
		}
		remade = compressed.New(a.opened, compressed.Options{Compression: c, Sink: sink, Step: o.Step})
		src = remade
	}
	for _, img := range images {
		d, as := img.desc, img.as
		if remade != nil {
			var err error
			if d, err = remade.Remake(ctx, d); err != nil {
				return err
			}
		}
		if as.Tag == "" {
			as.Digest = d.Digest
		}
		o.Platforms = img.platforms
		if _, err := registry.Copy(ctx, dst, as, src, registry.Ref{Digest: d.Digest}, o); err != nil {
			return err
		}
	}
	return nil
}

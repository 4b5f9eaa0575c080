package main

import (
	"context"
	"errors"
	"fmt"

	"nacre/internal/image"
	"nacre/internal/registry"

	"github.com/spf13/cobra"
)

type copyFlags struct {
	all, partial, referrers, quiet bool
	platform, progress             string
}

func copyCommand(a *app) *cobra.Command {
	var f copyFlags
	cmd := &cobra.Command{
		Use:   "copy [OPTIONS] SOURCE DESTINATION",
		Short: "Copy an image between registries, layouts and archives",
		Long: `Copy an image from one place to another as it is, with its digest, without going through
the store. A place is the name of an image in a registry (docker://NAME or just NAME), an OCI
layout (oci:DIR[:TAG] or oci:DIR@DIGEST), an archive (oci-archive:FILE[:NAME],
docker-archive:FILE[:NAME]; - is standard input or output), or the store (store:NAME). An
image for several platforms is copied for all of them unless --platform picks one.`,
		Example: `  nacre copy debian:12 registry.example.com/mirror/debian:12
  nacre copy --platform linux/arm64 docker://debian:12 oci:layout:12
  nacre copy docker-archive:web.tar registry.example.com/team/web:1`,
		Args:              exactArgs(2, "copy needs a source and a destination"),
		ValidArgsFunction: a.completeImages,
		RunE:              func(cmd *cobra.Command, args []string) error { return runCopy(cmd.Context(), a, f, args[0], args[1]) },
	}
	fl := cmd.Flags()
	fl.BoolVarP(&f.all, "all", "a", false, "copy the images for all platforms (that is the default)")
	fl.StringVar(&f.platform, "platform", "", "copy only the image for this platform")
	fl.BoolVar(&f.partial, "partial", false, "leave out images of an index that the source does not have")
	fl.BoolVar(&f.referrers, "referrers", false, "copy what refers to the image too: signatures, SBOMs")
	fl.BoolVarP(&f.quiet, "quiet", "q", false, "print the digest and nothing else")
	fl.StringVar(&f.progress, "progress", "auto", "how progress is shown: auto, plain, tty, rawjson or quiet")
	return cmd
}

func (f copyFlags) options() (registry.CopyOptions, error) {
	o := registry.CopyOptions{Partial: f.partial, Referrers: f.referrers}
	if f.platform == "" {
		return o, nil
	}
	if f.all {
		return o, errors.New("--all and --platform: want one of them")
	}
	p, err := parsePlatform(f.platform)
	o.Platform = &p
	return o, err
}

func runCopy(ctx context.Context, a *app, f copyFlags, from, to string) error {
	src, err := parsePlace(from)
	if err != nil {
		return err
	}
	dst, err := parsePlace(to)
	if err != nil {
		return err
	}
	o, err := f.options()
	if err != nil {
		return err
	}
	pr, err := a.newTransfer("Copying", f.progress, f.quiet)
	if err != nil {
		return err
	}
	o.Sink = pr.sink
	d, err := copyPlace(ctx, a, dst, src, o)
	if cerr := pr.close(err); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	if f.quiet {
		fmt.Fprintln(a.stdout, d.Digest)
		return nil
	}
	_, err = fmt.Fprintf(a.stdout, "Copied %s to %s\nDigest: %s\n", src, dst, d.Digest)
	return err
}

// copyPlace copies one image. What is copied out of the store by a name keeps it where dst says none.
func copyPlace(ctx context.Context, a *app, dst, src place, o registry.CopyOptions) (d registry.Descriptor, err error) {
	r, ref, done, err := src.source(ctx, a)
	if err != nil {
		return d, err
	}
	defer func() { err = errors.Join(err, done()) }()
	as := dst.ref
	if as.IsZero() && src.kind == "store" {
		found, err := a.named(ctx, src.path)
		if err != nil {
			return d, errors.Join(err, done())
		}
		for _, n := range found {
			if n.image.Target.Digest == ref.Digest && n.as.Tag != "" {
				as = n.as
			}
		}
	}
	err = dst.destination(ctx, a, func(w registry.Writer) error {
		d, err = registry.Copy(ctx, w, as, r, ref, o)
		return err
	})
	switch {
	case errors.Is(err, image.ErrNoPlatform):
		err = &hintError{err, "--platform names one that there is; without it all are copied"}
	case errors.Is(err, registry.ErrAbsent) && src.kind == "store" && !o.Partial:
		err = &hintError{err, "where not all platforms are here, --partial copies those that are, --platform one of them"}
	case errors.Is(err, registry.ErrInvalid) && src.kind != "docker" && ref.IsZero():
		err = &hintError{err, "name one of its images: " + src.String() + ":NAME"}
	}
	return d, err
}

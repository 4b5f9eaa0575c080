package main

import (
	"context"
	"errors"
	"fmt"

	"nacre/internal/registry"
	"nacre/internal/registry/compressed"

	"github.com/spf13/cobra"
)

func manifestPushCommand(a *app) *cobra.Command {
	var f pushFlags
	var purge bool
	cmd := &cobra.Command{
		Use:   "push [OPTIONS] MANIFEST_LIST [NAME]",
		Short: "Send a manifest list to a registry",
		Long: `Send a manifest list to a registry with all that it lists: what is here, compressed where it was built here, and what is in
registries, which is mounted where the registry is the same and passed on where it is another. The digest is printed.`,
		Example: `  nacre manifest push registry.example.com/web:1
  nacre manifest push --purge web:1 registry.example.com/web:1`,
		Args:              cobra.MatchAll(minArgs(1, "push needs a manifest list"), maxArgs(2, "push takes a manifest list and a name")),
		ValidArgsFunction: a.completeImage,
		RunE: func(cmd *cobra.Command, args []string) error {
			return f.pushList(cmd.Context(), a, args, purge)
		},
	}
	fl := cmd.Flags()
	fl.BoolVarP(&purge, "purge", "p", false, "remove the list here when it has been pushed")
	fl.BoolVar(&purge, "rm", false, "the same")
	fl.Bool("all", true, "accepted for podman's sake: all that is listed is pushed")
	fl.MarkHidden("all")
	fl.StringVar(&f.compression, "compression", "gzip", "of layers built here: gzip, zstd, estargz or uncompressed, with :LEVEL")
	fl.BoolVarP(&f.quiet, "quiet", "q", false, "no progress")
	fl.StringVar(&f.progress, "progress", "auto", "how progress is shown: auto, plain, tty, rawjson or quiet")
	insecureFlag(fl)
	return cmd
}

func (f pushFlags) pushList(ctx context.Context, a *app, args []string, purge bool) error {
	ref, err := newName(args[0])
	if err != nil {
		return err
	}
	c, err := parseCompression(f.compression)
	if err != nil {
		return err
	}
	to := ref
	if len(args) == 2 {
		if to, err = remoteName(args[1]); err != nil {
			return err
		}
		if to.Digest != "" {
			return &hintError{errors.New("cannot push a digest reference"), "name a tag"}
		}
	}
	l, err := a.lists(ctx)
	if err != nil {
		return err
	}
	x, err := listThere(l.Open(ctx, ref))
	if err != nil {
		return err
	}
	if len(x.Index.Manifests) == 0 {
		return &hintError{fmt.Errorf("%s has no images", ref.Familiar()), "nacre manifest add adds some"}
	}
	img, err := a.holdImage(ctx, ref.String())
	if errors.Is(err, registry.ErrAbsent) {
		err = noList(ref.Familiar())
	}
	if err != nil {
		return err
	}
	d, err := f.send(ctx, a, to, img, compressed.Options{Compression: c})
	if err != nil {
		return fmt.Errorf("push %s: %w", to.Familiar(), err)
	}
	fmt.Fprintln(a.stdout, d.Digest)
	if purge {
		return a.removeList(ctx, ref.String())
	}
	return nil
}

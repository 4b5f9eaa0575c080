package main

import (
	"context"
	"errors"
	"fmt"

	"nacre/internal/image"
	"nacre/internal/registry"
	"nacre/internal/registry/store"

	"github.com/spf13/cobra"
)

type removeFlags struct {
	store.RemoveOptions
	platforms []string
}

func rmiCommand(a *app) *cobra.Command {
	var f removeFlags
	cmd := &cobra.Command{
		Use:   "rmi [OPTIONS] IMAGE [IMAGE...]",
		Short: "Remove images, or names of images",
		Long: `Remove names, and with its last name the image. What the build cache still uses stays
on disk until "nacre system prune".`,
		Example:           "  nacre rmi web:1\n  nacre rmi -f 3f2a7c\n  nacre rmi --platform linux/arm64 web:1",
		Args:              minArgs(1, "rmi needs at least one image"),
		ValidArgsFunction: each(a.completeImages),
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := a.store(cmd.Context())
			if err != nil {
				return err
			}
			platforms, err := parsePlatforms(f.platforms)
			if err != nil {
				return err
			}
			var failed several
			for _, name := range args {
				if err := f.remove(cmd.Context(), a, s, name, platforms); err != nil {
					failed = append(failed, err)
				}
			}
			return failed.orNil()
		},
	}
	cmd.Flags().BoolVarP(&f.Force, "force", "f", false, "remove an image with all its names; no error for one that is not there")
	cmd.Flags().BoolVar(&f.NoPrune, "no-prune", false, "keep untagged parents")
	listVar(cmd.Flags(), &f.platforms, "platform", "", "remove what is here of an index for that platform alone, and no name; may be repeated, or a list with commas")
	return cmd
}

func (f removeFlags) remove(ctx context.Context, a *app, s *store.Store, name string, platforms []image.Platform) error {
	if len(platforms) > 0 {
		return a.removePlatforms(ctx, s, name, platforms)
	}
	untagged, deleted, err := s.Remove(ctx, name, f.RemoveOptions)
	for _, r := range untagged {
		fmt.Fprintln(a.stdout, "Untagged:", r.Familiar())
	}
	for _, d := range deleted {
		fmt.Fprintln(a.stdout, "Deleted:", d)
	}
	if errors.Is(err, registry.ErrAbsent) {
		if f.Force {
			a.warnf("no such image: %s", name)
			return nil
		}
		return absent(name)
	}
	return inUseHint(err)
}

// inUseHint says what to do about an image that is in use.
func inUseHint(err error) error {
	if name := store.UsedBy(err); name != "" {
		return &hintError{err, "stop and remove container " + name + ": nacre rm -f " + name}
	}
	if errors.Is(err, store.ErrInUse) {
		return &hintError{err, "-f removes all names of an image; what a container runs on stays until it ends"}
	}
	return err
}

// removePlatforms removes what is here of an index for some platforms. Its names stay.
func (a *app) removePlatforms(ctx context.Context, s *store.Store, name string, platforms []image.Platform) error {
	for _, p := range platforms {
		img, err := a.platformImage(ctx, name, &p)
		if err != nil {
			return err
		}
		cs, err := a.containers(ctx)
		if err != nil {
			return err
		}
		list, err := cs.List(ctx)
		if err != nil {
			return err
		}
		runs := map[string]bool{} // on that platform
		for _, c := range list {
			runs[c.ID] = c.Config.ImageID == img.manifest.Config.Digest
		}
		deleted, err := s.RemoveVariant(ctx, img.Image, img.desc.Digest, func(c store.ContainerRow) bool {
			on, known := runs[c.ID]
			return on || !known // it was made just now
		})
		if err != nil {
			return inUseHint(err)
		}
		for _, d := range deleted {
			fmt.Fprintln(a.stdout, "Deleted:", d)
		}
	}
	return nil
}

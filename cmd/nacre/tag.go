package main

import (
	"errors"
	"fmt"

	"nacre/internal/registry"
	"nacre/internal/registry/store"

	"github.com/spf13/cobra"
)

func tagCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:               "tag SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]",
		Short:             "Give an image another name",
		Example:           "  nacre tag web:1 registry.example.com/team/web:stable",
		Args:              exactArgs(2, "tag needs an image and its new name"),
		ValidArgsFunction: a.completeImages,
		RunE: func(cmd *cobra.Command, args []string) error {
			ref, err := registry.ParseRef(args[1])
			if err != nil {
				return err
			}
			if ref.Digest != "" {
				return fmt.Errorf("%q: a new name cannot have a digest", args[1])
			}
			img, err := a.image(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return a.opened.Tag(cmd.Context(), ref, img.Target)
		},
	}
}

func rmiCommand(a *app) *cobra.Command {
	var o store.RemoveOptions
	cmd := &cobra.Command{
		Use:   "rmi [OPTIONS] IMAGE [IMAGE...]",
		Short: "Remove images, or names of images",
		Long: `Remove names, and with its last name the image. What the build cache still uses stays
on disk until "nacre system prune".`,
		Example:           "  nacre rmi web:1\n  nacre rmi -f 3f2a7c",
		Args:              minArgs(1, "rmi needs at least one image"),
		ValidArgsFunction: a.completeImages,
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := a.store(cmd.Context())
			if err != nil {
				return err
			}
			var failed error
			for _, name := range args {
				if err := removeImage(cmd, a, s, name, o); err != nil {
					failed = errors.Join(failed, err)
				}
			}
			return failed
		},
	}
	cmd.Flags().BoolVarP(&o.Force, "force", "f", false, "remove an image with all its names; no error for one that is not there")
	cmd.Flags().BoolVar(&o.NoPrune, "no-prune", false, "keep untagged parents")
	return cmd
}

func removeImage(cmd *cobra.Command, a *app, s *store.Store, name string, o store.RemoveOptions) error {
	untagged, deleted, err := s.Remove(cmd.Context(), name, o)
	for _, r := range untagged {
		fmt.Fprintln(a.stdout, "Untagged:", r.Familiar())
	}
	for _, d := range deleted {
		fmt.Fprintln(a.stdout, "Deleted:", d)
	}
	if errors.Is(err, registry.ErrAbsent) {
		if o.Force {
			a.warnf("no such image: %s", name)
			return nil
		}
		return fmt.Errorf("No such image: %s: %w", name, err)
	}
	return err
}

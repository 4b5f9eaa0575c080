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
			ref, err := newName(args[1])
			if err != nil {
				return err
			}
			img, err := a.image(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return a.opened.Tag(cmd.Context(), ref, img.Target)
		},
	}
}

// newName reads a name that is to be given to an image.
func newName(s string) (registry.Ref, error) {
	ref, err := registry.ParseRef(s)
	switch {
	case err != nil:
		return ref, err
	case ref.Digest != "":
		return ref, fmt.Errorf("%q has a digest: a new name cannot", s)
	case ref.FamiliarRepo() == "sha256":
		return ref, fmt.Errorf("%q would be taken for an image's ID", s) // as docker refuses it
	}
	return ref, nil
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
			var failed several
			for _, name := range args {
				if err := removeImage(cmd, a, s, name, o); err != nil {
					failed = append(failed, err)
				}
			}
			return failed.orNil()
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
		return absent(name)
	}
	if name := store.UsedBy(err); name != "" {
		return &hintError{err, "stop and remove container " + name + ": nacre rm -f " + name}
	}
	if errors.Is(err, store.ErrInUse) {
		return &hintError{err, "-f removes all names of an image; what a container runs on stays until it ends"}
	}
	return err
}

package main

import (
	"errors"
	"fmt"

	"nacre/internal/reference"
	"nacre/internal/registry"

	"github.com/spf13/cobra"
)

func tagCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "tag SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]",
		Short: "Give an image another name",
		Long: `Give an image another name. An image that had the name keeps its content, and without any name left is dangling. The
source may be a name, a digest, an ID or the beginning of one.`,
		Example:           "  nacre tag web:1 registry.example.com/team/web:stable\n  nacre tag 3f2a7c web:old",
		Args:              exactArgs(2, "tag needs an image and its new name"),
		ValidArgsFunction: a.completeImages,
		RunE: func(cmd *cobra.Command, args []string) error {
			if _, err := reference.Parse(args[1]); err != nil {
				return fmt.Errorf("Error parsing reference: %q is not a valid repository/tag: %w", args[1], err) //lint:ignore ST1005 docker's words
			}
			ref, err := newName(args[1])
			if err != nil {
				return err
			}
			img, err := a.image(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return a.gone(cmd.Context(), args[0], img, a.opened.Tag(cmd.Context(), ref, img.Target))
		},
	}
}

// newName reads a name that is to be given to an image. What it refuses it refuses in docker's words.
func newName(s string) (registry.Ref, error) {
	ref, err := registry.ParseRef(s)
	switch {
	case err != nil:
		return ref, err
	case ref.Digest != "":
		return ref, fmt.Errorf("%q: refusing to create a tag with a digest reference", s)
	case ref.FamiliarRepo() == "sha256":
		return ref, &hintError{errors.New("refusing to create an ambiguous tag using digest algorithm as name"), fmt.Sprintf("%q would be taken for an image's ID", s)}
	}
	return ref, nil
}

package main

import (
	"context"
	"errors"
	"fmt"

	"nacre/internal/manifest"
	"nacre/internal/registry"
	"nacre/internal/registry/store"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// manifestCommand groups what makes images for several platforms, with docker's commands and podman's.
func manifestCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "manifest",
		Short: "Make images for several platforms of images for one",
		Long: `Make images for several platforms of images for one. A manifest list is an index in the store: images, inspect, save
and push know it. What it lists is here, or in a registry, from where only its manifest is read.`,
		Example: `  nacre manifest create registry.example.com/web:1 registry.example.com/web:1-amd64 registry.example.com/web:1-arm64
  nacre manifest annotate --variant v8 registry.example.com/web:1 registry.example.com/web:1-arm64
  nacre manifest push registry.example.com/web:1`,
		Args: cobra.ArbitraryArgs,
		RunE: group,
	}
	cmd.AddCommand(manifestCreateCommand(a), manifestAddCommand(a), manifestAnnotateCommand(a), manifestInspectCommand(a),
		manifestPushCommand(a), manifestRemoveCommand(a), manifestDropCommand(a), manifestExistsCommand(a))
	return cmd
}

// lists are the manifest lists of the store.
func (a *app) lists(ctx context.Context) (*manifest.Lists, error) {
	s, err := a.store(ctx)
	if err != nil {
		return nil, err
	}
	return &manifest.Lists{Store: s, Remote: func(ctx context.Context) (registry.Reader, error) { return a.remote(ctx) }}, nil
}

// insecureFlag is accepted for docker's sake: which registries have no certificate is said in registries.toml.
func insecureFlag(fl *pflag.FlagSet) {
	fl.Bool("insecure", false, "accepted for docker's sake: registries.toml says which registries have no certificate")
	fl.MarkHidden("insecure")
}

func manifestCreateCommand(a *app) *cobra.Command {
	var amend bool
	var annotations []string
	cmd := &cobra.Command{
		Use:   "create MANIFEST_LIST [IMAGE...]",
		Short: "Make a manifest list",
		Long: `Make a manifest list of images that are here, or else in registries; of one that is for several platforms
all are listed. The list is empty without images.`,
		Example: `  nacre manifest create registry.example.com/web:1 registry.example.com/web:1-amd64 registry.example.com/web:1-arm64
  nacre manifest create --amend registry.example.com/web:1 registry.example.com/web:1-riscv64`,
		Args:              minArgs(1, "create needs the name of a manifest list"),
		ValidArgsFunction: a.completeImages,
		RunE: func(cmd *cobra.Command, args []string) error {
			notes, err := keyValues("--annotation", annotations)
			if err != nil {
				return err
			}
			name, _, err := a.changeList(cmd.Context(), args[0], args[1:], func(x manifest.List, err error) (manifest.List, error) {
				switch {
				case errors.Is(err, registry.ErrAbsent), errors.Is(err, manifest.ErrNotList):
					x = manifest.New(x.Name)
				case err != nil:
					return x, err
				case !amend:
					return x, errors.New("refusing to amend an existing manifest list with no --amend flag") // docker's words
				}
				return x.Note(notes), nil
			}, manifest.Platform{})
			if err == nil {
				fmt.Fprintln(a.stdout, "Created manifest list", name)
			}
			return err
		},
	}
	fl := cmd.Flags()
	fl.BoolVarP(&amend, "amend", "a", false, "add to a manifest list that is there")
	listVar(fl, &annotations, "annotation", "", "KEY=VALUE to annotate the list with; may be repeated")
	insecureFlag(fl)
	return cmd
}

func manifestAddCommand(a *app) *cobra.Command {
	var f platformFlags
	cmd := &cobra.Command{
		Use:   "add [OPTIONS] MANIFEST_LIST IMAGE [IMAGE...]",
		Short: "Add images to a manifest list",
		Long: `Add images to a manifest list: images that are here, or else in registries. One that was added under the same
name before is replaced.`,
		Example:           "  nacre manifest add --arch arm64 --variant v8 registry.example.com/web:1 registry.example.com/web:1-arm64",
		Args:              minArgs(2, "add needs a manifest list and an image"),
		ValidArgsFunction: a.completeImages,
		RunE: func(cmd *cobra.Command, args []string) error {
			p, err := f.read()
			if err != nil {
				return err
			}
			_, img, err := a.changeList(cmd.Context(), args[0], args[1:], listThere, p)
			if err == nil {
				fmt.Fprintln(a.stdout, img.Target.Digest)
			}
			return err
		},
	}
	f.register(cmd.Flags())
	insecureFlag(cmd.Flags())
	return cmd
}

// listThere is for changes of lists that are there.
func listThere(x manifest.List, err error) (manifest.List, error) {
	if errors.Is(err, registry.ErrAbsent) {
		err = noList(x.Name.Familiar())
	}
	return x, err
}

// noList is docker's error.
func noList(name string) error {
	return &hintError{&noListError{name}, "nacre manifest create makes one"}
}

type noListError struct{ name string }

func (e *noListError) Error() string { return "No such manifest: " + e.name }
func (e *noListError) Unwrap() error { return registry.ErrAbsent }

// changeList adds images to the list called name, after begin had it or its absence, with their platforms changed as p says.
func (a *app) changeList(ctx context.Context, name string, images []string, begin func(manifest.List, error) (manifest.List, error),
	p manifest.Platform) (registry.Ref, store.Image, error) {
	ref, err := newName(name)
	if err != nil {
		return ref, store.Image{}, err
	}
	l, err := a.lists(ctx)
	if err != nil {
		return ref, store.Image{}, err
	}
	var entries []manifest.Entry
	for _, image := range images {
		found, err := l.Find(ctx, image)
		if err != nil {
			return ref, store.Image{}, a.findError(image, err)
		}
		entries = append(entries, found...)
	}
	img, err := l.Change(ctx, ref, func(x manifest.List, err error) (manifest.List, error) {
		if x, err = begin(x, err); err != nil {
			return x, err
		}
		for _, e := range entries {
			x = x.Add(e)
			if !p.IsZero() {
				if x, err = x.Annotate(e.Desc.Digest, p); err != nil {
					return x, err
				}
			}
		}
		return x, nil
	})
	return ref, img, err
}

// findError says that an image is neither here nor in its registry.
func (a *app) findError(name string, err error) error {
	if ref, ok := pullable(name); ok && errors.Is(err, registry.ErrAbsent) {
		return &hintError{fmt.Errorf("no such manifest: %s: it is neither here nor in its registry: %w", ref, registry.ErrAbsent), "nacre images lists what is here"}
	} else if ok {
		return fetchError(ref, err)
	}
	return err
}

func manifestDropCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:               "remove MANIFEST_LIST IMAGE [IMAGE...]",
		Short:             "Remove images from a manifest list",
		Example:           "  nacre manifest remove registry.example.com/web:1 registry.example.com/web:1-arm64",
		Args:              minArgs(2, "remove needs a manifest list and an image or digest of it"),
		ValidArgsFunction: a.completeImages,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.editList(cmd.Context(), args[0], func(l *manifest.Lists, x manifest.List) (manifest.List, error) {
				for _, name := range args[1:] {
					d, err := l.Entry(cmd.Context(), x, name)
					if err != nil {
						return x, err
					}
					if x, err = x.Remove(d); err != nil {
						return x, err
					}
				}
				return x, nil
			})
		},
	}
}

// editList changes a list that is there, and prints the digest of what it became.
func (a *app) editList(ctx context.Context, name string, f func(*manifest.Lists, manifest.List) (manifest.List, error)) error {
	ref, err := newName(name)
	if err != nil {
		return err
	}
	l, err := a.lists(ctx)
	if err != nil {
		return err
	}
	img, err := l.Change(ctx, ref, func(x manifest.List, err error) (manifest.List, error) {
		if x, err = listThere(x, err); err != nil {
			return x, err
		}
		return f(l, x)
	})
	if err == nil {
		fmt.Fprintln(a.stdout, img.Target.Digest)
	}
	return err
}

func manifestRemoveCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:               "rm MANIFEST_LIST [MANIFEST_LIST...]",
		Short:             "Remove manifest lists",
		Long:              "Remove manifest lists. The images that they list stay.",
		Example:           "  nacre manifest rm registry.example.com/web:1",
		Args:              minArgs(1, "rm needs a manifest list"),
		ValidArgsFunction: a.completeImages,
		RunE: func(cmd *cobra.Command, args []string) error {
			var failed several
			for _, name := range args {
				if err := a.removeList(cmd.Context(), name); err != nil {
					failed = append(failed, err)
				}
			}
			return failed.orNil()
		},
	}
}

func (a *app) removeList(ctx context.Context, name string) error {
	ref, err := newName(name)
	if err != nil {
		return err
	}
	l, err := a.lists(ctx)
	if err != nil {
		return err
	}
	if _, err := listThere(l.Open(ctx, ref)); err != nil {
		return err
	}
	if _, _, err = a.opened.Remove(ctx, ref.String(), store.RemoveOptions{Force: true, NoPrune: true}); errors.Is(err, registry.ErrAbsent) {
		return noList(ref.Familiar()) // somebody was quicker
	}
	return err
}

func manifestExistsCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:               "exists MANIFEST_LIST",
		Short:             "Tell by the exit code whether a manifest list is there",
		Long:              "Tell by the exit code whether a manifest list is there: 0, or 1 if there is none of that name.",
		Example:           "  nacre manifest exists registry.example.com/web:1 || echo none",
		Args:              exactArgs(1, "exists needs a manifest list"),
		ValidArgsFunction: a.completeImages,
		RunE: func(cmd *cobra.Command, args []string) error {
			ref, err := newName(args[0])
			if err != nil {
				return err
			}
			l, err := a.lists(cmd.Context())
			if err != nil {
				return err
			}
			_, err = l.Open(cmd.Context(), ref)
			if errors.Is(err, registry.ErrAbsent) || errors.Is(err, manifest.ErrNotList) {
				return &exitError{code: 1}
			}
			return err
		},
	}
}

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"nacre/internal/image"
	"nacre/internal/manifest"
	"nacre/internal/registry"

	"github.com/spf13/cobra"
)

func manifestInspectCommand(a *app) *cobra.Command {
	var verbose bool
	cmd := &cobra.Command{
		Use:   "inspect [OPTIONS] [MANIFEST_LIST] IMAGE",
		Short: "Show a manifest list, or the manifest of an image in a registry",
		Long: `Show a manifest list that was made here, or else the manifest or list of an image in its registry; with two
arguments what a list has for an image. With -v the manifests of all that a list has.`,
		Example: `  nacre manifest inspect debian:12
  nacre manifest inspect -v registry.example.com/web:1
  nacre manifest inspect registry.example.com/web:1 registry.example.com/web:1-arm64`,
		Args:              cobra.MatchAll(minArgs(1, "inspect needs a manifest list or an image"), maxArgs(2, "inspect takes a manifest list and an image")),
		ValidArgsFunction: a.completeImages,
		RunE: func(cmd *cobra.Command, args []string) error {
			l, err := a.lists(cmd.Context())
			if err != nil {
				return err
			}
			i := inspection{a: a, l: l, r: l.Reader(), verbose: verbose}
			if len(args) == 2 {
				return i.entry(cmd.Context(), args[0], args[1])
			}
			return i.any(cmd.Context(), args[0])
		},
	}
	cmd.Flags().BoolVarP(&verbose, "verbose", "v", false, "also references, platforms and layers")
	insecureFlag(cmd.Flags())
	return cmd
}

// inspection is one manifest inspect.
type inspection struct {
	a       *app
	l       *manifest.Lists
	r       registry.Reader
	verbose bool
	local   bool // a list that was made here: what it lists is called as it was found
}

// any shows what name means: docker's order is a list made here, then the registry.
func (i inspection) any(ctx context.Context, name string) error {
	ref, err := registry.ParseRef(name)
	if err != nil {
		return err
	}
	x, err := i.l.Open(ctx, ref)
	if err == nil && x.Local() {
		d, err := i.a.opened.Resolve(ctx, ref)
		if err != nil {
			return err
		}
		i.local = true
		return i.show(ctx, ref, d)
	}
	if err != nil && !errors.Is(err, registry.ErrAbsent) && !errors.Is(err, manifest.ErrNotList) {
		return err
	}
	remote, err := i.a.remote(ctx)
	if err != nil {
		return err
	}
	i.r = remote
	d, err := remote.Resolve(ctx, ref)
	if errors.Is(err, registry.ErrAbsent) {
		return &hintError{fmt.Errorf("no such manifest: %s: %w", ref, err), "nacre inspect shows images that are here"}
	}
	if err != nil {
		return fetchError(ref, err)
	}
	return i.show(ctx, ref, d)
}

// entry shows what a list has for an image.
func (i inspection) entry(ctx context.Context, list, name string) error {
	ref, err := newName(list)
	if err != nil {
		return err
	}
	x, err := listThere(i.l.Open(ctx, ref))
	if err != nil {
		return err
	}
	d, err := i.l.Entry(ctx, x, name)
	if err != nil {
		return err
	}
	for _, m := range x.Index.Manifests {
		if m.Digest == d {
			return i.show(ctx, registry.Ref{Repo: ref.Repo, Digest: d}, m)
		}
	}
	return nil
}

func (i inspection) show(ctx context.Context, ref registry.Ref, d registry.Descriptor) error {
	data, err := registry.ReadDocument(ctx, i.r, ref.Repo, d)
	if err != nil {
		return err
	}
	switch {
	case !i.verbose && image.IsIndex(d.MediaType):
		return i.print(json.RawMessage(data), "   ") // docker's indents
	case !i.verbose:
		return i.print(json.RawMessage(data), "\t")
	case !image.IsIndex(d.MediaType):
		one, err := i.describe(ctx, ref, d)
		if err != nil {
			return err
		}
		one.Ref = ref.String()
		return i.print(one, "\t")
	}
	x, err := image.ParseIndex(data)
	if err != nil {
		return err
	}
	all := []manifestDetail{}
	for _, m := range x.Manifests {
		one, err := i.describe(ctx, ref, m)
		if err != nil {
			return err
		}
		all = append(all, one)
	}
	return i.print(all, "\t")
}

// manifestDetail is a manifest in the shape of docker's "manifest inspect -v".
type manifestDetail struct {
	Ref              string
	Descriptor       image.Descriptor
	Raw              []byte
	SchemaV2Manifest json.RawMessage `json:",omitempty"`
	OCIManifest      json.RawMessage `json:",omitempty"`
}

func (i inspection) describe(ctx context.Context, ref registry.Ref, d registry.Descriptor) (manifestDetail, error) {
	data, err := registry.ReadDocument(ctx, i.r, ref.Repo, d)
	if err != nil {
		return manifestDetail{}, err
	}
	if d.Platform == nil && image.IsManifest(d.MediaType) {
		parts, err := registry.Combine(ctx, i.r, []registry.Ref{{Repo: ref.Repo, Digest: d.Digest}})
		if err != nil {
			return manifestDetail{}, err
		}
		for _, p := range parts {
			d.Platform = p.Desc.Platform
		}
	}
	ref.Digest = d.Digest
	v := manifestDetail{Ref: ref.String(), Descriptor: d, Raw: data}
	if s := i.a.opened; s != nil && i.local {
		if found, err := s.Origins(ctx, d.Digest); err == nil && len(found) > 0 {
			v.Ref = found[0].String()
		}
	}
	if d.MediaType == image.TypeDockerManifest {
		v.SchemaV2Manifest = data
	} else {
		v.OCIManifest = data
	}
	return v, nil
}

func (i inspection) print(v any, indent string) error {
	var b bytes.Buffer
	data, err := image.Marshal(v)
	if err == nil {
		err = json.Indent(&b, data, "", indent)
	}
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(i.a.stdout, b.String())
	return err
}

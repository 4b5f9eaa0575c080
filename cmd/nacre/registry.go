package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"nacre/internal/image"
	"nacre/internal/registry"

	"github.com/opencontainers/go-digest"
	"github.com/spf13/cobra"
)

// registryCommand groups what looks into registries without fetching images.
func registryCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "registry",
		Short:   "Look into registries, and delete from them",
		Example: "  nacre registry tags debian\n  nacre registry manifest --platform linux/arm64 debian:12",
		Args:    cobra.ArbitraryArgs,
		RunE:    group,
	}
	cmd.AddCommand(registryListCommand(a), registryTagsCommand(a), registryDigestCommand(a), registryManifestCommand(a),
		registryDeleteCommand(a), registryReferrersCommand(a), registryIndexCommand(a))
	return cmd
}

func registryListCommand(a *app) *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use:               "ls HOST",
		Aliases:           []string{"catalog", "repos"},
		Short:             "List the repositories of a registry",
		Long:              "List the repositories of a registry, one in a line. Not every registry tells.",
		Example:           "  nacre registry ls localhost:5000",
		Args:              exactArgs(1, "ls needs the host of a registry"),
		ValidArgsFunction: one(a.completeHost(true)),
		RunE: func(cmd *cobra.Command, args []string) error {
			r, err := a.remote(cmd.Context())
			if err != nil {
				return err
			}
			host := strings.TrimSuffix(strings.TrimPrefix(args[0], "docker://"), "/")
			if host == "" || strings.Contains(host, "/") {
				return &hintError{fmt.Errorf("%q is not the host of a registry", args[0]), "registry tags lists one repository"}
			}
			for repo, err := range registry.Repos(cmd.Context(), r.Host(host), "") {
				if err != nil {
					return fmt.Errorf("list %s: %w", host, err)
				}
				if err := render(a.stdout, cmp.Or(format, "{{.Name}}"), nil, []repositoryRow{{repo}}); err != nil {
					return err
				}
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&format, "format", "", `"json" or a Go template (default {{.Name}})`)
	return cmd
}

// repositoryRow is a line of registry ls, and tagRow one of registry tags.
type (
	repositoryRow struct{ Name string }
	tagRow        struct{ Repository, Tag string }
)

func registryTagsCommand(a *app) *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use:               "tags REPOSITORY",
		Aliases:           []string{"list-tags"},
		Short:             "List the tags of a repository",
		Example:           "  nacre registry tags registry.example.com/team/web",
		Args:              exactArgs(1, "tags needs a repository"),
		ValidArgsFunction: one(a.completeRepositories),
		RunE: func(cmd *cobra.Command, args []string) error {
			ref, err := remoteName(args[0])
			if err != nil {
				return err
			}
			if hasTag(strings.TrimPrefix(args[0], "docker://")) {
				return fmt.Errorf("%q is an image: tags needs a repository, without tag or digest", args[0])
			}
			r, err := a.remote(cmd.Context())
			if err != nil {
				return err
			}
			for tag, err := range registry.Tags(cmd.Context(), r, ref.Repo, "") {
				if err != nil {
					return fmt.Errorf("list the tags of %s: %w", ref.FamiliarRepo(), err)
				}
				if err := render(a.stdout, cmp.Or(format, "{{.Tag}}"), nil, []tagRow{{ref.FamiliarRepo(), tag}}); err != nil {
					return err
				}
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&format, "format", "", `"json" or a Go template (default {{.Tag}})`)
	return cmd
}

// remoteName reads the name of an image in a registry, as people of skopeo write it too.
func remoteName(s string) (registry.Ref, error) {
	return registry.ParseRef(strings.TrimPrefix(s, "docker://"))
}

func registryDigestCommand(a *app) *cobra.Command {
	var platform string
	cmd := &cobra.Command{
		Use:               "digest IMAGE",
		Short:             "Print the digest of an image in a registry",
		Example:           "  nacre registry digest debian:12\n  nacre registry digest --platform linux/arm64 debian:12",
		Args:              exactArgs(1, "digest needs an image"),
		ValidArgsFunction: one(a.completeRemote),
		RunE: func(cmd *cobra.Command, args []string) error {
			d, _, err := a.remoteManifest(cmd.Context(), args[0], platform, platform != "")
			if err == nil {
				fmt.Fprintln(a.stdout, d.Digest)
			}
			return err
		},
	}
	cmd.Flags().StringVar(&platform, "platform", "", "of the image for this platform (default: of what the name stands for)")
	return cmd
}

func registryManifestCommand(a *app) *cobra.Command {
	var platform string
	var raw bool
	cmd := &cobra.Command{
		Use:               "manifest IMAGE",
		Short:             "Print the manifest or index of an image in a registry",
		Example:           "  nacre registry manifest debian:12\n  nacre registry manifest --raw debian:12 | sha256sum",
		Args:              exactArgs(1, "manifest needs an image"),
		ValidArgsFunction: one(a.completeRemote),
		RunE: func(cmd *cobra.Command, args []string) error {
			_, data, err := a.remoteManifest(cmd.Context(), args[0], platform, true)
			if err != nil {
				return err
			}
			if !raw {
				var b bytes.Buffer
				if err := json.Indent(&b, data, "", "    "); err != nil {
					return err
				}
				data = append(bytes.TrimRight(b.Bytes(), "\n"), '\n')
			}
			_, err = a.stdout.Write(data)
			return err
		},
	}
	cmd.Flags().StringVar(&platform, "platform", "", "of the image for this platform, where there is an index")
	cmd.Flags().BoolVar(&raw, "raw", false, "the bytes as they are, which the digest is of")
	return cmd
}

// remoteManifest finds the manifest or index of a name, and where read says so its bytes.
func (a *app) remoteManifest(ctx context.Context, name, platform string, read bool) (d registry.Descriptor, data []byte, err error) {
	ref, err := remoteName(name)
	if err != nil {
		return d, nil, err
	}
	r, err := a.remote(ctx)
	if err != nil {
		return d, nil, err
	}
	if d, err = r.Resolve(ctx, ref); err != nil {
		return d, nil, fetchError(ref, err)
	}
	for depth := 0; read && depth < 8; depth++ {
		if data, err = registry.ReadDocument(ctx, r, ref.Repo, d); err != nil || platform == "" || !image.IsIndex(d.MediaType) {
			return d, data, err
		}
		p, err := parsePlatform(platform)
		if err != nil {
			return d, nil, err
		}
		x, err := image.ParseIndex(data)
		if err == nil {
			d, err = image.MatchPlatform(x, p)
		}
		if err != nil {
			return d, nil, fmt.Errorf("%s: %w", ref.Familiar(), err)
		}
	}
	return d, data, nil
}

func registryDeleteCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:     "delete IMAGE [IMAGE...]",
		Aliases: []string{"rm"},
		Short:   "Delete images, or tags of images, from a registry",
		Long: `Delete from a registry: of a name with a tag that tag, of a name with a digest the image with all
its tags. Where a registry cannot delete tags, nothing is deleted, as the image may have others.`,
		Example:           "  nacre registry delete registry.example.com/team/web:old",
		Args:              minArgs(1, "delete needs at least one image"),
		ValidArgsFunction: each(a.completeRemote),
		RunE: func(cmd *cobra.Command, args []string) error {
			r, err := a.remote(cmd.Context())
			if err != nil {
				return err
			}
			var failed several
			for _, name := range args {
				if err := deleteRemote(cmd.Context(), a, r, name); err != nil {
					failed = append(failed, err)
				}
			}
			return failed.orNil()
		},
	}
}

func deleteRemote(ctx context.Context, a *app, r registry.Deleter, name string) error {
	ref, err := remoteName(name)
	if err != nil {
		return err
	}
	if !hasTag(strings.TrimPrefix(name, "docker://")) {
		return fmt.Errorf("%q: say which tag or digest is to be deleted", name) // "latest" is too easily meant by no one
	}
	if ref.Digest != "" {
		ref.Tag = ""
		err = r.Delete(ctx, ref.Repo, ref.Digest)
	} else {
		err = r.Untag(ctx, ref)
	}
	if errors.Is(err, registry.ErrUnsupported) && ref.Digest == "" {
		err = &hintError{err, "this registry deletes by digest alone, with all tags: nacre registry digest " + ref.Familiar() + " says which it is"}
	}
	if err != nil {
		return fmt.Errorf("delete %s: %w", ref.Familiar(), err)
	}
	fmt.Fprintln(a.stdout, "Deleted:", ref.Familiar())
	return nil
}

func registryReferrersCommand(a *app) *cobra.Command {
	var artifactType, format string
	cmd := &cobra.Command{
		Use:               "referrers IMAGE",
		Short:             "List what refers to an image: signatures, SBOMs, attestations",
		Example:           "  nacre registry referrers registry.example.com/team/web:1\n  nacre registry referrers --artifact-type application/spdx+json web:1",
		Args:              exactArgs(1, "referrers needs an image"),
		ValidArgsFunction: one(a.completeRemote),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			d, _, err := a.remoteManifest(ctx, args[0], "", false)
			if err != nil {
				return err
			}
			ref, _ := remoteName(args[0])
			r, err := a.remote(ctx)
			if err != nil {
				return err
			}
			rows := []referrerRow{}
			for found, err := range registry.Referrers(ctx, r, ref.Repo, d.Digest) {
				if err != nil {
					return fmt.Errorf("referrers of %s: %w", ref.Familiar(), err)
				}
				if artifactType == "" || found.ArtifactType == artifactType {
					rows = append(rows, referrerRow{found.ArtifactType, found.Digest, found.Size, found.MediaType, found.Annotations})
				}
			}
			return render(a.stdout, format, []column{{"ARTIFACT TYPE", "ArtifactType"}, {"DIGEST", "Digest"}, {"SIZE", "Size"}}, rows)
		},
	}
	cmd.Flags().StringVar(&artifactType, "artifact-type", "", "only those of this type")
	cmd.Flags().StringVar(&format, "format", "", `"table", "json", "table TEMPLATE" or a Go template`)
	return cmd
}

type referrerRow struct {
	ArtifactType string
	Digest       digest.Digest
	Size         int64
	MediaType    string
	Annotations  map[string]string
}

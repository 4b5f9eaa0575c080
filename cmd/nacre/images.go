package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"nacre/internal/registry/store"

	"github.com/opencontainers/go-digest"
	"github.com/spf13/cobra"
)

type imagesFlags struct {
	all, quiet, digests, noTrunc, tree bool
	filters                            []string
	format                             string
}

func imagesCommand(a *app) *cobra.Command {
	cmd := imageListCommand(a)
	cmd.Use = "images [OPTIONS] [REPOSITORY[:TAG]]"
	cmd.Aliases = nil
	return cmd
}

func imageListCommand(a *app) *cobra.Command {
	var f imagesFlags
	cmd := &cobra.Command{
		Use:     "ls [OPTIONS] [REPOSITORY[:TAG]]",
		Aliases: []string{"list"},
		Short:   "List images",
		Long: `List images, the newest first: a line for each name, and <none> where an image has none. What is left of an
image's name by its digest alone is shown with --digests. SIZE is that of the files in the image's layers.`,
		Example: `  nacre images
  nacre images --filter dangling=true -q
  nacre images --filter reference='team/*' --filter label=tier=front
  nacre images --tree busybox
  nacre images --format '{{.Repository}}:{{.Tag}} {{.Size}} {{.Label "version"}}' 'web*'`,
		Args:              maxArgs(1, "images takes one pattern"),
		ValidArgsFunction: a.completeImage,
		RunE: func(cmd *cobra.Command, args []string) error {
			if f.tree {
				return runImageTree(cmd.Context(), a, f, args)
			}
			return runImages(cmd.Context(), a, f, args)
		},
	}
	fl := cmd.Flags()
	fl.BoolVarP(&f.all, "all", "a", false, "also images without a name that others were made from")
	fl.BoolVarP(&f.quiet, "quiet", "q", false, "print IDs and nothing else")
	fl.BoolVar(&f.digests, "digests", false, "show digests")
	fl.BoolVar(&f.noTrunc, "no-trunc", false, "do not shorten IDs")
	fl.BoolVar(&f.tree, "tree", false, "show the platforms of each image, and which of them are here")
	listVar(fl, &f.filters, "filter", "f", "dangling=BOOL, label=KEY[=VALUE], before=IMAGE, since=IMAGE, until=TIME or reference=PATTERN")
	fl.StringVar(&f.format, "format", "", `"table", "json", "table TEMPLATE" or a Go template`)
	return cmd
}

func runImages(ctx context.Context, a *app, f imagesFlags, args []string) error {
	images, err := a.listImages(ctx, f, args)
	if err != nil {
		return err
	}
	explain := func(err error) error { return err }
	if !f.quiet {
		f.format, explain = a.listFormat(f.format, "imagesFormat", func(c userConfig) string { return c.ImagesFormat })
	}
	style := rowStyle{noTrunc: f.noTrunc, digests: f.digests || strings.Contains(f.format, ".Digest"), now: time.Now()}
	if f.quiet && (f.format == "" || f.format == "table") {
		for _, row := range imageRows(images, style) {
			fmt.Fprintln(a.stdout, row.ID)
		}
		return nil
	}
	if f.format == "raw" {
		f.format = rawImage(f.digests)
	}
	if err := a.imageDetails(ctx, f.format, &style); err != nil {
		return err
	}
	columns := []column{{"REPOSITORY", "Repository"}, {"TAG", "Tag"}, {"IMAGE ID", "ID"}, {"CREATED", "CreatedSince"}, {"SIZE", "Size"}}
	if f.digests {
		columns = slices.Insert(columns, 2, column{"DIGEST", "Digest"})
		if strings.HasPrefix(f.format, "table ") && !strings.Contains(f.format, "{{.Digest}}") {
			f.format += "\t{{.Digest}}"
		}
	}
	return explain(render(a.stdout, f.format, columns, imageRows(images, style)))
}

// rawImage is docker's format "raw".
func rawImage(digests bool) string {
	digest := ""
	if digests {
		digest = "digest: {{.Digest}}\n"
	}
	return "repository: {{.Repository}}\ntag: {{.Tag}}\n" + digest + "image_id: {{.ID}}\ncreated_at: {{.CreatedAt}}\nvirtual_size: {{.Size}}\n"
}

// listImages reads the images that the filters leave, newest first, with the names they leave of each.
func (a *app) listImages(ctx context.Context, f imagesFlags, args []string) ([]store.Image, error) {
	s, err := a.store(ctx)
	if err != nil {
		return nil, err
	}
	keep, err := a.imageFilter(ctx, f, args)
	if err != nil {
		return nil, err
	}
	var images []store.Image
	for img, err := range s.Images(ctx) {
		if err != nil {
			return nil, err
		}
		if keep(&img) {
			images = append(images, img)
		}
	}
	return images, nil
}

// imageDetails finds out what templates ask for that costs more than the list: docker has N/A for it.
func (a *app) imageDetails(ctx context.Context, format string, style *rowStyle) error {
	if strings.Contains(format, ".Containers") {
		list, err := a.opened.Containers(ctx)
		if err != nil {
			return err
		}
		style.containers = map[digest.Digest]int{}
		for _, c := range list {
			style.containers[c.Image]++
		}
	}
	if strings.Contains(format, ".SharedSize") || strings.Contains(format, ".UniqueSize") {
		u, err := a.opened.Usage(ctx, true)
		if err != nil {
			return err
		}
		style.usage = map[digest.Digest]store.ImageUsage{}
		for _, i := range u.ImageList {
			style.usage[i.Image.Target.Digest] = i
		}
	}
	return nil
}

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"

	"nacre/internal/image"
	"nacre/internal/registry/store"

	"github.com/opencontainers/go-digest"
)

// runImageTree is images --tree: each image with its platforms, those that are not here as well.
func runImageTree(ctx context.Context, a *app, f imagesFlags, args []string) error {
	if f.quiet || f.digests {
		return errors.New("--tree is a list of its own: leave out --quiet and --digests")
	}
	if f.format != "" && f.format != "table" && f.format != "json" {
		return errors.New("--tree: --format is table or json")
	}
	images, err := a.listImages(ctx, f, args)
	if err != nil {
		return err
	}
	trees, err := a.opened.Trees(ctx, images)
	if err != nil {
		return err
	}
	used, err := a.usedVariants(ctx)
	if err != nil {
		return err
	}
	list := make([]treeImage, len(trees))
	for i, t := range trees {
		list[i] = newTreeImage(t, used)
	}
	if f.format == "json" {
		enc := json.NewEncoder(a.stdout)
		enc.SetEscapeHTML(false)
		for _, t := range list {
			if err := enc.Encode(t); err != nil {
				return err
			}
		}
		return nil
	}
	return printTree(a.stdout, list, f.noTrunc)
}

// treeImage is an image of images --tree, also as JSON. Sizes are bytes.
type treeImage struct {
	Names       []string
	ID          digest.Digest
	Digest      digest.Digest // of the manifest or index
	DiskUsage   int64
	ContentSize int64
	Used        bool // by a container
	Children    []treeChild
}

// treeChild is what there is of an image for one platform. ID and sizes are those of what is here.
type treeChild struct {
	Platform    string
	ID          digest.Digest `json:",omitempty"`
	Digest      digest.Digest // of the manifest
	Present     bool
	DiskUsage   int64
	ContentSize int64
	Used        bool
}

// variantUse says that a container runs on an image, and on which of an index.
type variantUse struct{ target, config digest.Digest }

func (a *app) usedVariants(ctx context.Context) (map[variantUse]bool, error) {
	cs, err := a.containers(ctx)
	if err != nil {
		return nil, err
	}
	list, err := cs.List(ctx)
	if err != nil {
		return nil, err
	}
	used := map[variantUse]bool{}
	for _, c := range list {
		used[variantUse{c.Config.Target, c.Config.ImageID}] = true
	}
	return used, nil
}

func newTreeImage(t store.ImageTree, used map[variantUse]bool) treeImage {
	out := treeImage{Names: []string{}, ID: t.Image.ID, Digest: t.Image.Target.Digest, DiskUsage: t.Disk}
	for _, n := range t.Image.Names {
		out.Names = append(out.Names, n.Familiar())
	}
	for _, v := range t.Variants {
		c := treeChild{
			Platform: "unknown", ID: v.ID, Digest: v.Target.Digest, Present: v.Present, DiskUsage: v.Disk, ContentSize: v.Content,
			Used: used[variantUse{t.Image.Target.Digest, v.ID}],
		}
		if v.Platform.Architecture != "" {
			c.Platform = image.FormatPlatform(v.Platform)
		}
		out.Used = out.Used || c.Used
		out.ContentSize += c.ContentSize
		out.Children = append(out.Children, c)
	}
	return out
}

// printTree prints docker's columns. Of what is not here the sizes are a dash.
func printTree(w io.Writer, list []treeImage, noTrunc bool) error {
	id := func(d digest.Digest) string {
		if noTrunc {
			return d.String()
		}
		return shortID(d)
	}
	rows := [][]string{{"IMAGE", "ID", "DISK USAGE", "CONTENT SIZE", "USED"}}
	for i, t := range list {
		if i > 0 {
			rows = append(rows, nil)
		}
		names := slices.Clone(t.Names)
		if len(names) == 0 {
			names = []string{"<untagged>"}
		}
		for _, n := range names[:len(names)-1] {
			rows = append(rows, []string{n})
		}
		rows = append(rows, []string{names[len(names)-1], id(t.ID), humanSize(t.DiskUsage), humanSize(t.ContentSize), tick(t.Used)})
		for j, c := range t.Children {
			branch := "├─ "
			if j == len(t.Children)-1 {
				branch = "└─ "
			}
			disk, content := "-", "-"
			if c.Present {
				disk, content = humanSize(c.DiskUsage), humanSize(c.ContentSize)
			}
			rows = append(rows, []string{branch + c.Platform, id(c.Digest), disk, content, tick(c.Used)})
		}
	}
	return printColumns(w, rows, "ll>>l")
}

func tick(on bool) string {
	if on {
		return "✔"
	}
	return ""
}

// printColumns prints rows with three spaces between columns, those to the right that align says ">" of.
func printColumns(w io.Writer, rows [][]string, align string) error {
	width := make([]int, len(align))
	for _, r := range rows {
		for i, cell := range r {
			width[i] = max(width[i], utf8.RuneCountInString(cell))
		}
	}
	var b strings.Builder
	for _, r := range rows {
		var line strings.Builder
		for i, cell := range r {
			if i > 0 {
				line.WriteString("   ")
			}
			fill := strings.Repeat(" ", width[i]-utf8.RuneCountInString(cell))
			if align[i] == '>' {
				cell = fill + cell
			} else {
				cell += fill
			}
			line.WriteString(cell)
		}
		fmt.Fprintln(&b, strings.TrimRight(line.String(), " "))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

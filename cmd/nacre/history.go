package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"nacre/internal/image"
	"nacre/internal/registry"

	"github.com/opencontainers/go-digest"
	"github.com/spf13/cobra"
)

type historyFlags struct {
	human, noTrunc, quiet bool
	format, platform      string
}

func historyCommand(a *app) *cobra.Command {
	var f historyFlags
	cmd := &cobra.Command{
		Use:   "history [OPTIONS] IMAGE",
		Short: "Show what made each layer of an image",
		Example: `  nacre history web:1
  nacre history --no-trunc --format '{{.Size}}	{{.CreatedBy}}' web:1
  nacre history --platform linux/arm64 web:1`,
		Args:              exactArgs(1, "history needs one image"),
		ValidArgsFunction: a.completeImage,
		RunE: func(cmd *cobra.Command, args []string) error {
			rows, err := historyRows(cmd.Context(), a, f, args[0])
			if err != nil {
				return err
			}
			if f.quiet && (f.format == "" || f.format == "table") {
				for _, r := range rows {
					fmt.Fprintln(a.stdout, r.ID)
				}
				return nil
			}
			created := column{"CREATED", "CreatedSince"}
			if !f.human {
				created = column{"CREATED AT", "CreatedAt"}
			}
			return render(a.stdout, f.format, []column{
				{"IMAGE", "ID"}, created, {"CREATED BY", "CreatedBy"}, {"SIZE", "Size"}, {"COMMENT", "Comment"},
			}, rows)
		},
	}
	fl := cmd.Flags()
	fl.BoolVarP(&f.human, "human", "H", true, "sizes and times for people")
	fl.BoolVar(&f.noTrunc, "no-trunc", false, "do not shorten instructions and IDs")
	fl.BoolVarP(&f.quiet, "quiet", "q", false, "print IDs and nothing else")
	fl.StringVar(&f.format, "format", "", `"table", "json", "table TEMPLATE" or a Go template`)
	fl.StringVar(&f.platform, "platform", "", "which image of an index (default: this machine's)")
	return cmd
}

// historyRow is an entry as docker's templates know it.
type historyRow struct{ Comment, CreatedAt, CreatedBy, CreatedSince, ID, Size string }

// historyRows lists an image's history, newest first. Layers have no images of their own, so all entries are
// <missing> but the newest and, of what commit made, those of the images it was made of: as docker has it.
func historyRows(ctx context.Context, a *app, f historyFlags, name string) ([]historyRow, error) {
	p, err := optionalPlatform(f.platform)
	if err != nil {
		return nil, err
	}
	img, err := a.platformImage(ctx, name, p)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	var rows []historyRow
	for _, made := range image.Trace(img.config, img.manifest) {
		size, err := a.sizeOfMade(ctx, made)
		if err != nil {
			return nil, a.gone(ctx, name, img.Image, err)
		}
		rows = append(rows, f.row(made.History, size, now))
	}
	slices.Reverse(rows)
	id, parent := img.manifest.Config.Digest, img.Parent
	for i := 0; i < len(rows) && id != ""; i++ {
		rows[i].ID = id.String()
		if !f.noTrunc {
			rows[i].ID = shortID(id)
		}
		if id, parent, err = a.ancestor(ctx, parent); err != nil {
			return nil, err
		}
	}
	return rows, nil
}

// sizeOfMade is that of the files in a layer.
func (a *app) sizeOfMade(ctx context.Context, made image.Made) (int64, error) {
	if made.DiffID == "" {
		return 0, nil
	}
	info, err := a.opened.LayerInfo(ctx, made.DiffID)
	if errors.Is(err, registry.ErrAbsent) && made.Layer != nil {
		return made.Layer.Size, nil // pushed here, and not unpacked yet
	}
	return info.FileBytes, err
}

// ancestor is the image that another was made from, and what it was made from itself. Both are empty where it is not here.
func (a *app) ancestor(ctx context.Context, id digest.Digest) (_, parent digest.Digest, err error) {
	if id == "" {
		return "", "", nil
	}
	img, err := a.opened.Lookup(ctx, id.String())
	if errors.Is(err, registry.ErrAbsent) {
		return "", "", nil
	}
	return id, img.Parent, err
}

func (f historyFlags) row(h image.History, size int64, now time.Time) historyRow {
	r := historyRow{ID: "<missing>", CreatedBy: strings.ReplaceAll(h.CreatedBy, "\t", " "), Comment: h.Comment}
	var created time.Time
	if h.Created != nil {
		created = *h.Created
	}
	r.CreatedAt = created.Local().Format(time.RFC3339)
	if f.human {
		if created.Before(time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)) {
			created = time.Time{} // it is no time but a constant, as docker has it
		}
		r.CreatedSince, r.Size = since(created, now), humanSize(size)
	} else {
		r.CreatedSince, r.Size = r.CreatedAt, strconv.FormatInt(size, 10)
	}
	if !f.noTrunc {
		r.CreatedBy = shorten(r.CreatedBy, 45)
	}
	return r
}

// shorten cuts s to n characters, the last of them an ellipsis where it is cut.
func shorten(s string, n int) string {
	r := []rune(s)
	if len(r) <= n {
		return s
	}
	return string(r[:n-1]) + "…"
}

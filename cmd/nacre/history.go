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

	"github.com/spf13/cobra"
)

type historyFlags struct {
	human, noTrunc, quiet bool
	format                string
}

func historyCommand(a *app) *cobra.Command {
	var f historyFlags
	cmd := &cobra.Command{
		Use:   "history [OPTIONS] IMAGE",
		Short: "Show what made each layer of an image",
		Example: `  nacre history web:1
  nacre history --no-trunc --format '{{.Size}}	{{.CreatedBy}}' web:1`,
		Args:              exactArgs(1, "history needs one image"),
		ValidArgsFunction: a.completeImage,
		RunE: func(cmd *cobra.Command, args []string) error {
			rows, err := historyRows(cmd.Context(), a, f, args[0])
			if err != nil {
				return err
			}
			if f.quiet {
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
	return cmd
}

// historyRow is an entry as docker's templates know it.
type historyRow struct{ ID, CreatedSince, CreatedAt, CreatedBy, Size, Comment string }

// historyRows lists an image's history, newest first. Layers have no images of
// their own, so all but the newest are <missing>, as docker has it for pulled images.
func historyRows(ctx context.Context, a *app, f historyFlags, name string) ([]historyRow, error) {
	img, err := a.image(ctx, name)
	if err != nil {
		return nil, err
	}
	m, cfg, err := a.manifest(ctx, img, nil)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	var rows []historyRow
	for _, made := range image.Trace(cfg, m) {
		var size int64
		if made.DiffID != "" {
			info, err := a.opened.LayerInfo(ctx, made.DiffID)
			switch {
			case err == nil:
				size = info.FileBytes
			case errors.Is(err, registry.ErrAbsent) && made.Layer != nil:
				size = made.Layer.Size // pushed here, and not unpacked yet
			default:
				return nil, err
			}
		}
		rows = append(rows, f.row(made.History, size, now))
	}
	slices.Reverse(rows)
	if len(rows) > 0 {
		rows[0].ID = img.ID.String()
		if !f.noTrunc {
			rows[0].ID = shortID(img.ID)
		}
	}
	return rows, nil
}

func (f historyFlags) row(h image.History, size int64, now time.Time) historyRow {
	r := historyRow{ID: "<missing>", CreatedBy: strings.ReplaceAll(h.CreatedBy, "\t", " "), Comment: h.Comment}
	var created time.Time
	if h.Created != nil {
		created = *h.Created
	}
	r.CreatedAt = created.Format(time.RFC3339)
	if f.human {
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

package main

import (
	"context"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"nacre/internal/reference"
	"nacre/internal/registry"
	"nacre/internal/registry/store"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"
)

type imagesFlags struct {
	all, quiet, digests, noTrunc bool
	filters                      []string
	format                       string
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
		Example: `  nacre images
  nacre images --filter dangling=true -q
  nacre images --format '{{.Repository}}:{{.Tag}} {{.Size}}' 'web*'`,
		Args:              maxArgs(1, "images takes one pattern"),
		ValidArgsFunction: a.completeImage,
		RunE: func(cmd *cobra.Command, args []string) error {
			return runImages(cmd.Context(), a, f, args)
		},
	}
	fl := cmd.Flags()
	fl.BoolVarP(&f.all, "all", "a", false, "accepted for docker's sake: there are no hidden intermediate images")
	fl.BoolVarP(&f.quiet, "quiet", "q", false, "print IDs and nothing else")
	fl.BoolVar(&f.digests, "digests", false, "show digests")
	fl.BoolVar(&f.noTrunc, "no-trunc", false, "do not shorten IDs")
	listVar(fl, &f.filters, "filter", "f", "dangling=BOOL, label=KEY[=VALUE], before=IMAGE, since=IMAGE, until=TIME or reference=PATTERN")
	fl.StringVar(&f.format, "format", "", `"table", "json", "table TEMPLATE" or a Go template`)
	return cmd
}

// imageRow is an image as docker's templates know it.
type imageRow struct {
	Repository, Tag, Digest, ID, CreatedSince, CreatedAt, Size string
	Containers, SharedSize, UniqueSize, VirtualSize            string
}

func runImages(ctx context.Context, a *app, f imagesFlags, args []string) error {
	s, err := a.store(ctx)
	if err != nil {
		return err
	}
	keep, err := a.imageFilter(ctx, f.filters, args)
	if err != nil {
		return err
	}
	var images []store.Image
	for img, err := range s.Images(ctx) {
		if err != nil {
			return err
		}
		if names, ok := keep(img); ok {
			img.Names = names
			images = append(images, img)
		}
	}
	slices.SortStableFunc(images, func(x, y store.Image) int { return y.Created.Compare(x.Created) })
	if f.quiet {
		return printIDs(a, images, f.noTrunc)
	}
	columns := []column{{"REPOSITORY", "Repository"}, {"TAG", "Tag"}, {"IMAGE ID", "ID"}, {"CREATED", "CreatedSince"}, {"SIZE", "Size"}}
	if f.digests {
		columns = slices.Insert(columns, 2, column{"DIGEST", "Digest"})
	}
	return render(a.stdout, f.format, columns, imageRows(images, f.noTrunc, time.Now()))
}

func printIDs(a *app, images []store.Image, noTrunc bool) error {
	last := ""
	for _, img := range images {
		id := img.ID.String()
		if !noTrunc {
			id = shortID(img.ID)
		}
		for range max(1, len(img.Names)) {
			if id != last || len(img.Names) > 1 {
				fmt.Fprintln(a.stdout, id)
			}
			last = id
		}
	}
	return nil
}

// imageRows gives one row for each name, as docker does; <none> for the nameless.
func imageRows(images []store.Image, noTrunc bool, now time.Time) []imageRow {
	var rows []imageRow
	for _, img := range images {
		row := imageRow{
			ID: shortID(img.ID), Repository: "<none>", Tag: "<none>", Digest: "<none>",
			CreatedSince: since(img.Created, now), CreatedAt: img.Created.Local().Format("2006-01-02 15:04:05 -0700 MST"),
			Size: humanSize(img.Size), VirtualSize: units.HumanSize(float64(img.Size)), // as docker, with a digit more
			Containers: "N/A", SharedSize: "N/A", UniqueSize: "N/A",
		}
		if noTrunc {
			row.ID = img.ID.String()
		}
		if img.Target.Digest != "" {
			row.Digest = img.Target.Digest.String()
		}
		if len(img.Names) == 0 {
			rows = append(rows, row)
		}
		for _, n := range img.Names {
			if n.Tag == "" && slices.ContainsFunc(img.Names, func(m registry.Ref) bool { return m.Repo == n.Repo && m.Tag != "" }) {
				continue // its digest is shown with the tag
			}
			row.Repository, row.Tag = n.FamiliarRepo(), n.Tag
			if n.Tag == "" {
				row.Tag = "<none>"
			}
			if i := slices.IndexFunc(img.Digests, func(d registry.Ref) bool { return d.Repo == n.Repo }); i >= 0 {
				row.Digest = img.Digests[i].Digest.String()
			}
			rows = append(rows, row)
		}
	}
	return rows
}

// imageFilter makes a predicate from --filter and the optional argument. It gives
// the names that are left of an image, and whether it is listed at all.
func (a *app) imageFilter(ctx context.Context, filters, args []string) (func(store.Image) ([]registry.Ref, bool), error) {
	var tests []func(store.Image) bool
	patterns := slices.Clone(args)
	for _, f := range filters {
		key, value, ok := strings.Cut(f, "=")
		if !ok {
			return nil, fmt.Errorf("--filter %q: want KEY=VALUE", f)
		}
		if key == "reference" {
			patterns = append(patterns, value)
			continue
		}
		t, err := a.imageTest(ctx, key, value)
		if err != nil {
			return nil, err
		}
		tests = append(tests, t)
	}
	for _, p := range patterns {
		if err := checkPattern(p); err != nil {
			return nil, err
		}
	}
	return func(img store.Image) ([]registry.Ref, bool) {
		for _, t := range tests {
			if !t(img) {
				return nil, false
			}
		}
		if len(patterns) == 0 {
			return img.Names, true
		}
		var names []registry.Ref
		for _, n := range img.Names {
			if slices.ContainsFunc(patterns, func(p string) bool { return matchName(p, n) }) {
				names = append(names, n)
			}
		}
		return names, len(names) > 0
	}, nil
}

func (a *app) imageTest(ctx context.Context, key, value string) (func(store.Image) bool, error) {
	switch key {
	case "dangling":
		want, err := strconv.ParseBool(value)
		if err != nil {
			return nil, fmt.Errorf("--filter dangling=%s: want true or false", value)
		}
		return func(i store.Image) bool { return (len(i.Names) == 0) == want }, nil
	case "label", "label!":
		name, want, exact := strings.Cut(value, "=")
		return func(i store.Image) bool {
			have, ok := i.Labels[name]
			return (ok && (!exact || have == want)) == (key == "label")
		}, nil
	case "before", "since":
		img, err := a.image(ctx, value)
		if err != nil {
			return nil, fmt.Errorf("--filter %s: %w", key, err)
		}
		return func(i store.Image) bool {
			if key == "before" {
				return i.Created.Before(img.Created)
			}
			return i.Created.After(img.Created)
		}, nil
	case "until":
		limit, err := parseUntil(value, time.Now())
		if err != nil {
			return nil, err
		}
		return func(i store.Image) bool { return i.Created.Before(limit) }, nil
	}
	return nil, fmt.Errorf("--filter %s: unknown; want dangling, label, before, since, until or reference", key)
}

// parseUntil reads a point in time as docker does: a duration before now ("24h"),
// seconds since 1970, or a date.
func parseUntil(s string, now time.Time) (time.Time, error) {
	if d, err := time.ParseDuration(s); err == nil {
		return now.Add(-d), nil
	}
	if sec, err := strconv.ParseInt(s, 10, 64); err == nil {
		return time.Unix(sec, 0), nil
	}
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05", "2006-01-02T15:04", "2006-01-02"} {
		if t, err := time.ParseInLocation(layout, s, time.Local); err == nil {
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf("until=%s: want a duration such as 24h, or a time such as 2006-01-02T15:04:05", s)
}

func checkPattern(p string) error {
	if _, err := path.Match(p, "a"); err != nil {
		return fmt.Errorf("pattern %q: %w", p, err)
	}
	return nil
}

// matchName matches a name as docker does: a pattern with path.Match's wildcards
// against the familiar name with and without tag.
func matchName(pattern string, r registry.Ref) bool {
	n, err := reference.Parse(r.String())
	if err != nil {
		return false
	}
	if ok, _ := n.Match(pattern); ok {
		return true
	}
	return pattern == r.FamiliarRepo() || pattern == r.Familiar()
}

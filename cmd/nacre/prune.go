package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"nacre/internal/registry/store"

	"github.com/spf13/cobra"
	"golang.org/x/term"
)

type pruneFlags struct {
	all, force, volumes bool
	filters             []string
	dangling            bool // is a filter: false is all, as docker's daemon takes it
}

func pruneCommand(a *app) *cobra.Command {
	var f pruneFlags
	cmd := &cobra.Command{
		Use:   "prune [OPTIONS]",
		Short: "Remove stopped containers, dangling images and unused build cache",
		Long: `Remove all stopped containers, all dangling images, and the build cache but for what images have as well. With -a
remove all images that no container uses, and all of the build cache.`,
		Example: "  nacre system prune -f\n  nacre system prune -a --filter until=24h\n  nacre system prune -f --volumes",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			o, err := f.options()
			if err != nil {
				return err
			}
			if f.volumes && !o.Until.IsZero() {
				return errors.New(`the "until" filter is not supported with "--volumes"`) // docker's words
			}
			if !f.force {
				if ok, err := a.confirm(cmd.Context(), f.warning()); err != nil || !ok {
					return err
				}
			}
			return a.pruneSystem(cmd.Context(), f, o)
		},
	}
	f.register(cmd)
	cmd.Flags().BoolVar(&f.volumes, "volumes", false, "also anonymous volumes that no container uses")
	return cmd
}

// warning is docker's.
func (f *pruneFlags) warning() string {
	what := []string{"all stopped containers"}
	if f.volumes {
		what = append(what, "all anonymous volumes not used by at least one container")
	}
	if f.all {
		what = append(what, "all images without at least one container associated to them", "all build cache")
	} else {
		what = append(what, "all dangling images", "unused build cache")
	}
	text := "WARNING! This will remove:\n  - " + strings.Join(what, "\n  - ") + "\n"
	if len(f.filters) > 0 {
		text += "\n  Items to be pruned will be filtered with:\n  - " + strings.Join(slices.Sorted(slices.Values(f.filters)), "\n  - ") + "\n"
	}
	return text
}

// pruneSystem removes containers first, since they hold images and volumes, and the build cache last.
func (a *app) pruneSystem(ctx context.Context, f pruneFlags, o store.PruneOptions) error {
	containers, err := a.pruneContainers(ctx, o)
	if err != nil {
		return err
	}
	volumes, err := a.pruneVolumes(ctx, f)
	if err != nil {
		return err
	}
	r, err := a.opened.Prune(ctx, o)
	if err != nil {
		return err
	}
	a.printPrunedImages(r)
	cache, err := a.pruneBuildCache(ctx, o, f.all)
	if err != nil {
		return err
	}
	if len(cache.Items) > 0 {
		fmt.Fprintln(a.stdout, "Deleted build cache objects:")
		for _, c := range cache.Items {
			fmt.Fprintln(a.stdout, c.ID)
		}
		fmt.Fprintln(a.stdout)
	}
	fmt.Fprintln(a.stdout, "Total reclaimed space:", fullSize(containers+volumes+r.Bytes+cache.Bytes))
	return nil
}

// pruneBuildCache removes what no image has as well, or with all everything, that was last used before o.Until. Nothing in
// the build cache has labels.
func (a *app) pruneBuildCache(ctx context.Context, o store.PruneOptions, all bool) (store.CacheRemoved, error) {
	if !o.FitsLabels(nil) {
		return store.CacheRemoved{}, nil
	}
	items, err := a.opened.CacheItems(ctx, false)
	if err != nil {
		return store.CacheRemoved{}, err
	}
	return a.opened.DropCache(ctx, slices.DeleteFunc(items, func(c store.CacheItem) bool {
		return c.InUse || c.Shared && !all || !o.Until.IsZero() && !c.Used.Before(o.Until)
	}))
}

func imagePruneCommand(a *app) *cobra.Command {
	f := pruneFlags{dangling: true}
	cmd := &cobra.Command{
		Use:   "prune [OPTIONS]",
		Short: "Remove dangling images",
		Long: `Remove the images without a name, or with -a all that no container uses. What the build cache needs of them stays on
the disk until "nacre builder prune" or "nacre system prune".`,
		Example: "  nacre image prune -f\n  nacre image prune -a --filter label!=keep\n  nacre image prune -a -f --filter until=240h",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			o, err := f.options()
			if err != nil {
				return err
			}
			f.all = o.Images == store.PruneAll
			what := "all dangling images"
			if f.all {
				what = "all images without at least one container associated to them"
			}
			if !f.force {
				if ok, err := a.confirm(cmd.Context(), "WARNING! This will remove "+what+"."); err != nil || !ok {
					return err
				}
			}
			s, err := a.store(cmd.Context())
			if err != nil {
				return err
			}
			r, err := s.Prune(cmd.Context(), o)
			if err != nil {
				return err
			}
			a.printPrunedImages(r)
			fmt.Fprintln(a.stdout, "Total reclaimed space:", fullSize(r.Bytes))
			return nil
		},
	}
	f.register(cmd)
	return cmd
}

func (f *pruneFlags) register(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.BoolVarP(&f.all, "all", "a", false, "also images that have a name")
	fl.BoolVarP(&f.force, "force", "f", false, "do not ask")
	listVar(fl, &f.filters, "filter", "", "until=TIME, label=KEY[=VALUE] or label!=KEY[=VALUE]")
}

// options are what the flags ask for of images.
func (f *pruneFlags) options() (o store.PruneOptions, err error) {
	o.Images = store.PruneDangling
	if f.all {
		o.Images = store.PruneAll
	}
	err = f.apply(&o)
	return o, err
}

// apply reads the filters, to which those of docker's config.json are added.
func (f *pruneFlags) apply(o *store.PruneOptions) (err error) {
	if f.filters, err = pruneFilters(f.filters); err != nil {
		return err
	}
	for _, filter := range f.filters {
		key, value, err := cutFilter(filter)
		if err != nil {
			return err
		}
		if f.dangling && key == "dangling" {
			if o.Images, err = danglingFilter(value); err != nil {
				return err
			}
			continue
		}
		switch key {
		case "":
		case "until":
			t, err := parseUntil(value, time.Now())
			if err != nil {
				return err
			}
			o.Until = t
		case "label":
			o.Labels = append(o.Labels, labelFilter(value, false))
		case "label!":
			o.Labels = append(o.Labels, labelFilter(value, true))
		default:
			return &hintError{fmt.Errorf("invalid filter '%s'", key), "want until, label or label!"}
		}
	}
	return nil
}

func danglingFilter(value string) (store.PruneImages, error) {
	switch value {
	case "true", "1":
		return store.PruneDangling, nil
	case "false", "0":
		return store.PruneAll, nil
	}
	return 0, fmt.Errorf("invalid filter 'dangling=%s': want true or false", value)
}

func labelFilter(s string, not bool) store.LabelFilter {
	key, value, _ := strings.Cut(s, "=")
	return store.LabelFilter{Key: key, Value: value, Not: not}
}

// confirm asks for y or N as docker does, of a terminal or of what is piped in. Where nobody answers, -f is needed.
func (a *app) confirm(ctx context.Context, text string) (bool, error) {
	fmt.Fprintf(a.stdout, "%s\nAre you sure you want to continue? [y/N] ", text)
	line, err := bufio.NewReader(untilDone(ctx, func() (*os.File, error) { return a.stdin, nil })).ReadString('\n')
	if err != nil && err != io.EOF {
		return false, err
	}
	if line == "" && !term.IsTerminal(int(a.stdin.Fd())) {
		fmt.Fprintln(a.stdout)
		return false, &hintError{errors.New("there is no terminal to ask on"), "say -f to go ahead without being asked"}
	}
	line = strings.ToLower(strings.TrimSpace(line))
	return line == "y" || line == "yes", nil
}

// printPrunedImages lists what prune removed, in docker's words.
func (a *app) printPrunedImages(r store.PruneReport) {
	if len(r.Images) == 0 {
		return
	}
	fmt.Fprintln(a.stdout, "Deleted Images:")
	for _, img := range r.Images {
		for _, n := range img.Untagged {
			fmt.Fprintln(a.stdout, "untagged:", n.Familiar())
		}
		fmt.Fprintln(a.stdout, "deleted:", img.ID)
		for _, d := range img.Layers {
			fmt.Fprintln(a.stdout, "deleted:", d)
		}
	}
	fmt.Fprintln(a.stdout)
}

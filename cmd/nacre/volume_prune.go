package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"nacre/internal/volume"

	"github.com/spf13/cobra"
)

func volumePruneCommand(a *app) *cobra.Command {
	var f pruneFlags
	cmd := &cobra.Command{
		Use:   "prune [OPTIONS]",
		Short: "Remove volumes that no container uses and nobody gave a name",
		Example: "  nacre volume prune -f\n  nacre volume prune -a --filter label!=keep\n" +
			"  nacre volume prune -f --filter label=env=test",
		Args: noArgs,
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if f.filters, err = pruneFilters(f.filters); err != nil {
				return err
			}
			o, err := volumePruneOptions(f)
			if err != nil {
				return err
			}
			what := "anonymous local volumes not used by at least one container"
			if o.All {
				what = "all local volumes not used by at least one container"
			}
			if !f.force {
				if ok, err := a.confirm(cmd.Context(), "WARNING! This will remove "+what+"."); err != nil || !ok {
					return err
				}
			}
			v, err := a.volumes(cmd.Context())
			if err != nil {
				return err
			}
			r, err := v.Prune(cmd.Context(), o)
			a.printPrunedVolumes(r)
			fmt.Fprintln(a.stdout, "Total reclaimed space:", fullSize(r.Bytes))
			return err
		},
	}
	fl := cmd.Flags()
	fl.BoolVarP(&f.all, "all", "a", false, "also volumes that have a name")
	fl.BoolVarP(&f.force, "force", "f", false, "do not ask")
	listVar(fl, &f.filters, "filter", "", "label=KEY[=VALUE], label!=KEY[=VALUE] or all=BOOL")
	return cmd
}

func volumePruneOptions(f pruneFlags) (volume.PruneOptions, error) {
	o := volume.PruneOptions{All: f.all}
	var want, not []string
	for _, filter := range f.filters {
		key, value, ok := strings.Cut(filter, "=")
		switch {
		case !ok:
			return o, fmt.Errorf("--filter %q: want KEY=VALUE", filter)
		case key == "label":
			want = append(want, value)
		case key == "label!":
			not = append(not, value)
		case key == "all" && (value == "1" || value == "true"):
			o.All = true
		case key == "all" && (value == "0" || value == "false"):
		default:
			return o, fmt.Errorf("--filter %s: unknown; want label, label! or all=true", filter)
		}
	}
	o.Keep = func(vol volume.Volume) bool {
		return slices.ContainsFunc(want, func(l string) bool { return !hasLabel(vol, l) }) ||
			slices.ContainsFunc(not, func(l string) bool { return hasLabel(vol, l) })
	}
	return o, nil
}

func (a *app) printPrunedVolumes(r volume.PruneReport) {
	if len(r.Names) == 0 {
		return
	}
	fmt.Fprintln(a.stdout, "Deleted Volumes:")
	for _, name := range r.Names {
		fmt.Fprintln(a.stdout, name)
	}
	fmt.Fprintln(a.stdout)
}

// pruneVolumes is what system prune --volumes does before the rest: anonymous volumes go. It returns the bytes freed.
func (a *app) pruneVolumes(ctx context.Context, f pruneFlags) (int64, error) {
	if !f.volumes {
		return 0, nil
	}
	f.all = false
	o, err := volumePruneOptions(f)
	if err != nil {
		return 0, err
	}
	v, err := a.volumes(ctx)
	if err != nil {
		return 0, err
	}
	r, err := v.Prune(ctx, o)
	a.printPrunedVolumes(r)
	return r.Bytes, err
}

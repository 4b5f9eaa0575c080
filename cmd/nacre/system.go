package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"nacre/internal/registry/store"

	"github.com/spf13/cobra"
	"golang.org/x/term"
)

func systemCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "system",
		Short:   "Look after the store: disk usage, integrity, cleaning up",
		Example: "  nacre system df\n  nacre system check --repair",
		Args:    cobra.ArbitraryArgs,
		RunE:    group,
	}
	cmd.AddCommand(dfCommand(a), checkCommand(a), pruneCommand(a))
	return cmd
}

func dfCommand(a *app) *cobra.Command {
	var verbose bool
	var format string
	cmd := &cobra.Command{
		Use:     "df",
		Short:   "Show what uses the disk",
		Example: "  nacre system df\n  nacre system df --format json",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := a.store(cmd.Context())
			if err != nil {
				return err
			}
			u, err := s.Usage(cmd.Context(), verbose)
			if err != nil {
				return err
			}
			return printUsage(cmd.Context(), a, u, format, verbose)
		},
	}
	cmd.Flags().BoolVarP(&verbose, "verbose", "v", false, "show each image")
	cmd.Flags().StringVar(&format, "format", "", `"table", "json" or a Go template`)
	return cmd
}

func checkCommand(a *app) *cobra.Command {
	var repair bool
	var progressKind string
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Prove that the store is whole: hash everything, compare everything",
		Long: `Hash every blob and layer, compare every index with its layer and every record with its
files. Without --repair nothing is changed, and problems make the exit code 1. With --repair
what is wrong is dropped or made anew, and never what is right.`,
		Example: "  nacre system check\n  nacre system check --repair",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := a.storeToCheck(cmd.Context(), repair)
			if err != nil {
				return err
			}
			p, err := a.newProgress(progressKind, false)
			if err != nil {
				return err
			}
			r, err := s.Check(cmd.Context(), repair, p.sink)
			if cerr := p.close(err); err == nil {
				err = cerr
			}
			if err != nil {
				return err
			}
			volumes, err := checkVolumes(s, repair)
			if err != nil {
				return err
			}
			r.Problems = append(r.Problems, volumes...)
			return printCheck(a, r, repair)
		},
	}
	cmd.Flags().StringVar(&progressKind, "progress", "auto", "how progress is shown: auto, plain, tty, rawjson or quiet")
	cmd.Flags().BoolVar(&repair, "repair", false, "drop or rebuild what is wrong")
	return cmd
}

type pruneFlags struct {
	all, force, volumes bool
	filters             []string
}

func pruneCommand(a *app) *cobra.Command {
	var f pruneFlags
	cmd := &cobra.Command{
		Use:     "prune [OPTIONS]",
		Short:   "Remove stopped containers, dangling images and the build cache",
		Example: "  nacre system prune -f\n  nacre system prune -a --filter until=24h\n  nacre system prune -f --volumes",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			what := "all stopped containers, all dangling images and the build cache"
			if f.all {
				what = "all stopped containers, all images without a container and the build cache"
			}
			if f.volumes {
				what += ", and anonymous volumes that no container uses"
			}
			return runPrune(cmd, a, f, what, true)
		},
	}
	f.register(cmd)
	cmd.Flags().BoolVar(&f.volumes, "volumes", false, "also anonymous volumes that no container uses")
	return cmd
}

func imagePruneCommand(a *app) *cobra.Command {
	var f pruneFlags
	cmd := &cobra.Command{
		Use:     "prune [OPTIONS]",
		Short:   "Remove dangling images",
		Example: "  nacre image prune -f\n  nacre image prune -a --filter label!=keep",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			what := "all dangling images"
			if f.all {
				what = "all images that no container uses"
			}
			return runPrune(cmd, a, f, what, false)
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

func runPrune(cmd *cobra.Command, a *app, f pruneFlags, what string, cache bool) error {
	o := store.PruneOptions{Images: store.PruneDangling, Cache: cache, CacheDirs: cache}
	if f.all {
		o.Images = store.PruneAll
	}
	if err := f.apply(&o); err != nil {
		return err
	}
	if !f.force {
		if ok, err := a.confirm(cmd.Context(), "This will remove "+what+"."); err != nil || !ok {
			return err
		}
	}
	var freed int64
	if cache { // it is system prune: containers first, since they hold images and volumes
		n, err := a.pruneContainers(cmd.Context(), o)
		if err != nil {
			return err
		}
		freed += n
	}
	n, err := a.pruneVolumes(cmd.Context(), f)
	if err != nil {
		return err
	}
	return a.pruneNow(cmd.Context(), o, freed+n)
}

// pruneNow removes what o says and lists it; freed bytes are counted with it.
func (a *app) pruneNow(ctx context.Context, o store.PruneOptions, freed int64) error {
	s, err := a.store(ctx)
	if err != nil {
		return err
	}
	r, err := s.Prune(ctx, o)
	if err != nil {
		return err
	}
	r.Bytes += freed
	printPruned(a, r)
	return nil
}

func (f *pruneFlags) apply(o *store.PruneOptions) error {
	for _, filter := range f.filters {
		key, value, ok := strings.Cut(filter, "=")
		if !ok {
			return fmt.Errorf("--filter %q: want KEY=VALUE", filter)
		}
		switch key {
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
			return fmt.Errorf("--filter %s: unknown; want until, label! or label", key)
		}
	}
	return nil
}

func labelFilter(s string, not bool) store.LabelFilter {
	key, value, _ := strings.Cut(s, "=")
	return store.LabelFilter{Key: key, Value: value, Not: not}
}

// confirm asks for y or N as docker does. Without a terminal to ask on, the answer is needed as -f.
func (a *app) confirm(ctx context.Context, text string) (bool, error) {
	if !term.IsTerminal(int(a.stdin.Fd())) {
		return false, &hintError{errors.New("there is no terminal to ask on"), "say -f to go ahead without being asked"}
	}
	fmt.Fprintf(a.stdout, "%s\nAre you sure you want to continue? [y/N] ", text)
	line, err := bufio.NewReader(untilDone(ctx, func() (*os.File, error) { return a.stdin, nil })).ReadString('\n')
	if err != nil && err != io.EOF {
		return false, err
	}
	line = strings.ToLower(strings.TrimSpace(line))
	return line == "y" || line == "yes", nil
}

// printPruned lists what prune removed, in docker's words.
func printPruned(a *app, r store.PruneReport) {
	if len(r.Untagged)+len(r.Images) > 0 {
		fmt.Fprintln(a.stdout, "Deleted Images:")
	}
	for _, n := range r.Untagged {
		fmt.Fprintln(a.stdout, "untagged:", n.Familiar())
	}
	for _, d := range r.Images {
		fmt.Fprintln(a.stdout, "deleted:", d)
	}
	if r.Cache > 0 {
		fmt.Fprintf(a.stdout, "Deleted build cache: %d records\n", r.Cache)
	}
	if len(r.CacheDirs) > 0 {
		fmt.Fprintln(a.stdout, "Deleted Cache Mounts:")
	}
	for _, c := range r.CacheDirs {
		fmt.Fprintln(a.stdout, c.ID)
	}
	if len(r.Untagged)+len(r.Images)+r.Cache+len(r.CacheDirs) > 0 {
		fmt.Fprintln(a.stdout)
	}
	fmt.Fprintln(a.stdout, "Total reclaimed space:", humanSize(r.Bytes))
}

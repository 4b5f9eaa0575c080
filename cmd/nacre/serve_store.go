package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"strings"

	"nacre/internal/registry/compressed"
	"nacre/internal/registry/hosted"
	"nacre/internal/registry/store"
	"nacre/internal/serve"
	"nacre/internal/serve/config"

	"github.com/spf13/cobra"
)

// openHosted opens the store that c names, as a registry of repositories.
func (a *app) openHosted(ctx context.Context, c config.Config, log *slog.Logger) (*hosted.Registry, error) {
	if c.Dir != "" {
		a.root = c.Dir
	}
	s, err := a.store(ctx)
	if err != nil {
		return nil, err
	}
	return hosted.New(s, hostedOptions(c, s, log)), nil
}

// hostedOptions are those of the registry in the words of package hosted, which knows one
// pattern for each rule.
func hostedOptions(c config.Config, s *store.Store, log *slog.Logger) hosted.Options {
	o := hosted.Options{
		Self: selfName(c), Grace: c.GC.Grace, ReadOnly: c.ReadOnly, Sparse: c.Sparse, MaxBlob: int64(c.Limits.Body),
		Images:     compressed.New(s, compressed.Options{}),
		Background: func(err error) { log.Error("registry", "error", err.Error()) },
	}
	for _, p := range c.Immutable {
		repos, tags, _ := strings.Cut(p, ":")
		o.Immutable = append(o.Immutable, hosted.Tags{Repos: repos, Tags: tags})
	}
	for _, q := range c.Quotas {
		for _, p := range q.Repositories {
			o.Quotas = append(o.Quotas, hosted.Quota{Repos: p, Bytes: int64(q.Size)})
		}
	}
	for _, r := range c.Retention {
		for _, p := range r.Repositories {
			o.Retention = append(o.Retention, hosted.Rule{Repos: p, Last: r.KeepLast, Pulled: r.PulledWithin, Pushed: r.PushedWithin, Tags: r.KeepTags})
		}
	}
	for _, p := range c.Proxy {
		if p.Keep > 0 {
			o.Retention = append(o.Retention, hosted.Rule{Repos: storedPrefix(p.Prefix) + "/**", Pulled: p.Keep, Pushed: p.Keep})
		}
	}
	return o
}

// fixed tells whether nothing changes in the registry: copies of other registries do, though
// clients may only read.
func fixed(c config.Config) bool { return c.ReadOnly && len(c.Proxy) == 0 }

// selfName is what images of the store may be called to be part of the registry.
func selfName(c config.Config) string {
	if u, err := url.Parse(c.URL); err == nil && u.Host != "" {
		return u.Host
	}
	return c.Addr
}

// serveJobs are what the server does beside requests.
func serveJobs(c config.Config, h *hosted.Registry) []serve.Job {
	if c.GC.Interval == 0 || fixed(c) {
		return nil
	}
	return []serve.Job{{Name: "gc", Every: c.GC.Interval, Run: func(ctx context.Context) ([]any, error) {
		r, err := h.Collect(ctx, hosted.CollectOptions{})
		return []any{"tags", dropped(r.Tags), "parts", r.Parts, "bytes", r.Bytes}, err
	}}}
}

func dropped(all []hosted.Verdict) (n int) {
	for _, v := range all {
		if !v.Keep {
			n++
		}
	}
	return n
}

func serveGCCommand(a *app, f *serveFlags) *cobra.Command {
	var dry bool
	cmd := &cobra.Command{
		Use:   "gc [OPTIONS]",
		Short: "Apply retention and remove what nothing refers to, while the server runs or not",
		Long: `Remove the tags that retention does not keep, and then the content that nothing refers to and
whose time of grace is over. Servers may run meanwhile, and clients push. A server does the
same by itself, each gc.interval.`,
		Example: "  nacre serve gc --config serve.yaml --dry-run\n  nacre serve gc --dir /srv/registry",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withHosted(cmd, f, func(ctx context.Context, h *hosted.Registry) error {
				r, err := h.Collect(ctx, hosted.CollectOptions{DryRun: dry})
				if err != nil {
					return err
				}
				printVerdicts(a.stdout, r.Tags, dry)
				what := "removed"
				if dry {
					what = "would remove"
				}
				fmt.Fprintf(a.stdout, "%s: %d tags, %d parts of repositories, %s of the disk\n", what, dropped(r.Tags), r.Parts, humanSize(r.Bytes))
				return nil
			})
		},
	}
	cmd.Flags().BoolVar(&dry, "dry-run", false, "only say what would be removed")
	return cmd
}

func serveRetentionCommand(a *app, f *serveFlags) *cobra.Command {
	var dry bool
	cmd := &cobra.Command{
		Use:     "retention [OPTIONS]",
		Short:   "Remove the tags that the rules of retention do not keep",
		Example: "  nacre serve retention --config serve.yaml --dry-run",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withHosted(cmd, f, func(ctx context.Context, h *hosted.Registry) error {
				all, err := h.Retain(ctx, dry)
				printVerdicts(a.stdout, all, dry)
				return err
			})
		},
	}
	cmd.Flags().BoolVar(&dry, "dry-run", false, "only say what becomes of each tag, and why")
	return cmd
}

// withHosted runs f with the registry that the flags name.
func (a *app) withHosted(cmd *cobra.Command, f *serveFlags, do func(context.Context, *hosted.Registry) error) error {
	c, err := f.load(cmd)
	if err != nil {
		return err
	}
	log, err := serve.NewLog(c.Log, a.stderr, true)
	if err != nil {
		return err
	}
	h, err := a.openHosted(cmd.Context(), c, log)
	if err != nil {
		return err
	}
	return errors.Join(do(cmd.Context(), h), h.Close())
}

// printVerdicts lists tags and why they go; in a dry run also why others stay.
func printVerdicts(w io.Writer, all []hosted.Verdict, dry bool) {
	for _, v := range all {
		what := "removed"
		switch {
		case v.Keep && !dry:
			continue
		case v.Keep:
			what = "keep"
		case dry:
			what = "remove"
		}
		fmt.Fprintf(w, "%s %s:%s (%s)\n", what, v.Repo, v.Tag, v.Why)
	}
}

package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"nacre/internal/image"
	"nacre/internal/reference"
	"nacre/internal/registry"

	"github.com/spf13/cobra"
)

type pullFlags struct {
	all, allPlatforms, quiet bool
	platforms                []string
	progress                 string
}

func pullCommand(a *app) *cobra.Command {
	var f pullFlags
	cmd := &cobra.Command{
		Use:   "pull [OPTIONS] NAME[:TAG|@DIGEST]",
		Short: "Fetch an image from a registry",
		Long: `Fetch an image from a registry. Only what is not here is fetched, of an image for several
platforms the one for this machine. A pull that was broken off goes on where it was.`,
		Example: `  nacre pull debian:12
  nacre pull --platform linux/arm64 registry.example.com/team/web@sha256:9f86d0...
  nacre pull -a registry.example.com/team/web`,
		Args:              exactArgs(1, "pull needs the name of an image"),
		ValidArgsFunction: one(a.completeRemote),
		RunE:              func(cmd *cobra.Command, args []string) error { return runPull(cmd.Context(), a, f, args[0]) },
	}
	fl := cmd.Flags()
	fl.BoolVarP(&f.all, "all-tags", "a", false, "fetch every tag of the repository")
	listVar(fl, &f.platforms, "platform", "", "which image of an index (default: this machine's); may be repeated, or a list with commas")
	fl.BoolVar(&f.allPlatforms, "all-platforms", false, "fetch the images of an index for all platforms")
	fl.BoolVarP(&f.quiet, "quiet", "q", false, "print the name and nothing else")
	fl.StringVar(&f.progress, "progress", "auto", "how progress is shown: auto, plain, tty, rawjson or quiet")
	fl.Bool("disable-content-trust", true, "accepted for docker's sake")
	fl.MarkHidden("disable-content-trust")
	return cmd
}

func runPull(ctx context.Context, a *app, f pullFlags, name string) error {
	ref, platforms, err := f.read(name)
	if err != nil {
		return err
	}
	if f.all {
		return f.pullAll(ctx, a, ref, platforms)
	}
	if !f.quiet && !hasTag(name) {
		fmt.Fprintln(a.stdout, "Using default tag: latest")
	}
	return f.pull(ctx, a, ref, platforms)
}

// read checks the arguments. There are no platforms where all are wanted.
func (f pullFlags) read(name string) (registry.Ref, []image.Platform, error) {
	ref, ok := pullable(name)
	if !ok {
		_, err := registry.ParseRef(name)
		if err == nil {
			err = fmt.Errorf("%q is an image's ID: a registry knows names", name)
		}
		return ref, nil, err
	}
	if f.all && hasTag(name) {
		return ref, nil, errors.New("tag can't be used with --all-tags/-a") // docker's words
	}
	switch {
	case f.allPlatforms && len(f.platforms) > 0:
		return ref, nil, errors.New("--platform and --all-platforms: want one of them")
	case f.allPlatforms:
		return ref, nil, nil
	case len(f.platforms) == 0:
		return ref, []image.Platform{image.DefaultPlatform()}, nil
	}
	platforms, err := parsePlatforms(f.platforms)
	return ref, platforms, err
}

// hasTag tells whether a name says a tag or a digest.
func hasTag(name string) bool {
	n, err := reference.Parse(name)
	return err == nil && !n.NameOnly()
}

func (f pullFlags) pullAll(ctx context.Context, a *app, ref registry.Ref, platforms []image.Platform) error {
	r, err := a.remote(ctx)
	if err != nil {
		return err
	}
	n := 0
	for tag, err := range registry.Tags(ctx, r, ref.Repo, "") {
		if err == nil {
			err = f.pull(ctx, a, registry.Ref{Repo: ref.Repo, Tag: tag}, platforms)
		}
		if err != nil {
			return err
		}
		n++
	}
	if n == 0 {
		return fmt.Errorf("%s: it has no tags: %w", ref.FamiliarRepo(), registry.ErrAbsent)
	}
	return nil
}

// pull fetches one image and says so in docker's words.
func (f pullFlags) pull(ctx context.Context, a *app, ref registry.Ref, platforms []image.Platform) error {
	if len(f.platforms) > 0 {
		if err := a.checkRemotePlatforms(ctx, ref, platforms); err != nil {
			return err
		}
	}
	what := ref.Tag
	if ref.Digest != "" {
		what = ref.Digest.String()
	}
	if !f.quiet {
		_, path, _ := strings.Cut(ref.Repo, "/") // without the domain, as docker has it
		fmt.Fprintf(a.stdout, "%s: Pulling from %s\n", what, path)
	}
	pr, err := a.newTransfer("Pulling", f.progress, f.quiet)
	if err != nil {
		return err
	}
	got, err := a.fetch(ctx, ref, platforms, pr.sink)
	if cerr := pr.close(err); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	if ref.Digest != "" {
		ref.Tag = ""
	}
	if !f.quiet {
		fmt.Fprintln(a.stdout, "Digest:", got.desc.Digest)
		status := "Image is up to date for"
		if got.fresh {
			status = "Downloaded newer image for"
		}
		fmt.Fprintln(a.stdout, "Status:", status, ref.Familiar())
	}
	fmt.Fprintln(a.stdout, ref.String())
	return nil
}

// checkRemotePlatforms tells, before anything large is fetched, whether an image that is for one
// platform alone is for one of these. Of an index, Copy does.
func (a *app) checkRemotePlatforms(ctx context.Context, ref registry.Ref, platforms []image.Platform) error {
	r, err := a.remote(ctx)
	if err != nil {
		return err
	}
	d, err := r.Resolve(ctx, ref)
	if err != nil {
		return fetchError(ref, fmt.Errorf("pull %s: %w", ref.Familiar(), err))
	}
	if !image.IsManifest(d.MediaType) {
		return nil
	}
	var m image.Manifest
	if err := readJSON(ctx, r, ref.Repo, d, image.ParseManifest, &m); err != nil {
		return err
	}
	if !image.IsConfig(m.Config.MediaType) {
		return nil
	}
	var cfg image.Config
	if err := readJSON(ctx, r, ref.Repo, m.Config, image.ParseConfig, &cfg); err != nil {
		return err
	}
	return checkPlatforms(ref.Familiar(), cfg, platforms)
}

// readJSON reads a manifest, index or config whole.
func readJSON[T any](ctx context.Context, r registry.Reader, repo string, d registry.Descriptor, parse func([]byte) (T, error), to *T) error {
	data, err := registry.ReadDocument(ctx, r, repo, d)
	if err != nil {
		return err
	}
	if *to, err = parse(data); err != nil {
		return fmt.Errorf("%s: %w", d.Digest, err)
	}
	return nil
}

package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"nacre/internal/image"
	"nacre/internal/registry"
	"nacre/internal/registry/archive"
	"nacre/internal/registry/layout"

	"github.com/opencontainers/go-digest"
	"github.com/spf13/cobra"
	"golang.org/x/term"
)

type loadFlags struct {
	input, tag, progress string
	platforms            []string
	quiet                bool
}

func loadCommand(a *app) *cobra.Command {
	var f loadFlags
	cmd := &cobra.Command{
		Use:   "load [OPTIONS]",
		Short: "Read images from an archive",
		Long: `Read images from a tar archive that save wrote, docker's of any age, podman's or ours, or from an
OCI layout as a tar or a folder; a tar may be compressed with gzip, bzip2, xz or zstd. Images keep their names
and digests; those without a name are told by their ID.`,
		Example: `  nacre load -i web.tar
  podman save web:1 | nacre load
  nacre load --platform linux/arm64 -i web.tar.zst
  nacre load -i layout-folder -t web:1`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			return runLoad(cmd.Context(), a, f)
		},
	}
	fl := cmd.Flags()
	fl.StringVarP(&f.input, "input", "i", "", "file or folder to read (default: standard input)")
	listVar(fl, &f.platforms, "platform", "", "load only images for this platform; may be repeated, or a list with commas")
	fl.StringVarP(&f.tag, "tag", "t", "", "name for the one image that the archive has")
	fl.BoolVarP(&f.quiet, "quiet", "q", false, "no progress")
	fl.StringVar(&f.progress, "progress", "auto", "how progress is shown: auto, plain, tty, rawjson or quiet")
	return cmd
}

func runLoad(ctx context.Context, a *app, f loadFlags) (err error) {
	platforms, err := parsePlatforms(f.platforms)
	if err != nil {
		return err
	}
	var as registry.Ref
	if f.tag != "" {
		if as, err = newName(f.tag); err != nil {
			return fmt.Errorf("--tag: %w", err)
		}
	}
	from := f.input
	if from == "" || from == "-" {
		from = "standard input"
		if term.IsTerminal(int(a.stdin.Fd())) {
			return &hintError{errors.New("standard input is a terminal"), "name a file with -i, or redirect"}
		}
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("load %s: %w", from, err)
		}
	}()
	src, done, err := a.archived(ctx, f.input)
	if err != nil {
		return err
	}
	defer done()
	p, err := a.newTransfer("Loading", f.progress, f.quiet)
	if err != nil {
		return err
	}
	n := 0
	l := loading{a: a, src: src, platforms: platforms, o: registry.CopyOptions{
		Partial: true, Sink: p.sink, Step: func() int { n++; return n },
	}}
	err = l.all(ctx, as)
	if cerr := p.close(err); err == nil {
		err = cerr
	}
	return err
}

// archived opens an archive, or an OCI layout in a folder.
func (a *app) archived(ctx context.Context, path string) (src registry.ReadLister, done func(), err error) {
	s, err := a.store(ctx)
	if err != nil {
		return nil, nil, err
	}
	if path == "" {
		path = "-"
	}
	if fi, err := os.Stat(path); err == nil && fi.IsDir() && path != "-" {
		l, err := layout.Open(path)
		return l, func() {}, err
	}
	in, err := a.input(ctx, path)
	if err != nil {
		return nil, nil, err
	}
	scratch, remove, err := s.TempDir("load")
	if err != nil {
		in.Close()
		return nil, nil, err
	}
	arch, err := archive.Open(ctx, in, scratch)
	if err != nil {
		in.Close()
		remove()
		return nil, nil, archiveHint(err)
	}
	return arch, func() { arch.Close(); in.Close(); remove() }, nil
}

func archiveHint(err error) error {
	if errors.Is(err, archive.ErrNoImages) {
		return &hintError{err, "nacre import makes an image of the files in a tar"}
	}
	return err
}

// loading is one load.
type loading struct {
	a         *app
	src       registry.ReadLister
	platforms []image.Platform // none: all
	o         registry.CopyOptions
	loaded    int
	skipped   []error // images that are for other platforms
}

// all loads what the source has, under the name as where that is not zero.
func (l *loading) all(ctx context.Context, as registry.Ref) error {
	var all []registry.Named
	for n, err := range l.src.Refs(ctx) {
		if err != nil {
			return err
		}
		all = append(all, n)
	}
	if len(all) == 0 {
		return errors.New("it holds no image")
	}
	if !as.IsZero() {
		for _, n := range all[1:] {
			if n.Desc.Digest != all[0].Desc.Digest {
				return fmt.Errorf("--tag names one image: there are %d", len(all))
			}
		}
		all = []registry.Named{{Ref: as, Desc: all[0].Desc}}
	}
	for _, n := range all {
		if err := l.one(ctx, n); err != nil {
			return err
		}
	}
	if l.loaded == 0 {
		return errors.Join(l.skipped...)
	}
	for _, err := range l.skipped {
		l.a.warnf("%s", err)
	}
	return nil
}

// one loads an image and says so in docker's words.
func (l *loading) one(ctx context.Context, n registry.Named) error {
	as := registry.Ref{Repo: n.Ref.Repo, Tag: n.Ref.Tag}
	if as.Repo == "" || as.Tag == "" { // a layout may have only a tag: no name here
		as = registry.Ref{Digest: n.Desc.Digest}
	}
	o := l.o
	var err error
	if o.Platforms, err = l.wanted(ctx, n); errors.Is(err, image.ErrNoPlatform) {
		l.skipped = append(l.skipped, err)
		return nil
	}
	if err != nil {
		return err
	}
	before, berr := l.a.opened.Lookup(ctx, as.String())
	d, err := registry.Copy(ctx, l.a.opened, as, l.src, registry.Ref{Repo: n.Ref.Repo, Digest: n.Desc.Digest}, o)
	if err != nil {
		return err
	}
	l.loaded++
	img, err := l.a.opened.Lookup(ctx, d.Digest.String())
	if errors.Is(err, registry.ErrAbsent) { // it was loaded, and somebody has removed it since
		img.ID, err = l.id(ctx, n)
	}
	if err != nil {
		return err
	}
	if as.Tag == "" {
		fmt.Fprintln(l.a.stdout, "Loaded image ID:", img.ID)
		return nil
	}
	if berr == nil && before.ID != img.ID {
		fmt.Fprintf(l.a.stdout, "The image %s already exists, renaming the old one with ID %s to empty string\n", as.Familiar(), before.ID)
	}
	fmt.Fprintln(l.a.stdout, "Loaded image:", as.Familiar())
	return nil
}

// id is what an image would be called by, as far as the source tells: the digest of its config, or that of an index.
func (l *loading) id(ctx context.Context, n registry.Named) (digest.Digest, error) {
	if image.IsIndex(n.Desc.MediaType) {
		return n.Desc.Digest, nil
	}
	var m image.Manifest
	err := readJSON(ctx, l.src, n.Ref.Repo, n.Desc, image.ParseManifest, &m)
	return m.Config.Digest, err
}

// wanted says which images of an index are wanted, and whether another image is. Errors: image.ErrNoPlatform.
func (l *loading) wanted(ctx context.Context, n registry.Named) ([]image.Platform, error) {
	if len(l.platforms) == 0 {
		return nil, nil
	}
	name := n.Ref.Familiar()
	if n.Ref.Repo == "" {
		name = n.Desc.Digest.String()
	}
	if image.IsIndex(n.Desc.MediaType) {
		var x image.Index
		if err := readJSON(ctx, l.src, n.Ref.Repo, n.Desc, image.ParseIndex, &x); err != nil {
			return nil, err
		}
		var have []image.Platform
		var missing error
		for _, p := range l.platforms {
			if _, err := image.MatchPlatform(x, p); err != nil {
				missing = fmt.Errorf("%s: %w", name, err)
			} else {
				have = append(have, p)
			}
		}
		if len(have) == 0 {
			return nil, missing
		}
		return have, nil
	}
	var m image.Manifest
	if err := readJSON(ctx, l.src, n.Ref.Repo, n.Desc, image.ParseManifest, &m); err != nil || !image.IsConfig(m.Config.MediaType) {
		return nil, err
	}
	var cfg image.Config
	if err := readJSON(ctx, l.src, n.Ref.Repo, m.Config, image.ParseConfig, &cfg); err != nil {
		return nil, err
	}
	if err := checkPlatforms(name, cfg, l.platforms); err != nil {
		return nil, fmt.Errorf("%w: %w", image.ErrNoPlatform, err)
	}
	return nil, nil
}

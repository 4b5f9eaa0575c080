package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"nacre/internal/registry"
	"nacre/internal/registry/mirror"
	"nacre/internal/registry/remote"

	"github.com/spf13/cobra"
)

type syncFlags struct {
	dryRun, quiet bool
	progress      string
}

func syncCommand(a *app) *cobra.Command {
	var f syncFlags
	cmd := &cobra.Command{
		Use:   "sync [OPTIONS] FILE [DESTINATION]",
		Short: "Copy the images of a list to another registry",
		Long: `Copy the images that a YAML file lists, by tags, expressions or versions, to a registry or an
OCI layout (oci:DIR). What is there already is not copied again. One image that fails does not keep
the others; the exit code tells. The file has skopeo's form, see docs/registries.md.`,
		Example: `  nacre sync --dry-run images.yaml registry.example.com/mirror
  printf 'docker.io: {images-by-semver: {debian: ">=12"}}' | nacre sync - localhost:5000`,
		Args: func(cmd *cobra.Command, args []string) error {
			return errors.Join(minArgs(1, "sync needs a list of images")(cmd, args), maxArgs(2, "sync takes a list and a destination")(cmd, args))
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			to := ""
			if len(args) > 1 {
				to = args[1]
			}
			return runSync(cmd.Context(), a, f, args[0], to)
		},
	}
	fl := cmd.Flags()
	fl.BoolVar(&f.dryRun, "dry-run", false, "say what would be copied, and copy nothing")
	fl.BoolVarP(&f.quiet, "quiet", "q", false, "print nothing but errors")
	fl.StringVar(&f.progress, "progress", "auto", "how progress is shown: auto, plain, tty, rawjson or quiet")
	return cmd
}

func runSync(ctx context.Context, a *app, f syncFlags, file, to string) error {
	list, err := a.readList(ctx, file)
	if err != nil {
		return err
	}
	r, err := a.remote(ctx)
	if err != nil {
		return err
	}
	pr, err := a.newTransfer("Copying", f.progress, f.quiet || f.dryRun)
	if err != nil {
		return err
	}
	s := &syncing{syncFlags: f, a: a, r: r, to: to, o: registry.CopyOptions{Sink: pr.sink, Step: counter()}, from: map[string]registry.Ref{}}
	for _, source := range list.Sources {
		if err = s.source(ctx, source); err != nil {
			break
		}
	}
	if cerr := pr.close(err); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	return s.summary()
}

func (a *app) readList(ctx context.Context, file string) (mirror.List, error) {
	in, err := a.input(ctx, file)
	if err != nil {
		return mirror.List{}, err
	}
	defer in.Close()
	data, err := io.ReadAll(io.LimitReader(in, mirror.MaxSize+1))
	if err != nil {
		return mirror.List{}, err
	}
	list, err := mirror.Parse(file, data)
	var e *mirror.Error
	if errors.As(err, &e) && e.Hint != "" {
		err = &hintError{err, e.Hint}
	}
	return list, err
}

// counter numbers the steps of one copy after another.
func counter() func() int {
	n := 0
	return func() int { n++; return n }
}

// syncing is a sync under way.
type syncing struct {
	syncFlags
	a      *app
	r      *remote.Registry
	to     string
	o      registry.CopyOptions
	from   map[string]registry.Ref // by destination
	copied int
	same   int
	failed several
}

func (s *syncing) source(ctx context.Context, source mirror.Source) error {
	to := s.to
	if source.To != "" {
		to = source.To
	}
	if to == "" {
		return &hintError{fmt.Errorf("%s: where its images go is not said", source.Host), `name a destination after the file, or say "to:" in it`}
	}
	for ref, err := range source.Refs(ctx, s.r) {
		if err == nil {
			err = s.image(ctx, source, to, ref)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			s.failed = append(s.failed, err)
		}
	}
	return nil
}

// image copies one image, unless it is there.
func (s *syncing) image(ctx context.Context, source mirror.Source, to string, ref registry.Ref) error {
	dst, err := syncPlace(to, ref)
	if err != nil {
		return err
	}
	if other, ok := s.from[dst.String()]; ok {
		return fmt.Errorf("%s: %s goes there already", dst, other)
	}
	s.from[dst.String()] = ref
	if s.dryRun {
		fmt.Fprintf(s.a.stdout, "%s -> %s\n", ref, dst)
		s.copied++
		return nil
	}
	o := s.o
	o.Platform, o.Referrers = source.Platform, source.Referrers
	same, err := s.there(ctx, dst, ref, o)
	if err != nil || same {
		if same {
			s.same++
		}
		return err
	}
	if _, err := copyPlace(ctx, s.a, dst, place{kind: "docker", ref: ref}, o); err != nil {
		return err
	}
	s.copied++
	if !s.quiet {
		fmt.Fprintf(s.a.stdout, "%s -> %s\n", ref, dst)
	}
	return nil
}

// there tells whether the destination has the very same image, with nothing left to be copied.
func (s *syncing) there(ctx context.Context, dst place, ref registry.Ref, o registry.CopyOptions) (bool, error) {
	if dst.kind != "docker" || o.Platform != nil || o.Referrers {
		return false, nil // Copy finds out by itself, with more questions
	}
	d, err := s.r.Resolve(ctx, ref)
	if err != nil {
		return false, fmt.Errorf("%s: %w", ref, err)
	}
	have, err := s.r.Resolve(ctx, dst.ref)
	return err == nil && have.Digest == d.Digest, nil
}

// syncPlace is where an image goes below to.
func syncPlace(to string, ref registry.Ref) (place, error) {
	if dir, ok := strings.CutPrefix(to, "oci:"); ok {
		return place{kind: "oci", path: dir, ref: ref}, nil
	}
	repo, err := mirror.Destination(strings.TrimPrefix(to, "docker://"), ref.Repo)
	return place{kind: "docker", ref: registry.Ref{Repo: repo, Tag: ref.Tag, Digest: ref.Digest}}, err
}

// summary says what came of it all.
func (s *syncing) summary() error {
	if !s.quiet {
		text := fmt.Sprintf("%d copied", s.copied)
		if s.dryRun {
			text = fmt.Sprintf("%d to copy", s.copied)
		} else if s.same > 0 {
			text += fmt.Sprintf(", %d there already", s.same)
		}
		if len(s.failed) > 0 {
			text += fmt.Sprintf(", %d failed", len(s.failed))
		}
		fmt.Fprintln(s.a.stdout, text)
	}
	return s.failed.orNil()
}

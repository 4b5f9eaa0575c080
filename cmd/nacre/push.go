package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"nacre/internal/layer"
	"nacre/internal/registry"
	"nacre/internal/registry/compressed"
	"nacre/internal/registry/remote"

	"github.com/spf13/cobra"
)

type pushFlags struct {
	all, quiet, force     bool
	platforms             []string
	progress, compression string
}

func pushCommand(a *app) *cobra.Command {
	var f pushFlags
	cmd := &cobra.Command{
		Use:   "push [OPTIONS] NAME[:TAG]",
		Short: "Send an image to a registry",
		Long: `Send an image to a registry. Only what is not there is sent; layers that were built here are compressed
on the way, the same each time, and what they became is remembered. Of an image for several platforms all are
sent; what is not here has to be in the registry already. One --platform sends the image for that alone, several make
an image for these.`,
		Example: `  nacre push registry.example.com/team/web:1
  nacre push --compression zstd:9 registry.example.com/team/web:1
  nacre push -a registry.example.com/team/web`,
		Args:              exactArgs(1, "push needs the name of an image"),
		ValidArgsFunction: a.completeImage,
		RunE:              func(cmd *cobra.Command, args []string) error { return runPush(cmd.Context(), a, f, args[0]) },
	}
	fl := cmd.Flags()
	fl.BoolVarP(&f.all, "all-tags", "a", false, "send all tags of the repository")
	listVar(fl, &f.platforms, "platform", "", "of an image for several platforms only this one; may be repeated, or a list with commas")
	fl.StringVar(&f.compression, "compression", "gzip", "of layers built here: gzip, zstd, estargz or uncompressed, with :LEVEL")
	fl.BoolVar(&f.force, "force-compression", false, "compress again what came compressed in another way")
	fl.BoolVarP(&f.quiet, "quiet", "q", false, "print the name and nothing else")
	fl.StringVar(&f.progress, "progress", "auto", "how progress is shown: auto, plain, tty, rawjson or quiet")
	fl.Bool("disable-content-trust", true, "accepted for docker's sake")
	fl.MarkHidden("disable-content-trust")
	return cmd
}

// parseCompression reads KIND[:LEVEL].
func parseCompression(s string) (layer.Compression, error) {
	kind, level, ok := strings.Cut(s, ":")
	c := layer.Compression{Kind: kind}
	switch kind {
	case layer.Gzip, layer.Zstd, layer.EStargz, layer.Uncompressed:
	default:
		return c, fmt.Errorf("--compression=%s: want gzip, zstd, estargz or uncompressed", s)
	}
	if ok {
		n, err := strconv.Atoi(level)
		if err != nil || n < 0 || kind == layer.Uncompressed {
			return c, fmt.Errorf("--compression=%s: %q is not a level", s, level)
		}
		if c.Level = n; n == 0 {
			c.Level = layer.LevelStored
		}
	}
	if _, err := c.Normal(); err != nil {
		return c, fmt.Errorf("--compression=%s: %w", s, err)
	}
	return c, nil
}

func runPush(ctx context.Context, a *app, f pushFlags, name string) error {
	ref, ok := pullable(name)
	if !ok {
		_, err := registry.ParseRef(name)
		if err == nil {
			err = fmt.Errorf("%q is an image's ID", name)
		}
		return &hintError{err, "nacre tag gives an image a name to be pushed under"}
	}
	if ref.Digest != "" {
		return &hintError{errors.New("cannot push a digest reference"), "name a tag"} // docker's words
	}
	if f.all && hasTag(name) {
		return errors.New("tag can't be used with --all-tags/-a")
	}
	c, err := parseCompression(f.compression)
	if err != nil {
		return err
	}
	if _, err := a.store(ctx); err != nil {
		return err
	}
	refs := []registry.Ref{ref}
	if f.all {
		if refs, err = a.tagsHere(ctx, ref.Repo); err != nil {
			return err
		}
	} else if !f.quiet && !hasTag(name) {
		fmt.Fprintln(a.stdout, "Using default tag: latest")
	}
	if !f.quiet {
		fmt.Fprintf(a.stdout, "The push refers to repository [%s]\n", ref.Repo)
	}
	for _, ref := range refs {
		if err := f.push(ctx, a, ref, compressed.Options{Compression: c, Force: f.force}); err != nil {
			return err
		}
	}
	return nil
}

// tagsHere are the names with a tag that a repository has in the store.
func (a *app) tagsHere(ctx context.Context, repo string) ([]registry.Ref, error) {
	var refs []registry.Ref
	for n, err := range a.opened.Refs(ctx) {
		if err != nil {
			return nil, err
		}
		if n.Ref.Repo == repo && n.Ref.Tag != "" {
			refs = append(refs, n.Ref)
		}
	}
	if len(refs) == 0 {
		return nil, &hintError{&noImageToPush{registry.Ref{Repo: repo}}, "nacre images lists what there is"}
	}
	return refs, nil
}

// push sends one image and says so in docker's words.
func (f pushFlags) push(ctx context.Context, a *app, ref registry.Ref, o compressed.Options) error {
	img, err := a.holdImage(ctx, ref.String())
	if errors.Is(err, registry.ErrAbsent) {
		return &hintError{&noImageToPush{ref}, "nacre images lists what there is"}
	}
	if err != nil {
		return err
	}
	d, err := f.send(ctx, a, ref, img, o)
	if e := (*remote.Error)(nil); errors.As(err, &e) && (errors.Is(e, remote.ErrUnauthorized) || errors.Is(e, remote.ErrDenied)) {
		err = &refusedError{e}
	}
	if err != nil {
		return fmt.Errorf("push %s: %w", ref.Familiar(), err)
	}
	if f.quiet {
		fmt.Fprintln(a.stdout, ref)
		return nil
	}
	fmt.Fprintf(a.stdout, "%s: digest: %s size: %d\n", ref.Tag, d.Digest, d.Size)
	return nil
}

// refusedError is that a registry does not let us in, whichever part of an image was the first to be told so.
type refusedError struct{ said *remote.Error }

func (e *refusedError) Error() string {
	text := fmt.Sprintf("%s: %d %s", e.said.Host, e.said.Status, http.StatusText(e.said.Status))
	if e.said.Detail != "" {
		text += ": " + e.said.Detail
	}
	return fmt.Sprintf("%s (%v)", text, e.said.Unwrap())
}

func (e *refusedError) Unwrap() error { return e.said }

// noImageToPush is docker's error, in its words.
type noImageToPush struct{ ref registry.Ref }

func (e *noImageToPush) Error() string {
	return "An image does not exist locally with the tag: " + e.ref.FamiliarRepo()
}

package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"nacre/internal/edit"
	"nacre/internal/registry"

	"github.com/opencontainers/go-digest"
	"github.com/spf13/cobra"
)

type rebaseFlags struct {
	editFlags
	oldBase, newBase string
	force            bool
}

func imageRebaseCommand(a *app) *cobra.Command {
	var f rebaseFlags
	cmd := &cobra.Command{
		Use:   "rebase [OPTIONS] IMAGE",
		Short: "Move an image onto a new base without a build",
		Long: `Make an image that has the layers that another one has over its base, over a new base. Settings that it has from the
old base come from the new one. Bases that are not named are those of its annotations org.opencontainers.image.base.name
and .digest.

It is refused where the image does not begin with the layers of the old base, or is for another platform; and where it has files of
its own in place of files that differ between the two bases: its layers would hide what is new. They are listed. For that
layers are read that the store does not have; --force does without, and reads documents alone.

` + placesHelp,
		Example: `  nacre image rebase --old-base debian:12.1 --new-base debian:12.2 -t web:2 web:1
  nacre image rebase --replace docker://registry.example.com/team/web:1`,
		Args:              exactArgs(1, "rebase needs an image"),
		ValidArgsFunction: a.completeImage,
		RunE:              func(cmd *cobra.Command, args []string) error { return runRebase(cmd.Context(), a, f, args[0]) },
	}
	fl := cmd.Flags()
	f.register(fl)
	f.registerPlatform(fl)
	fl.StringVar(&f.oldBase, "old-base", "", "base that the image is on (default: as its annotations say)")
	fl.StringVar(&f.newBase, "new-base", "", "base that it is to be on (default: what has the old base's name now)")
	fl.BoolVarP(&f.force, "force", "f", false, "do not compare files")
	a.completeBases(cmd, "old-base", "new-base")
	return cmd
}

func runRebase(ctx context.Context, a *app, f rebaseFlags, name string) (err error) {
	from, err := parseImage("store", name)
	if err != nil {
		return err
	}
	created, err := f.time()
	if err != nil {
		return err
	}
	ed, err := f.begin(ctx, a, from)
	if err != nil {
		return err
	}
	defer func() { err = ed.end(err) }()
	s, err := ed.open(ctx, from)
	if err != nil {
		return err
	}
	e := edit.New(s)
	o := edit.RebaseOptions{Created: created}
	was, now, err := f.bases(ctx, ed, e)
	if err != nil {
		return err
	}
	if o.Old, err = ed.openBase(ctx, was); err != nil {
		return fmt.Errorf("old base: %w", err)
	}
	if o.New, err = ed.openBase(ctx, now); err != nil {
		return fmt.Errorf("new base: %w", err)
	}
	o.Name = baseName(now)
	if !f.force {
		if o.Layers, err = ed.layers(ctx); err != nil {
			return err
		}
	}
	return rebaseError(ed.apply(ctx, e, e.Rebase(o)))
}

// bases finds what the bases are called.
func (f rebaseFlags) bases(ctx context.Context, ed *editing, e *edit.Edit) (was, now place, err error) {
	kind := ed.from.kind
	if kind != "docker" {
		kind = "store"
	}
	if f.oldBase != "" {
		if was, err = parseImage(kind, f.oldBase); err != nil {
			return was, now, fmt.Errorf("--old-base: %w", err)
		}
	}
	if f.newBase != "" {
		if now, err = parseImage(kind, f.newBase); err != nil {
			return was, now, fmt.Errorf("--new-base: %w", err)
		}
	}
	if f.oldBase != "" && f.newBase != "" {
		return was, now, nil
	}
	o, err := f.options(ed.a)
	if err != nil {
		return was, now, err
	}
	name, d, err := e.BaseOf(ctx, o)
	if err != nil {
		return was, now, err
	}
	missing := func(flag string) error {
		return &hintError{fmt.Errorf("the image does not say what its base is"), "--" + flag + " says it; append --set-base-image-annotations writes it down"}
	}
	if name == "" && (f.newBase == "" || d == "") {
		if f.newBase == "" {
			return was, now, missing("new-base")
		}
		return was, now, missing("old-base")
	}
	ref, err := registry.ParseRef(name)
	if err != nil {
		return was, now, fmt.Errorf("annotation %s: %w", edit.BaseName, err)
	}
	if f.newBase == "" {
		now = place{kind: kind, path: name, ref: ref}
	}
	if f.oldBase == "" {
		if d == "" {
			return was, now, missing("old-base")
		}
		ref.Tag, ref.Digest = "", digest.Digest(d)
		if err := ref.Digest.Validate(); err != nil {
			return was, now, fmt.Errorf("annotation %s: %w", edit.BaseDigest, err)
		}
		was = place{kind: kind, path: ref.String(), ref: ref}
	}
	return was, now, nil
}

// openBase opens a base: one that is in neither the store nor a place of its own may be in a registry.
func (ed *editing) openBase(ctx context.Context, p place) (edit.Source, error) {
	s, err := ed.open(ctx, p)
	if p.kind != "store" || !errors.Is(err, registry.ErrAbsent) || p.ref.Repo == "" {
		return s, err
	}
	// The manifest of one platform may be here as part of an index, which is all that a digest needs.
	if p.ref.Digest != "" {
		if d, err := ed.a.opened.Resolve(ctx, registry.Ref{Digest: p.ref.Digest}); err == nil {
			return edit.Source{Reader: ed.a.opened, Desc: d}, nil
		}
	}
	if !strings.Contains(p.ref.Repo, "/") {
		return s, err
	}
	p.kind = "docker"
	return ed.open(ctx, p)
}

// maxListed is how many conflicts are shown.
const maxListed = 20

// rebaseError lists what is in the way.
func rebaseError(err error) error {
	var c *edit.ConflictError
	if !errors.As(err, &c) {
		return err
	}
	var b strings.Builder
	for i, x := range c.Conflicts {
		if i == maxListed {
			fmt.Fprintf(&b, "\n  and %d more", len(c.Conflicts)-i)
			break
		}
		fmt.Fprintf(&b, "\n  /%s: %s by the image, %s in the new base", x.Name, x.Image, x.Base)
	}
	return &hintError{fmt.Errorf("%w%s", err, b.String()), "a build on the new base makes these files anew; --force keeps those of the image"}
}

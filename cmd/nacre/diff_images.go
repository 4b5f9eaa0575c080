package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"nacre/internal/compare"
	"nacre/internal/container"
	"nacre/internal/edit"
	"nacre/internal/glob"
	"nacre/internal/image"
	"nacre/internal/imagefs"
	"nacre/internal/registry"
	"nacre/internal/rootfs"

	"github.com/opencontainers/go-digest"
	"github.com/spf13/pflag"
)

type diffFlags struct {
	format, platform, progress      string
	paths, content                  []string
	nameOnly, stat, exitCode, times bool
}

func (f *diffFlags) register(fl *pflag.FlagSet) {
	fl.StringVar(&f.format, "format", "", `"json": an object a line; or a Go template for each file, such as '{{.Kind}} {{.Path}}'`)
	listVar(fl, &f.paths, "path", "", "only this file or folder, or what matches a pattern with * and **; may be repeated")
	listVar(fl, &f.content, "content", "", "show what differs in the text of this file, and nothing else; may be repeated")
	fl.BoolVar(&f.nameOnly, "name-only", false, "only the names of files")
	fl.BoolVar(&f.stat, "stat", false, "only the names of files, their sizes, and the sum")
	fl.BoolVar(&f.exitCode, "exit-code", false, "end with 1 where anything differs")
	fl.BoolVar(&f.times, "times", false, "compare times of files, too")
	fl.StringVar(&f.platform, "platform", "", "which image of an index (default: this machine's)")
	fl.StringVar(&f.progress, "progress", "auto", "how progress is shown: auto, plain, tty, rawjson or quiet")
}

// side is one of the two that are compared.
type side struct {
	name      string
	config    image.Config
	layers    []digest.Digest
	image     imagefs.Image
	container *container.Container // nil: an image
}

func runDiff(ctx context.Context, a *app, f diffFlags, first, second string) (err error) {
	out, err := f.printer(a)
	if err != nil {
		return err
	}
	ed, err := editFlags{progress: f.progress, verb: "Reading"}.begin(ctx, a, place{})
	if err != nil {
		return err
	}
	defer func() { err = ed.end(err) }()
	var sides [2]side
	for i, name := range []string{first, second} {
		if sides[i], err = ed.side(ctx, f, name); err != nil {
			return err
		}
	}
	d := differing{ctx: ctx, ed: ed, f: f, a: sides[0], b: sides[1], out: out}
	if len(f.content) > 0 {
		err = d.contents()
	} else {
		err = d.all()
	}
	if err == nil && f.exitCode && d.differs {
		err = &exitError{code: 1}
	}
	return err
}

// side finds what a name means.
func (ed *editing) side(ctx context.Context, f diffFlags, name string) (side, error) {
	if c, ok := strings.CutPrefix(name, "container:"); ok {
		return ed.containerSide(ctx, name, c)
	}
	p, err := parseImage("store", name)
	if err != nil {
		return side{}, err
	}
	s, err := ed.open(ctx, p)
	if p.kind == "store" && p.path == name && errors.Is(err, registry.ErrAbsent) {
		if out, cerr := ed.containerSide(ctx, name, name); !errors.Is(cerr, container.ErrNotFound) {
			return out, cerr
		}
		return side{}, &hintError{fmt.Errorf("no such image or container: %s", name), "nacre images and nacre ps -a list what there is; docker://" + name + " is in a registry"}
	}
	if err != nil {
		return side{}, err
	}
	var want *image.Platform
	if f.platform != "" {
		pl, err := parsePlatform(f.platform)
		if err != nil {
			return side{}, err
		}
		want = &pl
	}
	img, _, err := edit.New(s).Image(ctx, want)
	if err != nil {
		return side{}, fmt.Errorf("%s: %w", name, err)
	}
	return side{name: name, config: img.Config, layers: img.Config.RootFS.DiffIDs, image: img}, nil
}

func (ed *editing) containerSide(ctx context.Context, shown, name string) (side, error) {
	c, err := ed.a.container(ctx, name)
	if err != nil {
		return side{}, err
	}
	cfg, err := ed.a.settingsOf(ctx, c)
	return side{name: shown, config: cfg, layers: c.Config.Layers, container: c}, err
}

// differing is one diff of two under way.
type differing struct {
	ctx     context.Context
	ed      *editing
	f       diffFlags
	a, b    side
	out     diffPrinter
	differs bool
}

// all compares settings, history and files.
func (d *differing) all() error {
	fields := compare.Configs(d.a.config, d.b.config)
	was, is := compare.Histories(d.a.config.History, d.b.config.History)
	d.differs = len(fields)+len(was)+len(is) > 0
	if err := d.out.config(fields, was, is); err != nil {
		return err
	}
	sum := diffSum{Settings: len(fields)}
	if !d.sameFiles() {
		if err := d.files(&sum); err != nil {
			return err
		}
	}
	d.differs = d.differs || sum.Added+sum.Removed+sum.Changed > 0
	return d.out.end(sum)
}

// sameFiles tells whether both have the very same layers, so that none needs to be read.
func (d *differing) sameFiles() bool {
	return d.a.container == nil && d.b.container == nil && slices.Equal(d.a.layers, d.b.layers)
}

func (d *differing) files(sum *diffSum) error {
	a, b, err := d.roots()
	if err != nil {
		return err
	}
	shared := 0
	for shared < min(len(d.a.layers), len(d.b.layers)) && d.a.layers[shared] == d.b.layers[shared] {
		shared++
	}
	o := compare.RootOptions{SkipTimes: !d.f.times, Shared: shared, Want: wanted(d.f.paths)}
	for c, err := range compare.Roots(d.ctx, a, b, o) {
		if err == nil {
			sum.add(c)
			err = d.out.file(c)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// roots opens the files of both.
func (d *differing) roots() (a, b *rootfs.FS, err error) {
	layers, err := d.ed.layers(d.ctx)
	if err != nil {
		return nil, nil, err
	}
	open := func(s side) (*rootfs.FS, error) {
		if s.container == nil {
			root, err := layers.Root(d.ctx, s.image)
			if err != nil {
				err = fmt.Errorf("%s: %w", s.name, err)
			}
			return root, err
		}
		root, done, err := s.container.Snapshot(d.ctx, func(text string) { d.ed.a.warnf("%s", text) })
		if err == nil {
			d.ed.ends = append(d.ed.ends, func() error { done(); return nil })
		}
		return root, err
	}
	if a, err = open(d.a); err == nil {
		b, err = open(d.b)
	}
	return a, b, err
}

// diffSum is what it all comes to.
type diffSum struct {
	Settings, Added, Removed, Changed int
	Bytes                             int64 // that B has more than A in files that differ
}

func (s *diffSum) add(c compare.Change) {
	switch {
	case c.A == nil:
		s.Added++
	case c.B == nil:
		s.Removed++
	default:
		s.Changed++
	}
	if c.A != nil {
		s.Bytes -= c.A.Size
	}
	if c.B != nil {
		s.Bytes += c.B.Size
	}
}

// wanted is what --path asks for: names with all that is below them.
func wanted(paths []string) func(string) compare.Part {
	if len(paths) == 0 {
		return nil
	}
	var patterns []string
	for _, p := range paths {
		patterns = append(patterns, strings.Trim(p, "/"))
	}
	return func(name string) compare.Part {
		if name == "." {
			name = ""
		}
		part := compare.Nothing
		for _, p := range patterns {
			if p == "" || covers(p, name) {
				return compare.All
			}
			literal := p
			if i := strings.IndexAny(p, "*?"); i >= 0 {
				literal = p[:i]
			} else {
				literal += "/"
			}
			if n := name + "/"; name == "" || strings.HasPrefix(literal, n) || literal != p+"/" && strings.HasPrefix(n, literal) {
				part = compare.Inside
			}
		}
		return part
	}
}

// covers tells whether a pattern matches a name or a folder that it is in.
func covers(pattern, name string) bool {
	for at := 0; ; {
		i := strings.IndexByte(name[at:], '/')
		if i < 0 {
			return glob.Match(pattern, name)
		}
		if glob.Match(pattern, name[:at+i]) {
			return true
		}
		at += i + 1
	}
}

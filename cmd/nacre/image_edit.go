package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"nacre/internal/edit"
	"nacre/internal/image"
	"nacre/internal/imagefs"
	"nacre/internal/layer"
	"nacre/internal/registry"

	"github.com/opencontainers/go-digest"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// editFlags are those of all commands that make images of images.
type editFlags struct {
	tags, annotations, unset []string
	replace, quiet           bool
	platform, progress       string
	created                  string
	verb                     string // that heads the display of progress
}

// placesHelp is what these commands say of where images are.
const placesHelp = `An image is the name of one in the store, or a place as for copy: docker://NAME in a registry, oci:DIR[:TAG],
oci-archive:FILE[:NAME], docker-archive:FILE[:NAME]. In a registry it is edited without its layers being fetched. The result
gets the names of -t; without any it is kept where the image is, by its digest alone, which is printed.`

func (f *editFlags) register(fl *pflag.FlagSet) {
	listVar(fl, &f.tags, "tag", "t", "name or place of the result; may be repeated")
	fl.BoolVar(&f.replace, "replace", false, "give the result the name of the image")
	listVar(fl, &f.annotations, "annotation", "a", "[TYPE:]KEY=VALUE to annotate the result with; may be repeated")
	listVar(fl, &f.unset, "unset-annotation", "", "KEY of an annotation to take away; may be repeated")
	fl.StringVar(&f.created, "created", "", "time of the result, as 2026-01-02T15:04:05Z or seconds since 1970 (default: SOURCE_DATE_EPOCH, or as it was)")
	fl.BoolVarP(&f.quiet, "quiet", "q", false, "show no progress")
	fl.StringVar(&f.progress, "progress", "auto", "how progress is shown: auto, plain, tty, rawjson or quiet")
}

// registerPlatform is the flag of those that may edit one image of an index.
func (f *editFlags) registerPlatform(fl *pflag.FlagSet) {
	fl.StringVar(&f.platform, "platform", "", "of an index only the image for this platform, alone (default: all of them)")
}

// time is when the result was made: nil where nothing says so, as no clock is looked at.
func (f *editFlags) time() (*time.Time, error) {
	v, what := f.created, "--created"
	if v == "" {
		v, what = os.Getenv("SOURCE_DATE_EPOCH"), "SOURCE_DATE_EPOCH"
	}
	if v == "" {
		return nil, nil
	}
	if n, err := strconv.ParseInt(v, 10, 64); err == nil && n >= 0 && n < 1<<37 {
		t := time.Unix(n, 0).UTC()
		return &t, nil
	}
	t, err := time.Parse(time.RFC3339, v)
	if err != nil || what == "SOURCE_DATE_EPOCH" {
		return nil, fmt.Errorf("%s=%s: want 2026-01-02T15:04:05Z or seconds since 1970", what, v)
	}
	t = t.UTC()
	return &t, nil
}

func (f *editFlags) options(a *app) (o edit.Options, err error) {
	if f.platform != "" {
		p, err := parsePlatform(f.platform)
		if err != nil {
			return o, err
		}
		o.Platform = &p
	}
	o.RemoveAnnotations = f.unset
	o.Note = func(s string) { a.warnf("%s", s) }
	o.Annotations, err = parseAnnotations(f.annotations)
	return o, err
}

// parseImage is parsePlace where a plain name is that of an image in another kind of place than a registry.
func parseImage(kind, s string) (place, error) {
	for _, prefix := range []string{"oci:", "oci-archive:", "docker-archive:", "store:", "nacre:"} {
		if strings.HasPrefix(s, prefix) {
			return parsePlace(s)
		}
	}
	if strings.Contains(s, "://") {
		return parsePlace(s)
	}
	p, err := parseName(kind, s, s)
	if err != nil && kind == "store" { // it may be an ID
		p, err = place{kind: kind, path: s}, nil
	}
	return p, err
}

// editing is one such command under way.
type editing struct {
	a    *app
	f    editFlags
	from place // zero: none
	dir  string
	ends []func() error
	pr   progress
}

// begin checks the flags, and makes a folder for what is written on the way.
func (f editFlags) begin(ctx context.Context, a *app, from place) (*editing, error) {
	ed := &editing{a: a, f: f, from: from}
	if f.replace && len(f.tags) > 0 {
		return nil, errors.New("--replace and --tag: want one of them")
	}
	var err error
	if from.kind == "store" {
		if _, err := a.store(ctx); err != nil {
			return nil, err
		}
	}
	if ed.pr, err = a.newTransfer(cmp.Or(f.verb, "Editing"), f.progress, f.quiet); err != nil {
		return nil, err
	}
	if ed.dir, err = ed.scratch(); err != nil {
		return nil, errors.Join(err, ed.pr.close(err))
	}
	return ed, nil
}

// scratch is a folder of the store's, where there is one that is open, else where temporary files are kept.
func (ed *editing) scratch() (string, error) {
	if ed.a.opened != nil {
		dir, remove, err := ed.a.opened.TempDir("edit")
		if err == nil {
			ed.ends = append(ed.ends, func() error { remove(); return nil })
		}
		return dir, err
	}
	dir, err := os.MkdirTemp("", "nacre-")
	ed.ends = append(ed.ends, func() error { return os.RemoveAll(dir) })
	return dir, err
}

// folder makes a new one in the folder of the command.
func (ed *editing) folder(name string) (string, error) {
	return os.MkdirTemp(ed.dir, name+"-")
}

func (ed *editing) end(err error) error {
	if cerr := ed.pr.close(err); err == nil {
		err = cerr
	}
	for _, f := range slices.Backward(ed.ends) {
		err = errors.Join(err, f())
	}
	return err
}

// open opens an image to be read.
func (ed *editing) open(ctx context.Context, p place) (edit.Source, error) {
	r, ref, done, err := p.source(ctx, ed.a)
	if err != nil {
		return edit.Source{}, err
	}
	ed.ends = append(ed.ends, done)
	d, err := r.Resolve(ctx, ref)
	if err != nil && p.kind == "docker" {
		err = fetchError(ref, err)
	} else if errors.Is(err, registry.ErrInvalid) && ref.IsZero() {
		err = &hintError{err, "name one of its images: " + p.String() + ":NAME"}
	}
	return edit.Source{Reader: r, Repo: ref.Repo, Desc: d}, err
}

// layers reads files of images: what the store has is read there.
func (ed *editing) layers(ctx context.Context) (*imagefs.Layers, error) {
	dir, err := ed.folder("layers")
	if err != nil {
		return nil, err
	}
	ls := imagefs.New(dir, imagefs.Options{Have: ed.a.haveLayer(ctx), Sink: ed.pr.sink})
	ed.ends = append(ed.ends, ls.Close)
	return ls, nil
}

// haveLayer opens layers that are in the store; nil where there is no store.
func (a *app) haveLayer(ctx context.Context) func(context.Context, digest.Digest) (*layer.Layer, error) {
	if _, err := os.Stat(filepath.Join(a.rootFolder(), "nacre.db")); err != nil && a.opened == nil {
		return nil
	}
	s, err := a.store(ctx)
	if err != nil {
		return nil
	}
	lease, err := s.Lease(ctx)
	if err != nil {
		return nil
	}
	return func(ctx context.Context, d digest.Digest) (*layer.Layer, error) {
		if err := lease.Layer(ctx, d); err != nil {
			return nil, err
		}
		return s.Layer(ctx, d)
	}
}

// apply makes the change, and copies what comes of it to where the flags say.
func (ed *editing) apply(ctx context.Context, e *edit.Edit, change edit.Change) error {
	o, err := ed.f.options(ed.a)
	if err != nil {
		return err
	}
	if ed.from == (place{}) {
		o.Platform = nil // it is that of the image already
	}
	tos, err := ed.destinations(ctx)
	if err != nil {
		return err
	}
	d, err := e.Apply(ctx, o, change)
	if err != nil {
		return editError(err)
	}
	for _, to := range tos {
		as := to.ref
		if as.Tag == "" {
			as = registry.Ref{Repo: as.Repo, Digest: d.Digest}
		}
		err := to.destination(ctx, ed.a, func(w registry.Writer) error {
			_, err := registry.Copy(ctx, w, as, e, registry.Ref{Repo: as.Repo, Digest: d.Digest}, registry.CopyOptions{Sink: ed.pr.sink, MountFrom: ed.mountFrom(ctx, e, w, as.Repo)})
			return err
		})
		if err != nil {
			return err
		}
	}
	if slices.ContainsFunc(tos, func(to place) bool { return to.path == "-" && strings.HasSuffix(to.kind, "-archive") }) {
		return nil // standard output is the archive
	}
	_, err = fmt.Fprintln(ed.a.stdout, d.Digest)
	return err
}

// mountFrom names repositories of a registry that have a blob: the image's own, and those the store knows of.
func (ed *editing) mountFrom(ctx context.Context, e *edit.Edit, w registry.Writer, repo string) func(registry.Descriptor) []string {
	own := e.MountFrom(w)
	if ed.a.opened == nil {
		return own
	}
	known := ed.a.mountable(ctx, repo)
	return func(d registry.Descriptor) []string {
		if repos := own(d); len(repos) > 0 {
			return repos
		}
		return known(d)
	}
}

// destinations are where the result goes.
func (ed *editing) destinations(ctx context.Context) ([]place, error) {
	kind := ed.from.kind
	if kind != "docker" {
		kind = "store"
	}
	if len(ed.f.tags) == 0 {
		to, err := ed.same(ctx)
		return []place{to}, err
	}
	var out []place
	for _, t := range ed.f.tags {
		to, err := parseImage(kind, t)
		if err == nil && (to.kind == "store" || to.kind == "docker") {
			_, err = newName(to.path)
		}
		if err != nil {
			return nil, fmt.Errorf("--tag: %w", err)
		}
		out = append(out, to)
	}
	return out, nil
}

// same is where the image is: under its name with --replace, else under none.
func (ed *editing) same(ctx context.Context) (place, error) {
	to := ed.from
	switch {
	case to == (place{}) && ed.f.replace:
		return to, errors.New("--replace: there is no image to be replaced")
	case to == (place{}):
		return place{kind: "store"}, nil
	case strings.HasSuffix(to.kind, "-archive") && !ed.f.replace:
		return to, &hintError{errors.New("the result needs a place"), "-t names one; --replace writes the archive anew, with the result alone"}
	case !ed.f.replace && to.kind == "store":
		to.ref = registry.Ref{}
	case !ed.f.replace:
		to.ref.Tag, to.ref.Digest = "", ""
	case to.kind == "store":
		img, err := ed.a.image(ctx, to.path)
		if err != nil {
			return to, err
		}
		if !slices.Contains(img.Names, to.ref) {
			return to, &hintError{fmt.Errorf("--replace: %q is no name with a tag", to.path), "-t says what the result is to be called"}
		}
	case to.ref.Digest != "":
		return to, &hintError{fmt.Errorf("--replace: %s has a digest, which cannot become another", to), "-t says what the result is to be called"}
	}
	return to, nil
}

// editError adds what to do.
func editError(err error) error {
	switch {
	case errors.Is(err, image.ErrNoPlatform):
		return &hintError{err, "--platform names one that there is; without it all are edited"}
	}
	return err
}

// completeBases completes flags that name an image.
func (a *app) completeBases(cmd *cobra.Command, flags ...string) {
	for _, name := range flags {
		_ = cmd.RegisterFlagCompletionFunc(name, a.completeImages) // fails for a flag that there is not
	}
}

// imageEdits are the commands of image that make images of images.
func imageEdits(a *app) []*cobra.Command {
	return []*cobra.Command{imageAppendCommand(a), imageMutateCommand(a), imageRebaseCommand(a), imageFlattenCommand(a)}
}

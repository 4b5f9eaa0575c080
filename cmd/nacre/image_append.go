package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"strings"
	"time"

	"nacre/internal/edit"
	"nacre/internal/image"
	"nacre/internal/layer"
	"nacre/internal/rootfs"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

type appendFlags struct {
	editFlags
	base, to, chown      string
	layers               []string
	compression, comment string
	setBase              bool
}

func imageAppendCommand(a *app) *cobra.Command {
	var f appendFlags
	cmd := &cobra.Command{
		Use:   "append [OPTIONS] -b IMAGE FOLDER|TAR...",
		Short: "Put layers on an image, of folders and tars",
		Long: `Make an image of another one, or of none, with a layer more for each folder or tar. The files of a folder belong to root in
the layer, times later than SOURCE_DATE_EPOCH become it, and the same files give the same bytes. A tar becomes a layer
as it is, and one that is compressed with gzip or zstd stays so to the byte; - is standard input.

` + placesHelp,
		Example: `  nacre image append -b debian:12 --to /srv/www -t web:1 public
  nacre image append -b docker://registry.example.com/base:1 -t registry.example.com/app:1 app.tar.gz
  nacre image append --platform linux/arm64 -t tool:arm64 rootfs.tar`,
		RunE: func(cmd *cobra.Command, args []string) error {
			return runAppend(cmd.Context(), a, f, append(f.layers, args...))
		},
	}
	fl := cmd.Flags()
	f.register(fl)
	fl.StringVarP(&f.base, "base", "b", "", "image to put the layers on (default: none)")
	listVar(fl, &f.layers, "layer", "f", "folder or tar, as the arguments; may be repeated")
	fl.StringVar(&f.to, "to", "", "folder of the image that the files come to be in (default /)")
	fl.StringVar(&f.chown, "chown", "", "USER[:GROUP] of all files, numbers or names that the image knows")
	fl.StringVar(&f.platform, "platform", "", "of an index only the image for this platform, alone; without a base the platform of the image")
	fl.StringVar(&f.compression, "compression", "", "of the new layers: gzip, zstd, estargz or uncompressed, with :LEVEL (default: as the layer below)")
	fl.StringVarP(&f.comment, "message", "m", "", "comment for the image's history")
	fl.BoolVar(&f.setBase, "set-base-image-annotations", false, "annotate the result with the name and digest of its base, for rebase")
	fl.SetNormalizeFunc(func(_ *pflag.FlagSet, name string) pflag.NormalizedName {
		if name == "new_layer" || name == "new-layer" { // crane's
			name = "layer"
		}
		return pflag.NormalizedName(name)
	})
	a.completeBases(cmd, "base")
	return cmd
}

func runAppend(ctx context.Context, a *app, f appendFlags, layers []string) (err error) {
	if len(layers) == 0 {
		return &hintError{errors.New("append needs a folder or a tar"), "see nacre image append --help"}
	}
	var from place
	if f.base != "" && f.base != "scratch" {
		if from, err = parseImage("store", f.base); err != nil {
			return fmt.Errorf("--base: %w", err)
		}
	}
	put, o, err := f.parse()
	if err != nil {
		return err
	}
	ed, err := f.begin(ctx, a, from)
	if err != nil {
		return err
	}
	defer func() { err = ed.end(err) }()
	e, base, err := f.start(ctx, ed)
	if err != nil {
		return err
	}
	if f.chown != "" {
		if put.Owner, err = ed.owner(ctx, e, f.chown); err != nil {
			return fmt.Errorf("--chown %s: %w", f.chown, err)
		}
	}
	var made []*edit.Layer
	for _, name := range layers {
		l, err := ed.layer(ctx, name, put)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		made = append(made, l)
	}
	if err := ed.warnHidden(ctx, e, made); err != nil {
		return err
	}
	change := e.Append(made, o)
	if f.setBase {
		change = edit.OnBase(base, change)
	}
	return ed.apply(ctx, e, change)
}

// start begins the edit, and says what its base is called.
func (f appendFlags) start(ctx context.Context, ed *editing) (*edit.Edit, string, error) {
	if ed.from == (place{}) {
		if f.setBase {
			return nil, "", errors.New("--set-base-image-annotations needs a --base")
		}
		p := image.DefaultPlatform()
		if f.platform != "" {
			var err error
			if p, err = parsePlatform(f.platform); err != nil {
				return nil, "", err
			}
		}
		e, err := edit.Scratch(p)
		return e, "", err
	}
	s, err := ed.open(ctx, ed.from)
	return edit.New(s), baseName(ed.from), err
}

// baseName is what annotations call a base, where it has a name that others know too.
func baseName(p place) string {
	if p.ref.Repo == "" || p.ref.Tag == "" {
		return ""
	}
	return p.ref.Repo + ":" + p.ref.Tag
}

// parse reads the flags on layers.
func (f appendFlags) parse() (put edit.Placing, o edit.AppendOptions, err error) {
	var created *time.Time
	if created, err = f.time(); err != nil {
		return put, o, err
	}
	o = edit.AppendOptions{Created: created, CreatedBy: "nacre image append", Comment: f.comment}
	if os.Getenv("SOURCE_DATE_EPOCH") != "" {
		at, err := creation()
		if err != nil {
			return put, o, err
		}
		put.NotAfter = &at
	}
	if f.to != "" {
		to := path.Clean("/" + f.to)
		o.CreatedBy += " --to " + to
		if put.To = strings.TrimPrefix(to, "/"); strings.ContainsRune(put.To, 0) {
			return put, o, fmt.Errorf("--to %q: it has a NUL in it", f.to)
		}
	}
	if f.compression != "" {
		var c layer.Compression
		c, err = parseCompression(f.compression)
		o.Compression = &c
	}
	return put, o, err
}

// owner resolves USER[:GROUP]. Only for names is the image that layers are put on looked into: it may be far.
func (ed *editing) owner(ctx context.Context, e *edit.Edit, spec string) (*edit.Owner, error) {
	root := rootfs.NewFS()
	if strings.Trim(spec, "0123456789:") != "" {
		if ed.from == (place{}) {
			return nil, errors.New("names are those of a --base; without one want UID[:GID], in numbers")
		}
		var p *image.Platform
		if ed.f.platform != "" {
			parsed, err := parsePlatform(ed.f.platform)
			if err != nil {
				return nil, err
			}
			p = &parsed
		}
		img, _, err := e.Image(ctx, p)
		if err != nil {
			return nil, err
		}
		layers, err := ed.layers(ctx)
		if err != nil {
			return nil, err
		}
		if root, err = layers.Root(ctx, img); err != nil {
			return nil, err
		}
	}
	uid, gid, err := rootfs.LookupOwner(root, spec)
	return &edit.Owner{UID: uid, GID: gid}, err
}

// layer makes a layer of a folder or tar.
func (ed *editing) layer(ctx context.Context, name string, put edit.Placing) (*edit.Layer, error) {
	dir, err := ed.folder("new")
	if err != nil {
		return nil, err
	}
	if info, err := os.Stat(name); name != "-" && err == nil && info.IsDir() {
		return edit.FromFolder(ctx, dir, name, put)
	}
	in, err := ed.a.input(ctx, name)
	if err != nil {
		return nil, bare(err)
	}
	defer in.Close()
	return edit.FromTar(ctx, dir, in, put)
}

// warnHidden tells of symlinks of the base that folders of new layers come to be in place of, as with a tar of /bin on an image where that is
// usr/bin. A base that is not in the store is not fetched for it.
func (ed *editing) warnHidden(ctx context.Context, e *edit.Edit, made []*edit.Layer) error {
	if ed.from.kind != "store" {
		return nil
	}
	img, _, err := e.Image(ctx, nil)
	if err != nil {
		return err
	}
	layers, err := ed.layers(ctx)
	if err != nil {
		return err
	}
	root, err := layers.Root(ctx, img)
	if err != nil {
		return err
	}
	for _, l := range made {
		list, err := l.Hidden(root)
		if err != nil {
			return err
		}
		for _, h := range list {
			ed.a.warnf("%s of the new layer hides the symlink to %s that the image has there", shownName(h.Name), h.Link)
		}
	}
	return nil
}

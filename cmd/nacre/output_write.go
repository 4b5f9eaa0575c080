package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"

	"nacre/internal/build"
	"nacre/internal/event"
	"nacre/internal/export"
	"nacre/internal/image"
	"nacre/internal/layer"
	"nacre/internal/registry"
	"nacre/internal/registry/archive"
	"nacre/internal/registry/compressed"
	"nacre/internal/registry/layout"

	"golang.org/x/term"
)

// addOutputs is what the builder does for those that are not just the image in the store.
func addOutputs(a *app, o *build.Options, list []*target) error {
	for _, out := range list {
		if out.plain() && !out.push || out.kind == "cacheonly" {
			continue
		}
		if out.dest == "-" && term.IsTerminal(int(a.stdout.file.Fd())) {
			return &hintError{errors.New("an archive is not for a terminal"), "name a file with dest=, or redirect"}
		}
		names := slices.Clone(o.Names)
		for _, n := range out.names {
			if !slices.Contains(names, n) {
				names = append(names, n)
			}
		}
		what := strings.TrimSpace(fmt.Sprintf("exporting to %s %s", out.kind, out.dest))
		if out.push {
			what = "pushing"
			for _, n := range names {
				what += " " + n.Familiar()
			}
		}
		o.Outputs = append(o.Outputs, build.Output{
			Name:   what,
			Remote: out.remote(),
			Write:  func(ctx context.Context, r build.Result) error { return out.write(ctx, a, names, r) },
		})
	}
	return nil
}

// remote tells whether the output needs no layer here: an image that goes to registries alone, with its layers
// as they are.
func (o *target) remote() bool {
	c := o.export.Compressed
	return o.kind == "image" && !o.stored() && !o.rewrite && !c.Force && c.Types != compressed.Docker && c.Compression.Kind != layer.EStargz && c.Compression.Kind != layer.Uncompressed
}

func (o *target) write(ctx context.Context, a *app, names []registry.Ref, r build.Result) error {
	if !o.isImage() {
		return o.writeFiles(ctx, a, r)
	}
	l, err := a.opened.Lease(ctx)
	if err != nil {
		return err
	}
	defer l.Release()
	e := o.export
	if e.Base = r.Base; o.rewrite {
		if e.Epoch = o.epoch; e.Epoch == nil {
			e.Epoch = r.Epoch
		}
		if e.Epoch == nil {
			r.Sink(event.Warning{Text: "rewrite-timestamp: there is no SOURCE_DATE_EPOCH: times stay as they are", Hint: "--build-arg SOURCE_DATE_EPOCH=SECONDS"})
		}
	}
	e.Compressed.Sink, e.Compressed.Step = r.Sink, r.Step
	stored := r.Manifest
	if !o.plain() {
		img, err := export.Make(ctx, a.opened, l, r.Reader, r.Manifest, e)
		if err != nil {
			return err
		}
		if err := o.writeImage(ctx, a, names, img); err != nil {
			return err
		}
		o.out, stored = &img, img.Desc
	}
	if !o.push {
		return nil
	}
	if !o.stored() {
		stored = registry.Descriptor{}
	}
	return o.sendImage(ctx, a, l, names, r, e, stored)
}

// writeImage copies the image to where it is to be.
func (o *target) writeImage(ctx context.Context, a *app, names []registry.Ref, img export.Image) error {
	switch {
	case o.stored():
		return copyBuilt(ctx, a.opened, o.allNames(names, img), img)
	case o.kind == "image":
		return nil // store=false: it is nowhere
	case o.dir:
		l, err := layout.Create(o.dest)
		if err != nil {
			return err
		}
		return copyBuilt(ctx, l, names, img)
	}
	write := func(w io.Writer) error {
		kind := archive.OCI
		if o.kind == "docker" {
			kind = archive.Docker
		}
		dst := archive.Create(w, kind)
		if err := copyBuilt(ctx, dst, names, img); err != nil {
			return err
		}
		return dst.Close()
	}
	return o.toFile(a, write)
}

// allNames are the names of an image in the store.
func (o *target) allNames(names []registry.Ref, img export.Image) []registry.Ref {
	all := slices.Clone(names)
	if o.canonical {
		for _, n := range names {
			byDigest := registry.Ref{Repo: n.Repo, Digest: img.Desc.Digest}
			if !slices.Contains(all, byDigest) {
				all = append(all, byDigest)
			}
		}
	}
	if len(all) == 0 && o.dangling != "" {
		all = append(all, registry.Ref{Repo: o.dangling, Digest: img.Desc.Digest})
	}
	return all
}

func (o *target) toFile(a *app, write func(io.Writer) error) error {
	if o.dest == "-" {
		return write(a.stdout)
	}
	return replaceFile(o.dest, write)
}

// writeFiles writes what is in the image.
func (o *target) writeFiles(ctx context.Context, a *app, r build.Result) error {
	folder := ""
	if o.split {
		folder = strings.ReplaceAll(image.FormatPlatform(r.Platform), "/", "_")
	}
	if o.kind == "local" {
		return build.WriteDir(ctx, r.Root, filepath.Join(o.dest, folder))
	}
	return o.toFile(a, func(w io.Writer) error { return build.WriteTar(ctx, a.opened, r.Root, folder, w) })
}

// copyBuilt copies the image under each of its names, or under none.
func copyBuilt(ctx context.Context, dst registry.Writer, names []registry.Ref, img export.Image) error {
	from := registry.Ref{Digest: img.Desc.Digest}
	if len(names) == 0 {
		names = []registry.Ref{from}
	}
	for _, name := range names {
		if _, err := registry.Copy(ctx, dst, name, img, from, registry.CopyOptions{}); err != nil {
			return err
		}
	}
	return nil
}

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"nacre/internal/registry"
	"nacre/internal/registry/archive"
	"nacre/internal/registry/layout"

	"github.com/opencontainers/go-digest"
)

// place is what copy is given: a kind of thing that holds images, which one, and the image in it.
type place struct {
	kind string // "docker", "oci", "oci-archive", "docker-archive", "store"
	path string // of a directory or file
	ref  registry.Ref
}

// parsePlace reads docker://NAME, oci:DIR[:TAG|@DIGEST], oci-archive:FILE[:NAME],
// docker-archive:FILE[:NAME] and store:NAME, which are skopeo's words but for the last; anything else is a name.
func parsePlace(s string) (place, error) {
	if name, ok := strings.CutPrefix(s, "docker://"); ok {
		return parseName("docker", s, name)
	}
	for _, kind := range []string{"oci", "oci-archive", "docker-archive"} {
		rest, ok := strings.CutPrefix(s, kind+":")
		if !ok {
			continue
		}
		p := place{kind: kind}
		err := p.parsePath(rest)
		if err != nil {
			err = fmt.Errorf("%s: %w", s, err)
		}
		return p, err
	}
	for _, kind := range []string{"store:", "nacre:"} {
		if name, ok := strings.CutPrefix(s, kind); ok {
			return parseName("store", s, name)
		}
	}
	if kind, _, ok := strings.Cut(s, "://"); ok {
		return place{}, fmt.Errorf("%s: %s is not known; want docker://, oci:, oci-archive:, docker-archive: or store: in front", s, kind)
	}
	return parseName("docker", s, s)
}

func parseName(kind, s, name string) (place, error) {
	ref, err := registry.ParseRef(name)
	if err != nil {
		err = fmt.Errorf("%s: %w", s, err)
	}
	return place{kind: kind, path: name, ref: ref}, err
}

// parsePath reads PATH[:NAME][@DIGEST]. A lone word is a tag.
func (p *place) parsePath(s string) error {
	if path, d, ok := strings.Cut(s, "@sha256:"); ok {
		s = path
		p.ref.Digest = digest.Digest("sha256:" + d)
		if err := p.ref.Digest.Validate(); err != nil {
			return err
		}
	}
	path, name, _ := strings.Cut(s, ":")
	if p.path = path; path == "" {
		return errors.New("a path is missing")
	}
	if name == "" {
		return nil
	}
	ref, err := registry.ParseRef(name)
	if err != nil {
		if ref, err = registry.ParseRef("x:" + name); err != nil {
			return err
		}
		name = ref.Tag
	}
	if !strings.ContainsAny(name, "/:") && p.kind == "oci" {
		p.ref.Tag = name
		return nil
	}
	ref.Digest = p.ref.Digest
	p.ref = ref
	return nil
}

func (p place) String() string {
	switch {
	case p.kind == "docker":
		return p.ref.String()
	case p.kind == "store":
		return "store:" + p.path
	case p.ref.IsZero():
		return p.kind + ":" + p.path
	case p.ref.Digest != "" && p.ref.Tag == "":
		return p.kind + ":" + p.path + "@" + p.ref.Digest.String()
	case p.ref.Repo == "":
		return p.kind + ":" + p.path + ":" + p.ref.Tag
	}
	return p.kind + ":" + p.path + ":" + p.ref.Familiar()
}

// source opens p to be read: what is in it, and what the image is called there.
func (p place) source(ctx context.Context, a *app) (r registry.Reader, ref registry.Ref, done func() error, err error) {
	none := func() error { return nil }
	switch p.kind {
	case "docker":
		r, err = a.remote(ctx)
		return r, p.ref, none, err
	case "oci":
		r, err = layout.Open(p.path)
		return r, p.ref, none, err
	case "store":
		img, err := a.holdImage(ctx, p.path)
		return a.opened, registry.Ref{Digest: img.Target.Digest}, none, err
	}
	in, err := a.input(ctx, p.path)
	if err != nil {
		return nil, p.ref, none, err
	}
	scratch, err := os.MkdirTemp("", "nacre-")
	if err != nil {
		in.Close()
		return nil, p.ref, none, err
	}
	end := func() error { return errors.Join(in.Close(), os.RemoveAll(scratch)) }
	arch, err := archive.Open(ctx, in, scratch)
	if err != nil {
		return nil, p.ref, none, errors.Join(fmt.Errorf("%s: %w", p.path, err), end())
	}
	return arch, p.ref, func() error { return errors.Join(arch.Close(), end()) }, nil
}

// destination opens p to be written to and calls write. What is a file is there whole or not at all.
func (p place) destination(ctx context.Context, a *app, write func(registry.Writer) error) error {
	var w registry.Writer
	var err error
	switch p.kind {
	case "docker":
		w, err = a.remote(ctx)
	case "oci":
		w, err = layout.Create(p.path)
	case "store":
		w, err = a.store(ctx)
	default:
		kind := archive.OCI
		if p.kind == "docker-archive" {
			kind = archive.Docker
		}
		into := func(out io.Writer) error {
			dst := archive.Create(out, kind)
			if err := write(dst); err != nil {
				return err
			}
			return dst.Close()
		}
		if p.path == "-" {
			return into(a.stdout)
		}
		return replaceFile(p.path, into)
	}
	if err != nil {
		return err
	}
	return write(w)
}

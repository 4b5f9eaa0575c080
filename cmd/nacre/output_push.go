package main

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"

	"nacre/internal/build"
	"nacre/internal/export"
	"nacre/internal/registry"
	"nacre/internal/registry/remote"
	"nacre/internal/registry/store"
)

// pushAll has every image that goes into the store pushed too, as --push asks for; without outputs that is one.
func pushAll(list []*target) ([]*target, error) {
	if len(list) == 0 {
		return []*target{{kind: "image", keep: true, push: true}}, nil
	}
	for _, o := range list {
		if o.kind != "image" {
			return nil, o.errorf("--push is for images: type=image or type=registry")
		}
		o.push = true
	}
	return list, nil
}

// checkPush looks whether there are names to push to.
func checkPush(o *build.Options, list []*target) error {
	for _, out := range list {
		if out.push && len(o.Names)+len(out.names) == 0 {
			return &hintError{errors.New("a tag is needed when pushing to a registry"), "-t NAME, or name=NAME of the output"}
		}
	}
	return nil
}

// sendImage pushes what the build made under all of its names. stored is the manifest that the store
// has it as, or empty.
func (o *target) sendImage(ctx context.Context, a *app, l *store.Lease, names []registry.Ref, r build.Result, e export.Options, stored registry.Descriptor) error {
	if o.byDigest {
		var repos []registry.Ref
		for _, n := range names {
			if ref := (registry.Ref{Repo: n.Repo}); !slices.Contains(repos, ref) {
				repos = append(repos, ref)
			}
		}
		names = repos
	}
	for _, n := range names {
		img, err := o.sendTo(ctx, a, l, n, r, e)
		if err != nil {
			return err
		}
		o.out = &img
		if stored.Digest != "" {
			if err := a.opened.Pushed(ctx, n.Repo, stored.Digest, img.Desc.Digest); err != nil {
				return err
			}
		}
	}
	return nil
}

func (o *target) sendTo(ctx context.Context, a *app, l *store.Lease, name registry.Ref, r build.Result, e export.Options) (export.Image, error) {
	send := func(dst registry.Writer) (export.Image, error) {
		return export.Push(ctx, a.opened, l, r.Reader, r.Manifest, e, dst, []registry.Ref{name}, registry.CopyOptions{Sink: r.Sink, Step: r.Step, MountFrom: r.MountFrom})
	}
	if !o.insecure {
		dst, err := a.remote(ctx)
		if err != nil {
			return export.Image{}, err
		}
		return send(dst)
	}
	// Any certificate will do, and where there is none at all plain HTTP.
	dst, err := a.insecureRemote(name, remote.HostConfig{Insecure: true})
	if err != nil {
		return export.Image{}, err
	}
	img, err := send(dst)
	if errors.Is(err, remote.ErrPlainHTTP) {
		if dst, err = a.insecureRemote(name, remote.HostConfig{HTTP: true}); err == nil {
			img, err = send(dst)
		}
	}
	return img, err
}

// insecureRemote is a client that trusts the registry of a name more than the others.
func (a *app) insecureRemote(name registry.Ref, c remote.HostConfig) (*remote.Registry, error) {
	opts, err := a.remoteOptions()
	if err != nil {
		return nil, err
	}
	domain, _, _ := strings.Cut(name.Repo, "/")
	opts.Hosts = maps.Clone(opts.Hosts)
	if opts.Hosts == nil {
		opts.Hosts = remote.Hosts{}
	}
	if opts.Hosts[domain].HTTP {
		return remote.New(opts)
	}
	c.MaxRequests, c.Rate, c.Chunk, c.Headers = opts.Hosts[domain].MaxRequests, opts.Hosts[domain].Rate, opts.Hosts[domain].Chunk, opts.Hosts[domain].Headers
	opts.Hosts[domain] = c
	return remote.New(opts)
}

package manifest

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"nacre/internal/registry"
	"nacre/internal/registry/store"

	"github.com/opencontainers/go-digest"
)

// Find lists what name stands for: an image of the store or else of a registry; of an index all that it lists.
// What is here stays until the store is closed. Errors: registry.ErrAbsent, those of the registry.
func (l *Lists) Find(ctx context.Context, name string) ([]Entry, error) {
	ref, err := registry.ParseRef(name)
	img, lerr := l.Store.Lookup(ctx, name)
	if lerr == nil {
		lerr = l.hold(ctx, img)
	}
	if lerr == nil {
		at := registry.Ref{Digest: img.Target.Digest}
		as := registry.Ref{Repo: ref.Repo, Tag: ref.Tag}
		if d, rerr := l.Store.Resolve(ctx, as); err != nil || ref.Digest != "" || rerr != nil || d.Digest != img.Target.Digest {
			if as = (registry.Ref{}); len(img.Names) > 0 { // by ID
				as = registry.Ref{Repo: img.Names[0].Repo, Tag: img.Names[0].Tag}
			}
		}
		return entries(ctx, l.Store, at, as)
	}
	if !errors.Is(lerr, registry.ErrAbsent) {
		return nil, lerr
	}
	if err != nil {
		return nil, err
	}
	if strings.HasPrefix(name, "sha256:") {
		return nil, lerr
	}
	remote, err := l.Remote(ctx)
	if err != nil {
		return nil, err
	}
	if ref.Digest != "" {
		ref.Tag = ""
	}
	return entries(ctx, remote, ref, ref)
}

// hold keeps an image from being removed before a list has it. Errors: registry.ErrAbsent.
func (l *Lists) hold(ctx context.Context, img store.Image) error {
	lease, err := l.Store.Lease(ctx)
	if errors.Is(err, registry.ErrReadOnly) {
		return nil // nobody can remove anything
	}
	if err != nil {
		return err
	}
	return lease.Image(ctx, img)
}

// entries lists the image at, or the images of the index at, found as as.
func entries(ctx context.Context, r registry.Reader, at, as registry.Ref) ([]Entry, error) {
	parts, err := registry.Combine(ctx, r, []registry.Ref{at})
	if err != nil {
		return nil, err
	}
	var all []Entry
	for _, p := range parts {
		e := Entry{Desc: p.Desc, Ref: as}
		if as.Repo != "" && (len(parts) > 1 || as.Tag == "") {
			e.Ref = registry.Ref{Repo: as.Repo, Digest: p.Desc.Digest}
		}
		all = append(all, e)
	}
	return all, nil
}

// Entry finds what name means of a list: a digest, or the beginning of one, or what an entry was found as, or is now.
// Errors: ErrUnlisted.
func (l *Lists) Entry(ctx context.Context, x List, name string) (digest.Digest, error) {
	ref, err := registry.ParseRef(name)
	for _, m := range x.Index.Manifests {
		if err == nil && ref.Digest == m.Digest || name == m.Digest.String() {
			return m.Digest, nil
		}
		for _, r := range x.refs[m.Digest] {
			if err == nil && ref.Digest == "" && r == ref {
				return m.Digest, nil
			}
		}
	}
	found, ferr := l.Find(ctx, name)
	if ferr == nil && len(found) == 1 && x.index(found[0].Desc.Digest) >= 0 {
		return found[0].Desc.Digest, nil
	}
	return "", fmt.Errorf("manifest for image %s does not exist in %s: %w", name, x.Name.Familiar(), ErrUnlisted)
}

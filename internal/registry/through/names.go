package through

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"strings"

	"nacre/internal/registry"

	"github.com/opencontainers/go-digest"
)

// Tags implements registry.TagLister: those of the other registry, or those that are here
// where it cannot be asked.
func (r *Registry) Tags(ctx context.Context, repo, after string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		up, local, remote, err := r.route(repo)
		if err != nil {
			yield("", err)
			return
		}
		list := r.Local.Tags(ctx, local, after)
		if up != nil {
			if l, ok := up.Source.(registry.TagLister); ok {
				var tags []string
				if tags, err = collect(l.Tags(ctx, remote, after)); err == nil {
					list = values(tags)
				} else {
					r.o.Warn(repo, fmt.Errorf("the tags are those that are here: %w", err))
				}
			}
		}
		for t, err := range list {
			if !yield(t, err) {
				return
			}
		}
	}
}

// Referrers implements registry.ReferrerLister, likewise.
func (r *Registry) Referrers(ctx context.Context, repo string, d digest.Digest) iter.Seq2[registry.Descriptor, error] {
	return func(yield func(registry.Descriptor, error) bool) {
		up, local, remote, err := r.route(repo)
		if err != nil {
			yield(registry.Descriptor{}, err)
			return
		}
		list := r.Local.Referrers(ctx, local, d)
		if up != nil {
			if l, ok := up.Source.(registry.ReferrerLister); ok {
				var all []registry.Descriptor
				if all, err = collect(l.Referrers(ctx, remote, d)); err == nil {
					list = values(all)
				}
			}
		}
		for one, err := range list {
			if !yield(one, err) {
				return
			}
		}
	}
}

func collect[T any](seq iter.Seq2[T, error]) (all []T, err error) {
	for v, err := range seq {
		if err != nil {
			return nil, err
		}
		all = append(all, v)
	}
	return all, nil
}

func values[T any](all []T) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		for _, v := range all {
			if !yield(v, nil) {
				return
			}
		}
	}
}

// Repos implements registry.RepoLister: what is here, by the names it has for clients.
func (r *Registry) Repos(ctx context.Context, after string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		all, err := collect(r.Local.Repos(ctx, ""))
		if err != nil {
			yield("", err)
			return
		}
		for i, repo := range all {
			all[i] = r.shown(repo)
		}
		slices.Sort(all)
		for _, repo := range all {
			if repo > after && !yield(repo, nil) {
				return
			}
		}
	}
}

func (r *Registry) shown(local string) string {
	for _, u := range r.upstreams {
		if rest, ok := strings.CutPrefix(local, u.Local+"/"); ok {
			return u.Prefix + "/" + rest
		}
	}
	return local
}

// Refs implements registry.Lister.
func (r *Registry) Refs(ctx context.Context) iter.Seq2[registry.Named, error] {
	return func(yield func(registry.Named, error) bool) {
		for n, err := range r.Local.Refs(ctx) {
			n.Ref.Repo = r.shown(n.Ref.Repo)
			if !yield(n, err) {
				return
			}
		}
	}
}

// own is the name of a repository that may be written to: not what is another registry's.
func (r *Registry) own(repo string) (string, error) {
	up, local, _, err := r.route(repo)
	if up != nil {
		err = fmt.Errorf("%s is a copy of another registry's: %w", repo, registry.ErrReadOnly)
	}
	return local, err
}

// Has implements registry.Writer.
func (r *Registry) Has(ctx context.Context, repo string, d registry.Descriptor) (bool, error) {
	_, local, _, err := r.route(repo)
	if err != nil {
		return false, err
	}
	return r.Local.Has(ctx, local, d)
}

// Create implements registry.Writer.
func (r *Registry) Create(ctx context.Context, repo string, d registry.Descriptor) (registry.Upload, error) {
	local, err := r.own(repo)
	if err != nil {
		return nil, err
	}
	return r.Local.Create(ctx, local, d)
}

// Tag implements registry.Writer.
func (r *Registry) Tag(ctx context.Context, ref registry.Ref, d registry.Descriptor) error {
	local, err := r.own(ref.Repo)
	if err != nil {
		return err
	}
	ref.Repo = local
	return r.Local.Tag(ctx, ref, d)
}

// Adopt implements registry.Adopter.
func (r *Registry) Adopt(ctx context.Context, repo string, d registry.Descriptor, path string) error {
	local, err := r.own(repo)
	if err != nil {
		return err
	}
	return r.Local.Adopt(ctx, local, d, path)
}

// Mount implements registry.Mounter. What is here of another registry can be mounted.
func (r *Registry) Mount(ctx context.Context, repo, from string, d registry.Descriptor) error {
	local, err := r.own(repo)
	if err != nil {
		return err
	}
	_, source, _, err := r.route(from)
	if err != nil {
		return err
	}
	return r.Local.Mount(ctx, local, source, d)
}

// Untag implements registry.Deleter. Of another registry's, what is here is forgotten.
func (r *Registry) Untag(ctx context.Context, ref registry.Ref) error {
	_, local, _, err := r.route(ref.Repo)
	if err != nil {
		return err
	}
	ref.Repo = local
	return r.Local.Untag(ctx, ref)
}

// Delete implements registry.Deleter, likewise.
func (r *Registry) Delete(ctx context.Context, repo string, d digest.Digest) error {
	_, local, _, err := r.route(repo)
	if err != nil {
		return err
	}
	return r.Local.Delete(ctx, local, d)
}

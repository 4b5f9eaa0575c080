package hosted

import (
	"cmp"
	"context"
	"iter"
	"slices"

	"nacre/internal/registry"

	"github.com/opencontainers/go-digest"
)

// Refs implements registry.Lister: every tag.
func (r *Registry) Refs(ctx context.Context) iter.Seq2[registry.Named, error] {
	return func(yield func(registry.Named, error) bool) {
		for repo, err := range r.Repos(ctx, "") {
			if err != nil {
				yield(registry.Named{}, err)
				return
			}
			for tag, err := range r.Tags(ctx, repo, "") {
				if err != nil {
					yield(registry.Named{}, err)
					return
				}
				d, err := r.tag(ctx, repo, tag)
				if err != nil {
					continue // removed meanwhile
				}
				if !yield(registry.Named{Ref: registry.Ref{Repo: repo, Tag: tag}, Desc: d}, nil) {
					return
				}
			}
		}
	}
}

// Tags implements registry.TagLister.
func (r *Registry) Tags(ctx context.Context, repo, after string) iter.Seq2[string, error] {
	in, err := r.names.repo(repo)
	if err != nil {
		return func(yield func(string, error) bool) { yield("", absent(err)) }
	}
	return func(yield func(string, error) bool) {
		tags, ok, v := r.list(ctx, repo)
		if ok {
			i, found := slices.BinarySearch(tags, after)
			if found {
				i++
			}
			for _, tag := range tags[i:] {
				if !yield(tag, nil) {
					return
				}
			}
			return
		}
		for tag, err := range r.s.RepoTags(ctx, in, after) {
			if !yield(tag, err) || err != nil {
				return
			}
			if len(tags) <= maxList {
				tags = append(tags, tag)
			}
		}
		if after == "" && len(tags) <= maxList {
			r.seen.keepList(v, repo, tags)
		}
	}
}

// Repos implements registry.RepoLister.
func (r *Registry) Repos(ctx context.Context, after string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		repos, err := r.s.Repos(ctx)
		if err != nil {
			yield("", err)
			return
		}
		for i, repo := range repos {
			repos[i] = r.names.name(repo)
		}
		slices.Sort(repos)
		for _, repo := range slices.Compact(repos) {
			if repo > after && !yield(repo, nil) {
				return
			}
		}
	}
}

// Referrers implements registry.ReferrerLister.
func (r *Registry) Referrers(ctx context.Context, repo string, d digest.Digest) iter.Seq2[registry.Descriptor, error] {
	return func(yield func(registry.Descriptor, error) bool) {
		in, err := r.names.repo(repo)
		list, lerr := []registry.Descriptor(nil), absent(err)
		if err == nil {
			list, lerr = r.s.RepoReferrers(ctx, in, d)
		}
		if lerr != nil {
			yield(registry.Descriptor{}, lerr)
			return
		}
		for _, v := range list {
			if !yield(v, nil) {
				return
			}
		}
	}
}

// Untag implements registry.Deleter. What it named can be had by its digest for the time of grace.
func (r *Registry) Untag(ctx context.Context, ref registry.Ref) error {
	if err := r.writable(); err != nil {
		return err
	}
	in, err := r.names.repo(ref.Repo)
	if err != nil {
		return absent(err)
	}
	if _, err := r.tag(ctx, ref.Repo, ref.Tag); err != nil {
		return err
	}
	if r.immutable(ref.Repo, ref.Tag) {
		return fixed(ref)
	}
	return r.s.DropTag(ctx, in, ref.Tag, "", r.untilUntagged())
}

// Delete implements registry.Deleter: of a manifest with its tags in the repository, of
// a blob where no manifest of the repository refers to it. Other repositories keep them.
// Errors besides those of the contract: registry.ErrDenied, for a blob that is needed or an immutable tag.
func (r *Registry) Delete(ctx context.Context, repo string, d digest.Digest) error {
	if err := r.writable(); err != nil {
		return err
	}
	in, err := r.names.repo(repo)
	err = cmp.Or(err, registry.CheckDescriptor(registry.Descriptor{Digest: d}))
	if err != nil {
		return absent(err)
	}
	return r.s.DropPart(ctx, in, d, r.until(), func(tag string) bool { return r.immutable(repo, tag) })
}

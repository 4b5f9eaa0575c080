package remote

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"

	"nacre/internal/registry"
)

// Host is one registry, its repositories named without domain: "library/nginx". It has all abilities of
// Registry, and lists its repositories, where the registry lets it.
type Host struct {
	r      *Registry
	domain string
}

var _ interface {
	registry.Registry
	registry.Stater
	registry.Ranger
	registry.TagLister
	registry.RepoLister
	registry.ReferrerLister
	registry.Mounter
	registry.Drafter
} = (*Host)(nil)

// Host is the registry of a domain, "docker.io" or "localhost:5000".
func (r *Registry) Host(domain string) *Host { return &Host{r, domain} }

func (h *Host) repo(name string) string { return h.domain + "/" + name }

func (h *Host) ref(ref registry.Ref) registry.Ref {
	ref.Repo = h.repo(ref.Repo)
	return ref
}

// Ping tells whether there is a registry, and whether we may talk with it. Errors:
// ErrUnauthorized, ErrPlainHTTP, ErrCertificate.
func (h *Host) Ping(ctx context.Context) error {
	s, err := h.r.site(h.domain)
	if err != nil {
		return err
	}
	resp, err := s.origin.do(ctx, &request{method: "GET", path: ""}, 200)
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

// Resolve implements registry.Reader.
func (h *Host) Resolve(ctx context.Context, ref registry.Ref) (registry.Descriptor, error) {
	return h.r.Resolve(ctx, h.ref(ref))
}

// Open implements registry.Reader.
func (h *Host) Open(ctx context.Context, repo string, d registry.Descriptor) (io.ReadCloser, error) {
	return h.r.Open(ctx, h.repo(repo), d)
}

// OpenAt implements registry.Ranger.
func (h *Host) OpenAt(ctx context.Context, repo string, d registry.Descriptor, offset int64) (io.ReadCloser, error) {
	return h.r.OpenAt(ctx, h.repo(repo), d, offset)
}

// Stat implements registry.Stater.
func (h *Host) Stat(ctx context.Context, repo string, d digest.Digest) (registry.Descriptor, error) {
	return h.r.Stat(ctx, h.repo(repo), d)
}

// Has implements registry.Writer.
func (h *Host) Has(ctx context.Context, repo string, d registry.Descriptor) (bool, error) {
	return h.r.Has(ctx, h.repo(repo), d)
}

// Create implements registry.Writer.
func (h *Host) Create(ctx context.Context, repo string, d registry.Descriptor) (registry.Upload, error) {
	return h.r.Create(ctx, h.repo(repo), d)
}

// Draft implements registry.Drafter.
func (h *Host) Draft(ctx context.Context, repo string) (registry.Draft, error) {
	return h.r.Draft(ctx, h.repo(repo))
}

// Mount implements registry.Mounter.
func (h *Host) Mount(ctx context.Context, repo, from string, d registry.Descriptor) error {
	return h.r.Mount(ctx, h.repo(repo), h.repo(from), d)
}

// Tag implements registry.Writer.
func (h *Host) Tag(ctx context.Context, ref registry.Ref, d registry.Descriptor) error {
	return h.r.Tag(ctx, h.ref(ref), d)
}

// Untag implements registry.Deleter.
func (h *Host) Untag(ctx context.Context, ref registry.Ref) error { return h.r.Untag(ctx, h.ref(ref)) }

// Delete implements registry.Deleter.
func (h *Host) Delete(ctx context.Context, repo string, d digest.Digest) error {
	return h.r.Delete(ctx, h.repo(repo), d)
}

// Tags implements registry.TagLister.
func (h *Host) Tags(ctx context.Context, repo, after string) iter.Seq2[string, error] {
	return h.r.Tags(ctx, h.repo(repo), after)
}

// Referrers implements registry.ReferrerLister.
func (h *Host) Referrers(ctx context.Context, repo string, d digest.Digest) iter.Seq2[registry.Descriptor, error] {
	return h.r.Referrers(ctx, h.repo(repo), d)
}

// Repos implements registry.RepoLister. Errors: ErrUnsupported, ErrDenied, ErrUnauthorized: many registries do
// not show what they have.
func (h *Host) Repos(ctx context.Context, after string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		names, err := h.repos(ctx, after)
		yieldAll(names, wrap("repositories of "+h.domain, err), yield)
	}
}

func (h *Host) repos(ctx context.Context, after string) ([]string, error) {
	s, err := h.r.site(h.domain)
	if err != nil {
		return nil, err
	}
	names, err := s.origin.names(ctx, "_catalog", "registry:catalog:*", after)
	if errors.Is(err, registry.ErrAbsent) {
		err = fmt.Errorf("%w: it has no catalog: %w", registry.ErrUnsupported, err)
	}
	return names, err
}

// Refs implements registry.Lister, by the catalog and the tags of each repository.
func (h *Host) Refs(ctx context.Context) iter.Seq2[registry.Named, error] {
	return func(yield func(registry.Named, error) bool) {
		repos, err := h.repos(ctx, "")
		if err != nil {
			yield(registry.Named{}, fmt.Errorf("repositories of %s: %w", h.domain, err))
			return
		}
		// In order of name, "a/b" comes before "a:1", and "a-b" too.
		slices.SortFunc(repos, func(a, b string) int { return strings.Compare(a+":", b+":") })
		for _, repo := range repos {
			for tag, err := range h.Tags(ctx, repo, "") {
				if errors.Is(err, registry.ErrAbsent) {
					break // it has no tags, or is gone by now
				}
				n := registry.Named{Ref: registry.Ref{Repo: repo, Tag: tag}}
				if err == nil {
					n.Desc, err = h.Resolve(ctx, n.Ref)
				}
				if errors.Is(err, registry.ErrAbsent) {
					continue
				}
				if !yield(n, err) || err != nil {
					return
				}
			}
		}
	}
}

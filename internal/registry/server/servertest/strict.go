// Package servertest proves that a registry shown by package server is one as the OCI
// distribution spec has it, endpoint by endpoint and error by error.
package servertest

import (
	"context"
	"fmt"
	"io"
	"iter"
	"maps"
	"slices"
	"sync"

	"github.com/opencontainers/go-digest"

	"nacre/internal/registry"
	"nacre/internal/registry/mem"
	"nacre/internal/registry/registrytest"
)

// Strict is a registry in memory whose repositories do not see each other's content, with
// every ability the server makes use of but taking files.
type Strict struct {
	// Sparse lets manifests be tagged that refer to what is not there.
	Sparse bool

	mu    sync.Mutex
	repos map[string]*mem.Registry
	// manifests are those of each repository, to look for subjects in.
	manifests map[string]map[digest.Digest]registry.Descriptor
}

var _ interface {
	registry.Registry
	registry.Stater
	registry.TagLister
	registry.RepoLister
	registry.ReferrerLister
	registry.Mounter
} = (*Strict)(nil)

// NewStrict returns an empty registry.
func NewStrict() *Strict {
	return &Strict{repos: map[string]*mem.Registry{}, manifests: map[string]map[digest.Digest]registry.Descriptor{}}
}

// repo returns a repository; one that was never written to is empty.
func (s *Strict) repo(name string, write bool) *mem.Registry {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, ok := s.repos[name]
	if !ok {
		r = mem.New()
		r.Sparse = s.Sparse
		if write {
			s.repos[name] = r
			s.manifests[name] = map[digest.Digest]registry.Descriptor{}
		}
	}
	return r
}

// Resolve implements registry.Reader.
func (s *Strict) Resolve(ctx context.Context, ref registry.Ref) (registry.Descriptor, error) {
	return s.repo(ref.Repo, false).Resolve(ctx, ref)
}

// Open implements registry.Reader.
func (s *Strict) Open(ctx context.Context, repo string, d registry.Descriptor) (io.ReadCloser, error) {
	return s.repo(repo, false).Open(ctx, repo, d)
}

// Stat implements registry.Stater.
func (s *Strict) Stat(ctx context.Context, repo string, d digest.Digest) (registry.Descriptor, error) {
	data, err := registrytest.Get(ctx, s.repo(repo, false), repo, registry.Descriptor{Digest: d})
	return registry.Descriptor{Digest: d, Size: int64(len(data))}, err
}

// Has implements registry.Writer.
func (s *Strict) Has(ctx context.Context, repo string, d registry.Descriptor) (bool, error) {
	return s.repo(repo, false).Has(ctx, repo, d)
}

// Create implements registry.Writer.
func (s *Strict) Create(ctx context.Context, repo string, d registry.Descriptor) (registry.Upload, error) {
	return s.repo(repo, true).Create(ctx, repo, d)
}

// Tag implements registry.Writer.
func (s *Strict) Tag(ctx context.Context, ref registry.Ref, d registry.Descriptor) error {
	r := s.repo(ref.Repo, true)
	if err := r.Tag(ctx, ref, d); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.manifests[ref.Repo][d.Digest] = d
	return nil
}

// Refs implements registry.Lister.
func (s *Strict) Refs(ctx context.Context) iter.Seq2[registry.Named, error] {
	return func(yield func(registry.Named, error) bool) {
		for repo := range s.Repos(ctx, "") {
			for n, err := range s.repo(repo, false).Refs(ctx) {
				if !yield(n, err) {
					return
				}
			}
		}
	}
}

// Tags implements registry.TagLister.
func (s *Strict) Tags(ctx context.Context, repo, after string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		s.mu.Lock()
		_, ok := s.repos[repo]
		s.mu.Unlock()
		if !ok {
			yield("", fmt.Errorf("repository %s: %w", repo, registry.ErrAbsent))
			return
		}
		for n := range s.repo(repo, false).Refs(ctx) {
			if n.Ref.Tag > after && !yield(n.Ref.Tag, nil) {
				return
			}
		}
	}
}

// Repos implements registry.RepoLister.
func (s *Strict) Repos(_ context.Context, after string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		s.mu.Lock()
		names := slices.Sorted(maps.Keys(s.repos))
		s.mu.Unlock()
		for _, name := range names {
			if name > after && !yield(name, nil) {
				return
			}
		}
	}
}

// Referrers implements registry.ReferrerLister.
func (s *Strict) Referrers(ctx context.Context, repo string, d digest.Digest) iter.Seq2[registry.Descriptor, error] {
	return func(yield func(registry.Descriptor, error) bool) {
		s.mu.Lock()
		all := maps.Clone(s.manifests[repo])
		s.mu.Unlock()
		for _, m := range all {
			data, err := registrytest.Get(ctx, s, repo, m)
			if err != nil {
				yield(registry.Descriptor{}, err)
				return
			}
			if subject, as := registry.Subject(m, data); subject == d && !yield(as, nil) {
				return
			}
		}
	}
}

// Mount implements registry.Mounter.
func (s *Strict) Mount(ctx context.Context, repo, from string, d registry.Descriptor) error {
	data, err := registrytest.Get(ctx, s, from, d)
	if err != nil {
		return err
	}
	return registrytest.Push(ctx, s, repo, registrytest.Blob{Descriptor: d, Data: data})
}

// Untag implements registry.Deleter.
func (s *Strict) Untag(ctx context.Context, ref registry.Ref) error {
	return s.repo(ref.Repo, false).Untag(ctx, ref)
}

// Delete implements registry.Deleter.
func (s *Strict) Delete(ctx context.Context, repo string, d digest.Digest) error {
	s.mu.Lock()
	delete(s.manifests[repo], d)
	s.mu.Unlock()
	return s.repo(repo, false).Delete(ctx, repo, d)
}

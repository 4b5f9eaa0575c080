package manifest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"sync"

	"nacre/internal/image"
	"nacre/internal/registry"

	"github.com/opencontainers/go-digest"
)

// Reader reads images of the store, and what lists refer to that is not there from where it was found. Its
// methods may be called concurrently.
type Reader struct {
	lists *Lists

	mu   sync.Mutex
	from map[digest.Digest][]string // repositories, of what was read of registries so far and refers to it
}

// Reader returns a reader of lists.
func (l *Lists) Reader() *Reader { return &Reader{lists: l, from: map[digest.Digest][]string{}} }

// Resolve implements registry.Reader.
func (r *Reader) Resolve(ctx context.Context, ref registry.Ref) (registry.Descriptor, error) {
	return r.lists.Store.Resolve(ctx, ref)
}

// Open implements registry.Reader.
func (r *Reader) Open(ctx context.Context, repo string, d registry.Descriptor) (io.ReadCloser, error) {
	rc, err := r.lists.Store.Open(ctx, repo, d)
	if !errors.Is(err, registry.ErrAbsent) {
		return rc, err
	}
	repos, oerr := r.repos(ctx, d.Digest)
	if oerr != nil {
		return nil, oerr
	}
	if len(repos) == 0 {
		return nil, err
	}
	remote, oerr := r.lists.Remote(ctx)
	if oerr != nil {
		return nil, oerr
	}
	for _, repo := range repos {
		if rc, err = r.open(ctx, remote, repo, d); err == nil {
			return rc, nil
		}
	}
	return nil, err
}

// open reads d from a registry, and notes what it refers to as being there.
func (r *Reader) open(ctx context.Context, remote registry.Reader, repo string, d registry.Descriptor) (io.ReadCloser, error) {
	if !image.IsManifestOrIndex(d.MediaType) {
		return remote.Open(ctx, repo, d)
	}
	data, err := registry.ReadDocument(ctx, remote, repo, d)
	if err != nil {
		return nil, err
	}
	refers, err := registry.Refers(d, data)
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range refers {
		if !slices.Contains(r.from[c.Digest], repo) {
			r.from[c.Digest] = append(r.from[c.Digest], repo)
		}
	}
	return registry.Verify(io.NopCloser(bytes.NewReader(data)), d), nil
}

// repos are the repositories that may have d.
func (r *Reader) repos(ctx context.Context, d digest.Digest) ([]string, error) {
	r.mu.Lock()
	repos := slices.Clone(r.from[d])
	r.mu.Unlock()
	refs, err := r.lists.Store.Origins(ctx, d)
	for _, ref := range refs {
		if !slices.Contains(repos, ref.Repo) {
			repos = append(repos, ref.Repo)
		}
	}
	return repos, err
}

// MountFrom says which repositories of the registry that repo is in have a blob, as registry.CopyOptions asks.
func (r *Reader) MountFrom(repo string) func(registry.Descriptor) []string {
	domain, _, _ := strings.Cut(repo, "/")
	return func(d registry.Descriptor) []string {
		r.mu.Lock()
		defer r.mu.Unlock()
		var same []string
		for _, from := range r.from[d.Digest] {
			if strings.HasPrefix(from, domain+"/") {
				same = append(same, from)
			}
		}
		return same
	}
}

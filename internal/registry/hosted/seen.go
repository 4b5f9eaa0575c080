package hosted

import (
	"context"
	"sync"

	"nacre/internal/registry"
	"nacre/internal/registry/store"

	"github.com/opencontainers/go-digest"
)

// seen remembers what the database said, for as long as nobody changes it. Looking
// whether somebody did costs one read of 48 bytes.
type seen struct {
	mu      sync.RWMutex
	version store.Version
	tags    map[tagKey]registry.Descriptor
	parts   map[partKey]store.Part
	lists   map[string][]string // the tags of a repository
}

type tagKey struct{ repo, tag string }

type partKey struct {
	repo   string
	digest digest.Digest
}

// tag finds what a tag names. Errors: registry.ErrAbsent, registry.ErrInvalid.
func (r *Registry) tag(ctx context.Context, repo, tag string) (registry.Descriptor, error) {
	now := r.s.CurrentVersion(ctx)
	c := &r.seen
	c.mu.RLock()
	d, ok := c.tags[tagKey{repo, tag}]
	ok = ok && c.version.Same(now)
	c.mu.RUnlock()
	if ok {
		return d, nil
	}
	in, err := r.names.repo(repo)
	if err != nil {
		return d, err
	}
	d, pushed, err := r.s.TagTarget(ctx, in, tag)
	if err != nil {
		return d, err
	}
	if r.o.Images != nil && !pushed {
		target := d.Digest
		if d, err = r.o.Images.Remake(ctx, d); err != nil {
			return d, err
		}
		now = r.s.CurrentVersion(ctx) // that it was remade is no news
		if again, _, err := r.s.TagTarget(ctx, in, tag); err != nil || again.Digest != target {
			return d, nil // the tag is; it is not remembered
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at(now)
	c.tags[tagKey{repo, tag}] = d
	return d, nil
}

// part finds content of a repository. Errors: registry.ErrAbsent, registry.ErrInvalid.
func (r *Registry) part(ctx context.Context, repo string, d digest.Digest) (store.Part, error) {
	now := r.s.CurrentVersion(ctx)
	c := &r.seen
	c.mu.RLock()
	p, ok := c.parts[partKey{repo, d}]
	ok = ok && c.version.Same(now)
	c.mu.RUnlock()
	if ok {
		return p, nil
	}
	if err := registry.CheckDescriptor(registry.Descriptor{Digest: d}); err != nil {
		return p, err
	}
	in, err := r.names.repo(repo)
	if err != nil {
		return p, err
	}
	if p, err = r.s.Part(ctx, in, d); err != nil {
		return p, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at(now)
	c.parts[partKey{repo, d}] = p
	return p, nil
}

// at forgets what was so at another time. The caller holds the lock, and has read what he is going to
// add after he asked for the version.
func (c *seen) at(v store.Version) {
	if c.parts == nil || !c.version.Same(v) || len(c.parts)+len(c.tags) >= maxBounded {
		c.tags, c.parts, c.lists = map[tagKey]registry.Descriptor{}, map[partKey]store.Part{}, map[string][]string{}
	}
	c.version = v
}

const (
	// maxList bounds the tags of a list that is remembered, and maxLists how many lists are.
	maxList  = 10_000
	maxLists = 100
)

// list returns the tags of a repository if they are remembered, and the version to remember them by else.
func (r *Registry) list(ctx context.Context, repo string) ([]string, bool, store.Version) {
	now := r.s.CurrentVersion(ctx)
	c := &r.seen
	c.mu.RLock()
	defer c.mu.RUnlock()
	tags, ok := c.lists[repo]
	return tags, ok && c.version.Same(now), now
}

func (c *seen) keepList(v store.Version, repo string, tags []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at(v)
	if len(c.lists) < maxLists {
		c.lists[repo] = tags
	}
}

// Package hosted shows the local store as a registry of repositories that are strictly apart, for
// the server: names without domain, and content that can be had only from the
// repositories it belongs to.
//
// Content belongs to a repository if an image that is named there has it, or if it was uploaded to,
// mounted or kept in it. What is true of the records is package store's; this one says how
// long things stay, who may have how much, which tags may move, and remembers
// what it was asked lately.
package hosted

import (
	"context"
	"io"
	"sync"
	"time"

	"nacre/internal/glob"
	"nacre/internal/registry"
	"nacre/internal/registry/store"
)

// Options of New. The zero value works.
type Options struct {
	// Self is what the server is called in names of images, "127.0.0.1:5000": the image
	// 127.0.0.1:5000/app of the store is app here, too.
	Self string
	// Grace is how long content stays that nothing refers to: what was uploaded and not
	// tagged yet, and manifests that lost their tag. 0: 24 hours, time for a slow push to end.
	Grace time.Duration
	// KeepUntagged keeps manifests for ever that have no tag, until they are deleted by their digest.
	KeepUntagged bool

	// Images shows images that were made in the store with their layers compressed
	// (compressed.New). nil: they are shown as they are, with layers as tars.
	Images Images

	// Sparse lets manifests be kept that refer to what is not there. An index may always lack children.
	Sparse bool

	ReadOnly  bool    // nothing can be pushed or deleted
	Immutable []Tags  // tags that name one thing for ever. They can neither be moved nor deleted
	Quotas    []Quota // the first that fits a repository bounds it
	MaxBlob   int64   // bytes of one blob; 0: no limit
	// Retention are rules for Collect: the first that fits a repository says which of its tags stay. None: all do.
	Retention []Rule

	// Clock tells the time; nil is time.Now.
	Clock func() time.Time
	// Background hears of errors of what is done beside requests; nil: nobody does.
	Background func(error)
}

// Images remakes images for those who pull them.
type Images interface {
	// Remake returns the manifest or index that d is shown as.
	Remake(ctx context.Context, d registry.Descriptor) (registry.Descriptor, error)
	// Open opens what an image was remade into, and all that it refers to.
	Open(ctx context.Context, repo string, d registry.Descriptor) (io.ReadCloser, error)
}

// Tags are tags by the patterns of package glob.
type Tags struct{ Repos, Tags string }

// Quota bounds the bytes of each repository that fits the pattern, every blob and
// manifest counted once in each. Images that are made in the store itself do not count.
type Quota struct {
	Repos string
	Bytes int64
}

// Registry is the store as the server sees it. Its methods may be called concurrently, and other
// processes may use the store meanwhile.
type Registry struct {
	s     *store.Store
	o     Options
	names names
	seen  seen
	pulls pulls
}

var (
	_ registry.Registry       = (*Registry)(nil)
	_ registry.Stater         = (*Registry)(nil)
	_ registry.Ranger         = (*Registry)(nil)
	_ registry.TagLister      = (*Registry)(nil)
	_ registry.RepoLister     = (*Registry)(nil)
	_ registry.ReferrerLister = (*Registry)(nil)
	_ registry.Mounter        = (*Registry)(nil)
	_ registry.Adopter        = (*Registry)(nil)
)

// New makes a registry of s, which it does not close.
func New(s *store.Store, o Options) *Registry {
	if o.Grace <= 0 {
		o.Grace = 24 * time.Hour
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.Background == nil {
		o.Background = func(error) {}
	}
	r := &Registry{s: s, o: o}
	r.names.self = o.Self
	return r
}

// Close writes down what is still to be. The store remains open.
func (r *Registry) Close() error {
	r.pulls.stop()
	return r.Flush(context.Background())
}

func (r *Registry) writable() error {
	if r.o.ReadOnly {
		return registry.ErrReadOnly
	}
	return nil
}

// until is how long what is uploaded or referred to now stays.
func (r *Registry) until() time.Time { return r.o.Clock().Add(r.o.Grace) }

// untilUntagged is how long a manifest stays without a tag.
func (r *Registry) untilUntagged() time.Time {
	if r.o.KeepUntagged {
		return forEver
	}
	return r.until()
}

// forEver is later than any clock will show, and fits the nanoseconds of a record.
var forEver = time.Unix(1<<33, 0)

func (r *Registry) quota(repo string) int64 {
	for _, q := range r.o.Quotas {
		if glob.Match(q.Repos, repo) {
			return q.Bytes
		}
	}
	return 0
}

func (r *Registry) immutable(repo, tag string) bool {
	for _, p := range r.o.Immutable {
		if glob.Match(p.Repos, repo) && glob.Match(p.Tags, tag) {
			return true
		}
	}
	return false
}

// bounded is a map that forgets all it has when it is full: what is in it can be found out again.
type bounded[K comparable, V any] struct {
	mu sync.RWMutex
	m  map[K]V
}

// maxBounded is some megabytes of names and descriptors.
const maxBounded = 20_000

func (b *bounded[K, V]) get(k K) (V, bool) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	v, ok := b.m[k]
	return v, ok
}

func (b *bounded[K, V]) put(k K, v V) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.m == nil || len(b.m) >= maxBounded {
		b.m = map[K]V{}
	}
	b.m[k] = v
}

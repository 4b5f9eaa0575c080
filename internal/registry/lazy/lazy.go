// Package lazy knows layers that a store does not have, and where each can be had: a build
// whose steps hit in the cache of another machine works with their names, and fetches the bytes of
// those that something reads.
//
// It leaves to others who knows of such layers (caches in registries, base images), and what to do
// where one cannot be had after all.
package lazy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"nacre/internal/event"
	"nacre/internal/registry"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"
)

// Origin is where a layer is.
type Origin struct {
	Name     string // as shown: "cache example.com/cache:latest"
	Registry registry.Reader
	Repo     string
	Blob     registry.Descriptor // what the layer travels as
	// Fetch, where it is set, brings the layer into the store, in place of an upload of Blob. Its
	// errors are no loss: there is no other way to the layer.
	Fetch func(context.Context) error
}

// LostError is a layer that was relied on and cannot be had. Whoever relied on it has to do without.
type LostError struct {
	DiffID digest.Digest
	Err    error
}

func (e *LostError) Error() string { return fmt.Sprintf("cached layer %s: %v", e.DiffID, e.Err) }
func (e *LostError) Unwrap() error { return e.Err }

// ErrWrong: a blob that is not the layer it was said to be.
var ErrWrong = errors.New("not the layer that the cache says it is")

// parallel is how many layers are fetched at once, as by registry.Copy.
const parallel = 4

// Layers are those of a store and those that can be fetched into it. Methods may be called concurrently.
type Layers struct {
	store Store
	hold  func(ctx context.Context, diffIDs ...digest.Digest) error
	o     registry.CopyOptions

	slots chan struct{}

	mu      sync.Mutex
	origins map[digest.Digest][]Origin                      // by diffID; the first is tried first
	blobs   map[digest.Digest]Origin                        // by digest of the blob
	after   map[digest.Digest][]func(context.Context) error // what waits for a layer
	fetches map[digest.Digest]*fetch
}

// Store receives layers.
type Store interface {
	registry.Reader
	registry.Writer
}

type fetch struct {
	once sync.Once
	err  error
}

// New returns layers of s. hold keeps some of them from being removed, and fails with registry.ErrAbsent where s does not
// have them (store.Lease.Layer). The sink of o hears of every layer that is fetched.
func New(s Store, hold func(ctx context.Context, diffIDs ...digest.Digest) error, o registry.CopyOptions) *Layers {
	if sink := o.Sink; sink != nil {
		o.Sink = func(e event.Event) {
			if d, ok := e.(event.Done); ok && d.Err != nil { // what comes of it is for those who need the layer to tell
				d.Note, d.Err = "not fetched: "+d.Err.Error(), nil
				e = d
			}
			sink(e)
		}
	}
	return &Layers{
		store: s, hold: hold, o: o, slots: make(chan struct{}, parallel),
		origins: map[digest.Digest][]Origin{}, blobs: map[digest.Digest]Origin{},
		after: map[digest.Digest][]func(context.Context) error{}, fetches: map[digest.Digest]*fetch{},
	}
}

// Add tells where a layer can be had, besides what was told before.
func (l *Layers) Add(diffID digest.Digest, o Origin) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.origins[diffID] = append(l.origins[diffID], o)
	if _, ok := l.blobs[o.Blob.Digest]; !ok && o.Blob.Digest != "" {
		l.blobs[o.Blob.Digest] = o
	}
}

// Known tells whether there is any place where the layer can be had.
func (l *Layers) Known(diffID digest.Digest) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.origins[diffID]) > 0
}

// Lose forgets where a layer is: nobody is to rely on it again.
func (l *Layers) Lose(diffID digest.Digest) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.origins, diffID)
	delete(l.after, diffID)
}

// After has f called when the layer comes into the store, if ever it does.
func (l *Layers) After(diffID digest.Digest, f func(context.Context) error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.after[diffID] = append(l.after[diffID], f)
}

// Hold holds those of the layers that the store has. Errors: registry.ErrAbsent for one that is neither there
// nor to be had elsewhere.
func (l *Layers) Hold(ctx context.Context, diffIDs ...digest.Digest) error {
	_, err := l.lacking(ctx, diffIDs)
	return err
}

// lacking lists which of the layers can be had and are not in the store, and holds the others.
func (l *Layers) lacking(ctx context.Context, diffIDs []digest.Digest) ([]digest.Digest, error) {
	err := l.hold(ctx, diffIDs...)
	if !errors.Is(err, registry.ErrAbsent) {
		return nil, err
	}
	var list []digest.Digest
	for _, d := range diffIDs {
		err := l.hold(ctx, d)
		if errors.Is(err, registry.ErrAbsent) && l.Known(d) {
			list, err = append(list, d), nil
		}
		if err != nil {
			return nil, err
		}
	}
	return list, nil
}

// Need has all of the layers in the store, held. Errors: registry.ErrAbsent; *LostError, of the first that could not be fetched.
func (l *Layers) Need(ctx context.Context, diffIDs ...digest.Digest) error {
	list, err := l.lacking(ctx, diffIDs)
	if err != nil || len(list) == 0 {
		return err
	}
	var g errgroup.Group // what one loss does not stop: the others will be needed again
	for _, d := range list {
		g.Go(func() error { return l.fetchOnce(ctx, d) })
	}
	return g.Wait()
}

// fetchOnce fetches a layer, for all who need it at once. Whoever comes first does it, under its own context; one who was
// stopped leaves it to the next.
func (l *Layers) fetchOnce(ctx context.Context, diffID digest.Digest) error {
	for {
		l.mu.Lock()
		f := l.fetches[diffID]
		if f == nil {
			f = &fetch{}
			l.fetches[diffID] = f
		}
		l.mu.Unlock()
		f.once.Do(func() { f.err = l.fetch(ctx, diffID) })
		if f.err == nil || !errors.Is(f.err, context.Canceled) && !errors.Is(f.err, context.DeadlineExceeded) {
			return f.err
		}
		l.mu.Lock()
		if l.fetches[diffID] == f {
			delete(l.fetches, diffID)
		}
		l.mu.Unlock()
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
}

func (l *Layers) fetch(ctx context.Context, diffID digest.Digest) error {
	select {
	case l.slots <- struct{}{}:
		defer func() { <-l.slots }()
	case <-ctx.Done():
		return ctx.Err()
	}
	l.mu.Lock()
	origins := l.origins[diffID]
	l.mu.Unlock()
	var errs []error
	for _, o := range origins {
		err := l.take(ctx, diffID, o)
		if err == nil {
			return l.came(ctx, diffID)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if o.Fetch != nil {
			return err
		}
		errs = append(errs, fmt.Errorf("from %s: %w", o.Name, err))
	}
	return &LostError{diffID, errors.Join(errs...)}
}

// take brings a layer into the store from one place, and holds it.
func (l *Layers) take(ctx context.Context, diffID digest.Digest, o Origin) error {
	var err error
	if o.Fetch != nil {
		err = o.Fetch(ctx)
	} else {
		err = registry.CopyBlob(ctx, l.store, o.Repo, o.Registry, o.Repo, o.Blob, l.o)
	}
	if err != nil {
		return err
	}
	err = l.hold(ctx, diffID)
	if errors.Is(err, registry.ErrAbsent) {
		return fmt.Errorf("%s: %w", o.Blob.Digest, ErrWrong)
	}
	return err
}

func (l *Layers) came(ctx context.Context, diffID digest.Digest) error {
	l.mu.Lock()
	list := l.after[diffID]
	delete(l.after, diffID)
	l.mu.Unlock()
	for _, f := range list {
		if err := f(ctx); err != nil {
			return err
		}
	}
	return nil
}

// Blob describes what a layer that the store does not have travels as; false for those that it has.
func (l *Layers) Blob(ctx context.Context, diffID digest.Digest) (registry.Descriptor, bool, error) {
	list, err := l.lacking(ctx, []digest.Digest{diffID})
	if err != nil || len(list) == 0 {
		return registry.Descriptor{}, false, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.origins[diffID][0].Blob, true, nil
}

// Open implements registry.Reader: what the store has, and the blobs that layers travel as.
func (l *Layers) Open(ctx context.Context, repo string, d registry.Descriptor) (io.ReadCloser, error) {
	rc, err := l.store.Open(ctx, repo, d)
	if !errors.Is(err, registry.ErrAbsent) {
		return rc, err
	}
	l.mu.Lock()
	o, ok := l.blobs[d.Digest]
	l.mu.Unlock()
	if !ok {
		return nil, err
	}
	rc, err = o.Registry.Open(ctx, o.Repo, o.Blob)
	if err != nil && ctx.Err() == nil {
		err = l.lost(d.Digest, fmt.Errorf("from %s: %w", o.Name, err))
	}
	return rc, err
}

// lost tells which layer the blob of a digest was to be.
func (l *Layers) lost(blob digest.Digest, err error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for diffID, list := range l.origins {
		for _, o := range list {
			if o.Blob.Digest == blob {
				return &LostError{diffID, err}
			}
		}
	}
	return err
}

// Resolve implements registry.Reader: what the store names.
func (l *Layers) Resolve(ctx context.Context, ref registry.Ref) (registry.Descriptor, error) {
	return l.store.Resolve(ctx, ref)
}

// MountFrom names the repositories that have a blob: for registry.CopyOptions.
func (l *Layers) MountFrom(d registry.Descriptor) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var repos []string
	for _, list := range l.origins {
		for _, o := range list {
			if o.Blob.Digest == d.Digest && o.Repo != "" {
				repos = append(repos, o.Repo)
			}
		}
	}
	return repos
}

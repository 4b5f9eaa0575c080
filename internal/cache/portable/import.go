package portable

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"nacre/internal/cache"
	"nacre/internal/image"
	"nacre/internal/registry"

	"github.com/opencontainers/go-digest"
)

// Imported is a cache with another behind it, from elsewhere. What the first does not have
// and the second has is fetched when a step hits, and is the first's from then on.
type Imported struct {
	cache.Cache
	from    From
	to      registry.Writer
	entries map[cache.Key]cache.Entry
	nearest map[string]cache.Record // the last of each slot
	blobs   map[digest.Digest]registry.Descriptor

	mu      sync.Mutex
	fetches map[digest.Digest]*fetch
}

// From is where an exported cache is.
type From struct {
	Registry registry.Reader
	Ref      registry.Ref
	// Warn hears of layers that could not be had, which makes their steps misses; nil: nobody.
	Warn func(error)
}

type fetch struct {
	once sync.Once
	err  error
}

// Import puts what Export wrote behind local. Layers of hits are uploaded to to, the store of
// local's outputs. base is as in Export. Errors: registry.ErrAbsent, ErrFormat.
func Import(ctx context.Context, local cache.Cache, to registry.Writer, from From, base string) (*Imported, error) {
	entries, blobs, err := read(ctx, from, base)
	if err != nil {
		return nil, err
	}
	c := &Imported{
		Cache: local, from: from, to: to, blobs: blobs,
		entries: map[cache.Key]cache.Entry{}, nearest: map[string]cache.Record{}, fetches: map[digest.Digest]*fetch{},
	}
	for _, e := range entries {
		c.entries[e.Key] = e
		c.nearest[e.Slot] = e.Record
	}
	return c, nil
}

// Len is how many records came along.
func (c *Imported) Len() int { return len(c.entries) }

func read(ctx context.Context, from From, base string) ([]cache.Entry, map[digest.Digest]registry.Descriptor, error) {
	d, err := from.Registry.Resolve(ctx, from.Ref)
	if err != nil {
		return nil, nil, err
	}
	data, err := readAll(ctx, from, d, image.MaxSize)
	if err != nil {
		return nil, nil, err
	}
	m, err := image.ParseManifest(data)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	if m.Config.MediaType != ConfigType {
		return nil, nil, fmt.Errorf("%w: its config is %q, and %q is what nacre writes", ErrFormat, m.Config.MediaType, ConfigType)
	}
	if data, err = readAll(ctx, from, m.Config, maxConfig); err != nil {
		return nil, nil, err
	}
	entries, diffIDs, err := parseConfig(data, base)
	if err != nil {
		return nil, nil, err
	}
	if len(diffIDs) != len(m.Layers) {
		return nil, nil, fmt.Errorf("%w: %d layers, and %d in its config", ErrFormat, len(m.Layers), len(diffIDs))
	}
	blobs := map[digest.Digest]registry.Descriptor{}
	for i, d := range diffIDs {
		blobs[d] = m.Layers[i]
	}
	return entries, blobs, nil
}

func readAll(ctx context.Context, from From, d registry.Descriptor, limit int64) ([]byte, error) {
	if d.Size > limit {
		return nil, fmt.Errorf("%w: %s has %d bytes, more than %d", ErrFormat, d.Digest, d.Size, limit)
	}
	rc, err := from.Registry.Open(ctx, from.Ref.Repo, d)
	if err != nil {
		return nil, err
	}
	defer rc.Close()
	return registry.ReadAll(rc, limit)
}

// Get implements cache.Cache.
func (c *Imported) Get(ctx context.Context, key cache.Key) (cache.Output, bool, error) {
	out, ok, err := c.Cache.Get(ctx, key)
	if ok || err != nil {
		return out, ok, err
	}
	e, ok := c.entries[key]
	if !ok {
		return out, false, nil
	}
	if err := c.take(ctx, e); err != nil {
		if ctx.Err() != nil {
			return out, false, ctx.Err()
		}
		if c.from.Warn != nil {
			c.from.Warn(err)
		}
		return out, false, nil
	}
	return e.Output, true, nil
}

// Nearest implements cache.Cache.
func (c *Imported) Nearest(ctx context.Context, slot string) (cache.Record, bool, error) {
	rec, ok, err := c.Cache.Nearest(ctx, slot)
	if ok || err != nil {
		return rec, ok, err
	}
	rec, ok = c.nearest[slot]
	return rec, ok, nil
}

// Recall implements cache.Recaller by what is in the cache before this one.
func (c *Imported) Recall(ctx context.Context, diffID digest.Digest) ([]cache.Entry, error) {
	if r, ok := c.Cache.(cache.Recaller); ok {
		return r.Recall(ctx, diffID)
	}
	return nil, nil
}

// take makes an entry the local cache's, with its layer.
func (c *Imported) take(ctx context.Context, e cache.Entry) error {
	// The layer may be there, made by another build.
	if err := c.Cache.Put(ctx, e.Record, e.Output); !errors.Is(err, registry.ErrAbsent) {
		return err
	}
	c.mu.Lock()
	f := c.fetches[e.DiffID]
	if f == nil {
		f = &fetch{}
		c.fetches[e.DiffID] = f
	}
	c.mu.Unlock()
	f.once.Do(func() { f.err = c.fetch(ctx, e.DiffID) })
	if f.err != nil {
		return f.err
	}
	// A blob that was not the layer it is said to be leaves the layer absent.
	return c.Cache.Put(ctx, e.Record, e.Output)
}

// fetch uploads the blob of a layer to the store.
func (c *Imported) fetch(ctx context.Context, diffID digest.Digest) error {
	d := c.blobs[diffID]
	if ok, err := c.to.Has(ctx, c.from.Ref.Repo, d); err != nil || ok {
		return err
	}
	rc, err := c.from.Registry.Open(ctx, c.from.Ref.Repo, d)
	if err != nil {
		return fmt.Errorf("cached layer %s: %w", diffID, err)
	}
	defer rc.Close()
	up, err := c.to.Create(ctx, c.from.Ref.Repo, d)
	if err != nil {
		return fmt.Errorf("cached layer %s: %w", diffID, err)
	}
	defer up.Cancel()
	if _, err := io.Copy(up, rc); err != nil {
		return fmt.Errorf("cached layer %s: %w", diffID, err)
	}
	return up.Commit()
}

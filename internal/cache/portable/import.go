package portable

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"nacre/internal/cache"
	"nacre/internal/image"
	"nacre/internal/registry"
	"nacre/internal/registry/lazy"

	"github.com/opencontainers/go-digest"
)

// Imported is a cache with another behind it, from elsewhere. What the first does not have and the second has
// hits without its layer, which layers then knows where to get. Once it is fetched, for whatever reason, the
// record is the first cache's, too.
type Imported struct {
	cache.Cache
	layers  *lazy.Layers
	entries map[cache.Key]cache.Entry
	order   []cache.Entry // as they came
	mounts  []Mount
	nearest map[string]cache.Record // the last of each slot
	made    map[digest.Digest][]cache.Entry
}

// From is where an exported cache is.
type From struct {
	Registry registry.Reader
	Ref      registry.Ref
	Name     string // as shown
	// Platform chooses from an index of images that have their caches in them.
	Platform image.Platform
}

// Import puts what Export wrote behind local, whose outputs are those of the store of layers. base is as
// in Export. Errors: registry.ErrAbsent, ErrFormat.
func Import(ctx context.Context, local cache.Cache, layers *lazy.Layers, from From, base string) (*Imported, error) {
	contents, blobs, err := read(ctx, from, base)
	if err != nil {
		return nil, err
	}
	c := &Imported{
		Cache: local, layers: layers, order: contents.Entries, mounts: contents.Mounts,
		entries: map[cache.Key]cache.Entry{}, nearest: map[string]cache.Record{}, made: map[digest.Digest][]cache.Entry{},
	}
	for _, e := range contents.Entries {
		c.entries[e.Key] = e
		c.nearest[e.Slot] = e.Record
		c.made[e.DiffID] = append(c.made[e.DiffID], e)
	}
	for diffID, blob := range blobs {
		layers.Add(diffID, lazy.Origin{Name: from.Name, Registry: from.Registry, Repo: from.Ref.Repo, Blob: blob})
	}
	return c, nil
}

// Len is how many records came along.
func (c *Imported) Len() int { return len(c.entries) }

// Mounts are the directories of RUN --mount=type=cache that came along. Their layers are had as those of steps.
func (c *Imported) Mounts() []Mount { return c.mounts }

// read reads an exported cache, or one that an image has in it.
func read(ctx context.Context, from From, base string) (Contents, map[digest.Digest]registry.Descriptor, error) {
	m, err := manifest(ctx, from)
	if err != nil {
		return Contents{}, nil, err
	}
	limit := int64(maxConfig)
	if image.IsConfig(m.Config.MediaType) {
		limit = image.MaxSize
	} else if m.Config.MediaType != ConfigType && m.Config.MediaType != ConfigTypeZstd {
		return Contents{}, nil, fmt.Errorf("%w: its config is %q, and %q is what nacre writes", ErrFormat, m.Config.MediaType, ConfigTypeZstd)
	}
	data, err := readAll(ctx, from, m.Config, limit)
	if err != nil {
		return Contents{}, nil, err
	}
	switch m.Config.MediaType {
	case ConfigTypeZstd:
		if data, err = unpack(data); err != nil {
			return Contents{}, nil, err
		}
	case ConfigType:
	default:
		entries, blobs, err := readInline(data, m, base)
		return Contents{Entries: entries}, blobs, err
	}
	contents, diffIDs, err := parseConfig(data, base)
	if err != nil {
		return Contents{}, nil, err
	}
	if len(diffIDs) != len(m.Layers) {
		return Contents{}, nil, fmt.Errorf("%w: %d layers, and %d in its config", ErrFormat, len(m.Layers), len(diffIDs))
	}
	blobs := map[digest.Digest]registry.Descriptor{}
	for i, d := range diffIDs {
		blobs[d] = m.Layers[i]
	}
	return contents, blobs, nil
}

// manifest reads the manifest that from names; of an index that for its platform.
func manifest(ctx context.Context, from From) (m image.Manifest, err error) {
	d, err := from.Registry.Resolve(ctx, from.Ref)
	for depth := 0; ; depth++ {
		if err != nil {
			return m, err
		}
		data, err := readAll(ctx, from, d, image.MaxSize)
		if err != nil {
			return m, err
		}
		if !image.IsIndex(d.MediaType) {
			if m, err = image.ParseManifest(data); err != nil {
				err = fmt.Errorf("%w: %w", ErrFormat, err)
			}
			return m, err
		}
		x, err := image.ParseIndex(data)
		if err != nil || depth > maxNesting {
			return m, fmt.Errorf("%w: an index, %d deep: %w", ErrFormat, depth, err)
		}
		if d, err = image.MatchPlatform(x, from.Platform); err != nil {
			return m, err
		}
	}
}

// maxNesting bounds indexes within indexes, as registry.Copy does.
const maxNesting = 8

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
	err = c.Put(ctx, e.Record, e.Output)
	if errors.Is(err, registry.ErrAbsent) {
		return cache.Output{}, false, nil // it was lost meanwhile
	}
	return e.Output, err == nil, err
}

// Put implements cache.Cache. A layer that can be had is as good as there: the record is made when it came.
func (c *Imported) Put(ctx context.Context, rec cache.Record, out cache.Output) error {
	err := c.Cache.Put(ctx, rec, out)
	if !errors.Is(err, registry.ErrAbsent) || !c.layers.Known(out.DiffID) {
		return err
	}
	c.layers.After(out.DiffID, func(ctx context.Context) error { return c.Cache.Put(ctx, rec, out) })
	return nil
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

// Earlier implements cache.Cache: the local records come first.
func (c *Imported) Earlier(ctx context.Context, prefix string, n int) ([]cache.Record, error) {
	list, err := c.Cache.Earlier(ctx, prefix, n)
	if err != nil {
		return nil, err
	}
	have := make(map[cache.Key]bool, len(list))
	for _, rec := range list {
		have[rec.Key] = true
	}
	for _, e := range c.order {
		if len(list) == n {
			break
		}
		if !have[e.Key] && strings.HasPrefix(e.Slot, prefix) {
			list = append(list, e.Record)
		}
	}
	return list, nil
}

// Note implements cache.Cache.
func (c *Imported) Note(ctx context.Context, key cache.Key) ([]byte, bool, error) {
	data, ok, err := c.Cache.Note(ctx, key)
	if e := c.entries[key]; err == nil && data == nil && e.Note != nil {
		return e.Note, true, nil
	}
	return data, ok, err
}

// Recall implements cache.Recaller by what either cache has.
func (c *Imported) Recall(ctx context.Context, diffID digest.Digest) ([]cache.Entry, error) {
	var list []cache.Entry
	if r, ok := c.Cache.(cache.Recaller); ok {
		var err error
		if list, err = r.Recall(ctx, diffID); err != nil {
			return nil, err
		}
	}
	for _, e := range c.made[diffID] {
		if !slices.ContainsFunc(list, func(have cache.Entry) bool { return have.Key == e.Key }) {
			list = append(list, e)
		}
	}
	return list, nil
}

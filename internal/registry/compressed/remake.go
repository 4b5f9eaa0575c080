package compressed

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"nacre/internal/image"
	"nacre/internal/registry"
	"nacre/internal/registry/store"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// maxNesting bounds indexes within indexes, as Copy does.
const maxNesting = 8

func (r *Reader) remake(ctx context.Context, l *store.Lease, d registry.Descriptor) (registry.Descriptor, error) {
	if _, err := r.o.Compression.Normal(); err != nil {
		return d, err
	}
	return r.remakeAny(ctx, l, d, 0)
}

func (r *Reader) remakeAny(ctx context.Context, l *store.Lease, d registry.Descriptor, depth int) (registry.Descriptor, error) {
	if depth > maxNesting {
		return d, fmt.Errorf("%w: indexes nested more than %d deep", registry.ErrInvalid, maxNesting)
	}
	if known, err := r.known(ctx, d.Digest); err == nil || !errors.Is(err, registry.ErrAbsent) {
		return alike(d, known), err
	}
	data, err := r.read(ctx, d)
	if err != nil {
		return d, err
	}
	switch {
	case image.IsIndex(d.MediaType):
		return r.remakeIndex(ctx, l, d, data, depth)
	case image.IsManifest(d.MediaType):
		return r.remakeManifest(ctx, l, d, data)
	}
	return d, nil
}

// alike is now in place of was: with its platform and annotations.
func alike(was, now registry.Descriptor) registry.Descriptor {
	was.MediaType, was.Digest, was.Size = now.MediaType, now.Digest, now.Size
	return was
}

// known returns what d was remade into earlier, if all of that can still be had.
func (r *Reader) known(ctx context.Context, d digest.Digest) (registry.Descriptor, error) {
	now, err := r.s.Remade(ctx, d, r.how)
	if err != nil {
		return now, err
	}
	data, err := r.read(ctx, now)
	if err != nil {
		return now, err
	}
	refs, err := registry.Refers(now, data)
	if err != nil {
		return now, err
	}
	if image.IsIndex(now.MediaType) {
		return now, nil // of its children some may always have been absent
	}
	for _, ref := range refs {
		if registry.MayLack(ref) {
			continue
		}
		if _, err := r.s.FormOf(ctx, ref.Digest); err == nil {
			continue
		}
		if _, err := r.s.Stat(ctx, "", ref.Digest); err != nil {
			return now, err
		}
	}
	return now, nil
}

func (r *Reader) remakeIndex(ctx context.Context, l *store.Lease, d registry.Descriptor, data []byte, depth int) (registry.Descriptor, error) {
	x, err := image.ParseIndex(data)
	if err != nil {
		return d, fmt.Errorf("%w: %s: %w", registry.ErrInvalid, d.Digest, err)
	}
	became := map[string]string{}
	for i, c := range x.Manifests {
		now, err := r.remakeAny(ctx, l, c, depth+1)
		if errors.Is(err, registry.ErrAbsent) {
			if _, rerr := r.read(ctx, c); errors.Is(rerr, registry.ErrAbsent) {
				continue // an image of another platform, never fetched
			}
		}
		if err != nil {
			return d, fmt.Errorf("%s: %w", c.Digest, err)
		}
		if now.Digest != c.Digest {
			became[c.Digest.String()] = now.Digest.String()
			x.Manifests[i] = now
		}
	}
	// Attestations name the image they are about in an annotation of their descriptor.
	for i, c := range x.Manifests {
		if now, ok := became[c.Annotations[image.AboutAnnotation]]; ok {
			notes := map[string]string{}
			for k, v := range c.Annotations {
				notes[k] = v
			}
			notes[image.AboutAnnotation] = now
			x.Manifests[i].Annotations = notes
		}
	}
	mediaType := r.indexType(d.MediaType)
	if len(became) == 0 && mediaType == d.MediaType {
		return d, nil
	}
	x.MediaType = mediaType
	return r.keep(ctx, d, nil, x)
}

func (r *Reader) remakeManifest(ctx context.Context, l *store.Lease, d registry.Descriptor, data []byte) (registry.Descriptor, error) {
	m, err := image.ParseManifest(data)
	if err != nil {
		return d, fmt.Errorf("%w: %s: %w", registry.ErrInvalid, d.Digest, err)
	}
	if !image.IsConfig(m.Config.MediaType) {
		return d, nil // an artifact: its blobs are what they are
	}
	config, err := r.read(ctx, m.Config)
	if err != nil {
		return d, fmt.Errorf("config: %w", err)
	}
	cfg, err := image.ParseConfig(config)
	if err != nil {
		return d, fmt.Errorf("%w: config %s: %w", registry.ErrInvalid, m.Config.Digest, err)
	}
	ids := cfg.RootFS.DiffIDs
	if len(ids) != len(m.Layers) {
		return d, fmt.Errorf("%w: %s: %d layers, %d diff_ids in the config", registry.ErrInvalid, d.Digest, len(m.Layers), len(ids))
	}
	types := r.typesOf(d.MediaType)
	layers, now, err := r.layers(ctx, l, m.Layers, ids, types)
	if err != nil {
		return d, err
	}
	var other []byte // another config
	if !slices.Equal(ids, now) {
		if other, err = withDiffIDs(config, now); err != nil {
			return d, err
		}
		c := image.Describe(m.Config.MediaType, other)
		m.Config.Digest, m.Config.Size = c.Digest, c.Size
	}
	retyped := r.o.Types != AsIs && d.MediaType != types.manifest()
	if other == nil && !retyped && slices.EqualFunc(layers, m.Layers, sameBlob) {
		return d, nil
	}
	m.Layers = layers
	if retyped {
		m.MediaType, m.Config.MediaType = types.manifest(), types.config()
	}
	return r.keep(ctx, d, other, m)
}

func sameBlob(a, b registry.Descriptor) bool {
	return a.Digest == b.Digest && a.MediaType == b.MediaType && a.Size == b.Size
}

// layers finds the form of every layer, and what each decompresses to.
func (r *Reader) layers(ctx context.Context, l *store.Lease, was []registry.Descriptor, ids []digest.Digest, types Types) ([]registry.Descriptor, []digest.Digest, error) {
	now, nowIDs := slices.Clone(was), slices.Clone(ids)
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(r.o.Parallel)
	for i := range was {
		g.Go(func() (err error) {
			if now[i], nowIDs[i], err = r.layer(gctx, l, was[i], ids[i], types); err != nil {
				err = fmt.Errorf("layer %s: %w", ids[i], err)
			}
			return err
		})
	}
	return now, nowIDs, g.Wait()
}

// withDiffIDs is config with other diffIDs; all else in it stays, known here or not.
func withDiffIDs(config []byte, ids []digest.Digest) ([]byte, error) {
	var fields, rootfs map[string]json.RawMessage
	err := json.Unmarshal(config, &fields)
	if err == nil {
		err = json.Unmarshal(fields["rootfs"], &rootfs)
	}
	if err != nil {
		return nil, fmt.Errorf("config: %w: %w", registry.ErrInvalid, err)
	}
	if rootfs["diff_ids"], err = json.Marshal(ids); err != nil {
		return nil, err
	}
	if fields["rootfs"], err = image.Marshal(rootfs); err != nil {
		return nil, err
	}
	return image.Marshal(fields)
}

// keep has what d was remade into kept, in the store where that has d too.
func (r *Reader) keep(ctx context.Context, d registry.Descriptor, config []byte, manifest any) (registry.Descriptor, error) {
	data, err := image.Marshal(manifest)
	if err != nil {
		return d, err
	}
	now, err := r.s.KeepRemade(ctx, d.Digest, r.how, config, data)
	if err == nil {
		return alike(d, now), nil
	}
	// Without room in the store it may still be sent; from one that is only read it may still be read.
	if full := r.to != nil && errors.Is(err, unix.ENOSPC); !full && !errors.Is(err, registry.ErrAbsent) && !errors.Is(err, registry.ErrReadOnly) {
		return d, err
	}
	mediaType, err := image.MediaTypeOf(data)
	if err != nil {
		return d, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if config != nil {
		c := image.Describe(image.TypeConfig, config)
		r.kept[c.Digest] = document{c, config}
	}
	now = image.Describe(mediaType, data)
	r.kept[now.Digest] = document{now, data}
	return alike(d, now), nil
}

// read returns the bytes of a manifest, index or config, verified.
func (r *Reader) read(ctx context.Context, d registry.Descriptor) ([]byte, error) {
	if doc, ok := r.document(d.Digest); ok {
		return doc.data, nil
	}
	return registry.ReadDocument(ctx, r.src, "", d)
}

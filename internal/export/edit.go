package export

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"nacre/internal/image"
	"nacre/internal/layer"
	"nacre/internal/registry"
	"nacre/internal/registry/store"

	"github.com/opencontainers/go-digest"
)

// edit is one Make under way.
type edit struct {
	documents
	s     *store.Store
	lease *store.Lease
	o     Options
}

// any edits a manifest or index; top is the one that the output names.
func (e *edit) any(ctx context.Context, d registry.Descriptor, top bool) (registry.Descriptor, error) {
	data, err := read(ctx, e, d)
	if err != nil {
		return d, err
	}
	if image.IsIndex(d.MediaType) {
		return e.index(ctx, d, data)
	}
	if top && e.o.Annotations.NeedIndex() {
		return d, ErrNoIndex
	}
	return e.manifest(ctx, d, data)
}

func (e *edit) index(ctx context.Context, d registry.Descriptor, data []byte) (registry.Descriptor, error) {
	x, err := image.ParseIndex(data)
	if err != nil {
		return d, fmt.Errorf("%w: %s: %w", registry.ErrInvalid, d.Digest, err)
	}
	for i, c := range x.Manifests {
		if c.Annotations[image.AboutAnnotation] != "" {
			continue // what tells of an image, and follows below
		}
		now, err := e.any(ctx, c, false)
		if err != nil {
			return d, err
		}
		x.Manifests[i] = now
		for j, other := range x.Manifests {
			if other.Annotations[image.AboutAnnotation] == c.Digest.String() {
				notes := map[string]string{}
				for k, v := range other.Annotations {
					notes[k] = v
				}
				notes[image.AboutAnnotation] = now.Digest.String()
				x.Manifests[j].Annotations = notes
			}
		}
	}
	x.Annotations = e.o.Annotations.Of(Index, image.Platform{}, x.Annotations)
	now, err := e.add(d.MediaType, x)
	now.Annotations = e.o.Annotations.Of(IndexDescriptor, image.Platform{}, d.Annotations)
	return now, err
}

func (e *edit) manifest(ctx context.Context, d registry.Descriptor, data []byte) (registry.Descriptor, error) {
	m, err := image.ParseManifest(data)
	if err != nil {
		return d, fmt.Errorf("%w: %s: %w", registry.ErrInvalid, d.Digest, err)
	}
	config, err := read(ctx, e, m.Config)
	if err != nil {
		return d, fmt.Errorf("config: %w", err)
	}
	cfg, err := image.ParseConfig(config)
	if err != nil {
		return d, fmt.Errorf("%w: config %s: %w", registry.ErrInvalid, m.Config.Digest, err)
	}
	if e.o.Epoch != nil {
		if err := e.rewrite(ctx, &m, &cfg); err != nil {
			return d, err
		}
	}
	m.Annotations = e.o.Annotations.Of(Manifest, cfg.Platform, m.Annotations)
	now, err := e.add(d.MediaType, m)
	now.Platform = d.Platform
	now.Annotations = e.o.Annotations.Of(ManifestDescriptor, cfg.Platform, d.Annotations)
	return now, err
}

// rewrite has nothing of an image younger than the epoch.
func (e *edit) rewrite(ctx context.Context, m *image.Manifest, cfg *image.Config) error {
	ids := cfg.RootFS.DiffIDs
	if len(ids) != len(m.Layers) {
		return fmt.Errorf("%w: %d layers, %d diff_ids", registry.ErrInvalid, len(m.Layers), len(ids))
	}
	for i := e.o.Base; i < len(ids); i++ {
		now, err := e.layer(ctx, ids[i])
		if err != nil {
			return fmt.Errorf("rewrite times of layer %s: %w", ids[i], err)
		}
		if now.DiffID != ids[i] {
			ids[i] = now.DiffID
			m.Layers[i] = registry.Descriptor{MediaType: image.TypeLayer, Digest: now.DiffID, Size: now.Size}
		}
	}
	epoch := e.o.Epoch.UTC()
	cfg.Created = &epoch
	for i, h := range cfg.History {
		if h.Created == nil || h.Created.After(epoch) {
			cfg.History[i].Created = &epoch
		}
	}
	now, err := e.add(m.Config.MediaType, cfg)
	m.Config = now
	return err
}

// layer is a layer without files younger than the epoch: itself, if it has none.
func (e *edit) layer(ctx context.Context, diffID digest.Digest) (layer.Info, error) {
	if err := e.lease.Layer(ctx, diffID); err != nil {
		return layer.Info{}, err
	}
	path := filepath.Join(e.s.LayerDir(diffID), "layer.tar")
	f, err := os.Open(path)
	if err != nil {
		return layer.Info{}, err
	}
	defer f.Close()
	young := errors.New("young")
	err = headers(f, func(h *tar.Header, _ io.Reader) error {
		if e.young(h) {
			return young
		}
		return ctx.Err()
	})
	if err == nil {
		return e.s.LayerInfo(ctx, diffID)
	}
	if !errors.Is(err, young) {
		return layer.Info{}, err
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return layer.Info{}, err
	}
	return e.s.MakeLayer(ctx, e.lease, func(dir string) (layer.Info, error) {
		r, w := io.Pipe()
		defer r.Close()
		go func() { w.CloseWithError(e.copy(w, f)) }()
		return layer.Ingest(ctx, dir, r, layer.IngestOptions{})
	})
}

func (e *edit) young(h *tar.Header) bool {
	return h.ModTime.After(*e.o.Epoch) || h.AccessTime.After(*e.o.Epoch) || h.ChangeTime.After(*e.o.Epoch)
}

// copy copies a tar with the times of its entries brought down.
func (e *edit) copy(w io.Writer, r io.Reader) error {
	out := tar.NewWriter(w)
	err := headers(r, func(h *tar.Header, content io.Reader) error {
		for _, t := range []*time.Time{&h.ModTime, &h.AccessTime, &h.ChangeTime} {
			if t.After(*e.o.Epoch) {
				*t = *e.o.Epoch
			}
		}
		if err := out.WriteHeader(h); err != nil {
			return err
		}
		_, err := io.Copy(out, content)
		return err
	})
	return errors.Join(err, out.Close())
}

func headers(r io.Reader, each func(h *tar.Header, content io.Reader) error) error {
	in := tar.NewReader(r)
	for {
		h, err := in.Next()
		if err == io.EOF {
			return nil
		}
		if err == nil {
			err = each(h, in)
		}
		if err != nil {
			return err
		}
	}
}

package edit

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"nacre/internal/export"
	"nacre/internal/image"
	"nacre/internal/registry"

	"github.com/opencontainers/go-digest"
)

// Parts is one image under change: manifest and config, as many layers as diffIDs.
type Parts struct {
	Desc     registry.Descriptor // of the manifest as it was
	Manifest image.Manifest
	Config   image.Config

	manifest, config []byte // as they were
	from             Source
}

// errArtifact: a manifest that is of no image.
var errArtifact = fmt.Errorf("%w: not an image", registry.ErrUnsupported)

// parts reads an image of a source.
func (e *Edit) parts(ctx context.Context, s Source, d registry.Descriptor) (*Parts, error) {
	data, err := e.read(ctx, s, d)
	if err != nil {
		return nil, err
	}
	m, err := image.ParseManifest(data)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", registry.ErrInvalid, d.Digest, err)
	}
	if !image.IsConfig(m.Config.MediaType) {
		return nil, fmt.Errorf("%s: %w but %q", d.Digest, errArtifact, m.Config.MediaType)
	}
	config, err := e.read(ctx, s, m.Config)
	if err != nil {
		return nil, fmt.Errorf("config: %w", err)
	}
	cfg, err := image.ParseConfig(config)
	if err != nil {
		return nil, fmt.Errorf("%w: config %s: %w", registry.ErrInvalid, m.Config.Digest, err)
	}
	if n := len(cfg.RootFS.DiffIDs); n != len(m.Layers) {
		return nil, fmt.Errorf("%w: %s: %d layers, %d diff_ids in the config", registry.ErrInvalid, d.Digest, len(m.Layers), n)
	}
	return &Parts{Desc: d, Manifest: m, Config: cfg, manifest: data, config: config, from: s}, nil
}

// add puts a layer on top, and a line of history for it.
func (p *Parts) add(d registry.Descriptor, diffID digest.Digest, h image.History) {
	p.tellAll()
	p.Manifest.Layers = append(slices.Clone(p.Manifest.Layers), d)
	p.Config.RootFS.DiffIDs = append(slices.Clone(p.Config.RootFS.DiffIDs), diffID)
	p.Config.History = append(p.Config.History, h)
}

// tell adds a line of history without a layer.
func (p *Parts) tell(h image.History) {
	p.tellAll()
	h.EmptyLayer = true
	p.Config.History = append(p.Config.History, h)
}

// tellAll lets history have a line for each layer, as it must once it has any; some tools write none, or too few.
func (p *Parts) tellAll() {
	p.Config.History = image.WholeHistory(p.Config.History, len(p.Config.RootFS.DiffIDs))
}

// annotate changes the annotations of the manifest.
func (p *Parts) annotate(o Options) {
	p.Manifest.Annotations = o.Annotations.Of(export.Manifest, p.Config.Platform, without(p.Manifest.Annotations, o.RemoveAnnotations))
}

func (p *Parts) setAnnotation(key, value string) {
	p.Manifest.Annotations = maps.Clone(p.Manifest.Annotations)
	if p.Manifest.Annotations == nil {
		p.Manifest.Annotations = map[string]string{}
	}
	p.Manifest.Annotations[key] = value
}

// docker tells whether the manifest is one of docker's, and stays one: they have no annotations.
func (p *Parts) docker() bool {
	return p.Desc.MediaType == image.TypeDockerManifest && len(p.Manifest.Annotations) == 0
}

// oci gives the manifest the OCI spec's media types.
func (p *Parts) oci() {
	p.Manifest.MediaType, p.Manifest.Config.MediaType = image.TypeManifest, image.TypeConfig
	p.Manifest.Layers = slices.Clone(p.Manifest.Layers)
	for i, l := range p.Manifest.Layers {
		p.Manifest.Layers[i] = image.OCILayer(l)
	}
}

// keep makes documents of changed parts. What did not change is as it was, to the byte.
func (e *Edit) keep(p *Parts) (registry.Descriptor, error) {
	was, err := image.ParseConfig(p.config)
	if err != nil {
		return registry.Descriptor{}, err
	}
	m, err := image.ParseManifest(p.manifest)
	if err != nil {
		return registry.Descriptor{}, err
	}
	mediaType := p.Desc.MediaType
	if mediaType == image.TypeDockerManifest && !p.docker() {
		p.oci()
		mediaType = image.TypeManifest
	}
	c, err := put(e, m.Config, p.Manifest.Config.MediaType, p.config, was, p.Config)
	if err != nil {
		return c, err
	}
	if c.Digest != p.Manifest.Config.Digest {
		p.Manifest.Config.Digest, p.Manifest.Config.Size, p.Manifest.Config.Data = c.Digest, c.Size, nil
	}
	if len(p.Config.RootFS.DiffIDs) != len(p.Manifest.Layers) {
		return c, errors.New("edit: layers and diff_ids differ in number")
	}
	return put(e, p.Desc, mediaType, p.manifest, m, p.Manifest)
}

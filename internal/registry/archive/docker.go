package archive

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"path"
	"strings"

	"github.com/opencontainers/go-digest"

	"nacre/internal/image"
	"nacre/internal/registry"
)

// maxMade bounds the manifests that are made up, which are kept in memory.
const maxMade = 32 << 20

// docker makes up manifests for an archive that has none.
type docker struct {
	*Archive
	ctx     context.Context
	configs map[string]config             // by path
	layers  map[entry]registry.Descriptor // compressed ones, which had to be hashed
	bytes   int
}

func newDocker(ctx context.Context, a *Archive) *docker {
	a.blobs = map[digest.Digest]blob{}
	a.made = map[digest.Digest][]byte{}
	return &docker{Archive: a, ctx: ctx, configs: map[string]config{}, layers: map[entry]registry.Descriptor{}}
}

type config struct {
	image.Config
	desc registry.Descriptor
}

// readManifest reads an archive that has a manifest.json only.
func (a *Archive) readManifest(ctx context.Context) error {
	data, err := a.table.read(manifestFile, image.MaxSize)
	if err != nil {
		return err
	}
	var items []item
	if err := json.Unmarshal(data, &items); err != nil {
		return fmt.Errorf("%s: %w: %w", manifestFile, registry.ErrInvalid, err)
	}
	d := newDocker(ctx, a)
	var all []registry.Named
	for i, it := range items {
		named, err := d.item(it)
		if err != nil {
			return fmt.Errorf("%s: image %d: %w", manifestFile, i, err)
		}
		all = append(all, named...)
	}
	a.names = registry.NamesOf(all)
	return nil
}

// item makes the manifest of one image and returns its names.
func (d *docker) item(it item) ([]registry.Named, error) {
	cfg, err := d.config(it.Config)
	if err != nil {
		return nil, fmt.Errorf("config: %w", err)
	}
	if len(it.Layers) != len(cfg.RootFS.DiffIDs) {
		return nil, fmt.Errorf("%w: %d layers, %d diff_ids in the config", registry.ErrInvalid, len(it.Layers), len(cfg.RootFS.DiffIDs))
	}
	m := image.Manifest{MediaType: image.TypeManifest, Config: cfg.desc, Layers: []image.Descriptor{}}
	m.SchemaVersion = 2
	for i, name := range it.Layers {
		l, err := d.layer(name, cfg.RootFS.DiffIDs[i])
		if err != nil {
			return nil, fmt.Errorf("layer %d: %w", i, err)
		}
		m.Layers = append(m.Layers, l)
	}
	data, err := image.Marshal(m)
	if err != nil {
		return nil, err
	}
	if d.bytes += len(data); d.bytes > maxMade || len(data) > image.MaxSize {
		return nil, fmt.Errorf("%w: too many layers", ErrLimit)
	}
	desc := image.Describe(m.MediaType, data)
	d.made[desc.Digest] = data
	return names(it.RepoTags, desc)
}

func names(tags []string, desc registry.Descriptor) ([]registry.Named, error) {
	all := []registry.Named{{Ref: registry.Ref{Digest: desc.Digest}, Desc: desc}}
	for _, tag := range tags {
		if strings.Contains(tag, "<none>") { // what docker calls no name
			continue
		}
		ref, err := registry.ParseRef(tag)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", registry.ErrInvalid, err)
		}
		ref.Digest = ""
		if ref.Tag != "" {
			all = append(all, registry.Named{Ref: ref, Desc: desc})
		}
	}
	return all, nil
}

// config reads a config, once. Its bytes are kept as they are; where it is named by
// its digest, as most tools do, the name is held to it.
func (d *docker) config(name string) (config, error) {
	if c, ok := d.configs[name]; ok {
		return c, nil
	}
	e, err := d.table.file(name)
	if err != nil {
		return config{}, err
	}
	data, err := d.table.read(name, image.MaxSize)
	if err != nil {
		return config{}, err
	}
	c := config{desc: image.Describe(image.TypeConfig, data)}
	base := strings.TrimSuffix(path.Base(path.Clean(name)), ".json")
	if digest.NewDigestFromEncoded(digest.SHA256, base).Validate() == nil && base != c.desc.Digest.Encoded() {
		return config{}, fmt.Errorf("%q: %w: it has %s", shown(name), registry.ErrDigest, c.desc.Digest)
	}
	if c.Config, err = image.ParseConfig(data); err != nil {
		return config{}, fmt.Errorf("%q: %w: %w", shown(name), registry.ErrInvalid, err)
	}
	d.configs[name] = c
	d.blobs[c.desc.Digest] = blob{entry: e}
	return c, nil
}

// layer describes a layer. An uncompressed one is its diffID, which is not checked here but by
// whoever reads it; a compressed one is hashed.
func (d *docker) layer(name string, diffID digest.Digest) (registry.Descriptor, error) {
	e, err := d.table.file(name)
	if err != nil {
		return registry.Descriptor{}, err
	}
	packing, err := compression(d.table.open(e), e.size)
	if err != nil {
		return registry.Descriptor{}, fmt.Errorf("%q: %w", shown(name), err)
	}
	switch packing {
	case "":
		desc := registry.Descriptor{MediaType: image.TypeLayer, Digest: diffID, Size: e.size}
		d.blobs[diffID] = blob{entry: e}
		return desc, nil
	case "gzip":
		return d.hashed(e, image.TypeLayerGzip)
	case "zstd":
		return d.hashed(e, image.TypeLayerZstd)
	default:
		return d.packed(e, diffID)
	}
}

// packed describes a layer whose compression (xz, bzip2) has no media type: it is passed
// on uncompressed. Its size takes reading it.
func (d *docker) packed(e entry, diffID digest.Digest) (registry.Descriptor, error) {
	if desc, ok := d.layers[e]; ok && desc.Digest == diffID {
		return desc, nil
	}
	b := blob{entry: e, packed: true}
	rc, err := d.table.openBlob(b)
	if err != nil {
		return registry.Descriptor{}, err
	}
	defer rc.Close()
	desc := registry.Descriptor{MediaType: image.TypeLayer, Digest: diffID}
	for buf := make([]byte, spoolBlock); ; {
		if err := d.ctx.Err(); err != nil {
			return registry.Descriptor{}, err
		}
		n, err := rc.Read(buf)
		if desc.Size += int64(n); tooMuch(desc.Size, e.size) {
			return registry.Descriptor{}, fmt.Errorf("%w: a layer of %d bytes so far, from %d", ErrLimit, desc.Size, e.size)
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return registry.Descriptor{}, err
		}
	}
	d.layers[e] = desc
	d.blobs[diffID] = b
	return desc, nil
}

func (d *docker) hashed(e entry, mediaType string) (registry.Descriptor, error) {
	if desc, ok := d.layers[e]; ok {
		return desc, nil
	}
	h := digest.SHA256.Digester()
	buf := make([]byte, spoolBlock)
	for r := d.table.open(e); ; {
		if err := d.ctx.Err(); err != nil {
			return registry.Descriptor{}, err
		}
		n, err := r.Read(buf)
		h.Hash().Write(buf[:n])
		if err == io.EOF {
			break
		}
		if err != nil {
			return registry.Descriptor{}, err
		}
	}
	desc := registry.Descriptor{MediaType: mediaType, Digest: h.Digest(), Size: e.size}
	d.layers[e] = desc
	d.blobs[desc.Digest] = blob{entry: e}
	return desc, nil
}

package image

import (
	"encoding/json"
	"fmt"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Layer is an uncompressed layer of an image to be assembled.
type Layer struct {
	DiffID digest.Digest
	Size   int64 // bytes of the uncompressed tar
	// Blob, where it is not zero, is what the layer travels as: the manifest refers to it in place of the tar.
	Blob Descriptor
}

// Assembled is an image as its bytes: the same config and layers give the same bytes.
type Assembled struct {
	Config, Manifest         []byte
	ConfigDesc, ManifestDesc Descriptor
}

// Assemble makes an OCI image of cfg and layers, bottom first. The layers are
// referred to uncompressed, by their diffIDs, but for those that have a Blob, and replace whatever cfg.RootFS
// says. cfg.History, if any, must have one entry per layer besides the empty ones.
// Errors: ErrInvalid.
func Assemble(cfg Config, layers []Layer) (Assembled, error) {
	if cfg.OS == "" || cfg.Architecture == "" {
		return Assembled{}, invalid("config: no os or architecture")
	}
	cfg.RootFS = ocispec.RootFS{Type: "layers", DiffIDs: make([]digest.Digest, 0, len(layers))}
	m := Manifest{MediaType: TypeManifest, Layers: make([]Descriptor, 0, len(layers))}
	m.SchemaVersion = 2
	for i, l := range layers {
		d := Descriptor{MediaType: TypeLayer, Digest: l.DiffID, Size: l.Size}
		if l.Blob.Digest != "" {
			d = l.Blob
		}
		if err := checkDescriptor(d); err != nil {
			return Assembled{}, invalid("layer %d: %w", i, err)
		}
		cfg.RootFS.DiffIDs = append(cfg.RootFS.DiffIDs, l.DiffID)
		m.Layers = append(m.Layers, d)
	}
	var a Assembled
	var err error
	if a.Config, a.ConfigDesc, err = describe(TypeConfig, cfg); err != nil {
		return Assembled{}, err
	}
	m.Config = a.ConfigDesc
	if err := Validate(cfg, m); err != nil {
		return Assembled{}, err
	}
	if n := LayersIn(cfg.History); len(cfg.History) > 0 && n != len(layers) {
		return Assembled{}, invalid("history tells of %d layers, there are %d", n, len(layers))
	}
	if a.Manifest, a.ManifestDesc, err = describe(TypeManifest, m); err != nil {
		return Assembled{}, err
	}
	return a, nil
}

// WithField is the image with one more field in its config, that is none of the spec's: who does not know it passes it by
// (OCI image spec, config.md). The value becomes JSON.
func (a Assembled) WithField(name string, value any) (Assembled, error) {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(a.Config, &fields); err != nil {
		return a, invalid("config: %w", err)
	}
	data, err := Marshal(value)
	if err != nil {
		return a, err
	}
	fields[name] = data
	m, err := ParseManifest(a.Manifest)
	if err != nil {
		return a, err
	}
	if a.Config, a.ConfigDesc, err = describe(TypeConfig, fields); err != nil {
		return a, err
	}
	m.Config = a.ConfigDesc
	a.Manifest, a.ManifestDesc, err = describe(TypeManifest, m)
	return a, err
}

// OCILayer is d with the OCI image spec's media type in place of docker's, as part of an OCI manifest.
func OCILayer(d Descriptor) Descriptor {
	if IsForeign(d.MediaType) {
		return d
	}
	switch kind, ok := compression(d.MediaType); {
	case !ok:
	case kind == "":
		d.MediaType = TypeLayer
	case kind == Compression(TypeLayerGzip):
		d.MediaType = TypeLayerGzip
	case kind == Compression(TypeLayerZstd):
		d.MediaType = TypeLayerZstd
	}
	return d
}

// AssembleIndex makes an OCI index of manifests.
func AssembleIndex(manifests []Descriptor, annotations map[string]string) ([]byte, Descriptor, error) {
	x := Index{MediaType: TypeIndex, Manifests: manifests, Annotations: annotations}
	x.SchemaVersion = 2
	if x.Manifests == nil {
		x.Manifests = []Descriptor{}
	}
	return describe(TypeIndex, x)
}

func describe(mediaType string, v any) ([]byte, Descriptor, error) {
	data, err := Marshal(v)
	if err != nil {
		return nil, Descriptor{}, fmt.Errorf("encode %s: %w", mediaType, err)
	}
	if len(data) > MaxSize {
		return nil, Descriptor{}, invalid("%s: %d bytes, more than %d", mediaType, len(data), MaxSize)
	}
	return data, Describe(mediaType, data), nil
}

// Describe returns the descriptor of data (sha256).
func Describe(mediaType string, data []byte) Descriptor {
	return Descriptor{MediaType: mediaType, Digest: digest.FromBytes(data), Size: int64(len(data))}
}

// Validate checks that a config and a manifest of its image agree: as many layers
// as diffIDs, and layers that are stored uncompressed being the diffIDs. Errors: ErrInvalid.
func Validate(cfg Config, m Manifest) error {
	ids := cfg.RootFS.DiffIDs
	if t := cfg.RootFS.Type; t != "layers" {
		return invalid("config: rootfs.type is %q, not \"layers\"", t)
	}
	if len(ids) != len(m.Layers) {
		return invalid("%d layers in the manifest, %d diff_ids in the config", len(m.Layers), len(ids))
	}
	for i, l := range m.Layers {
		if !IsLayer(l.MediaType) || Compression(l.MediaType) != "" || l.Digest.Algorithm() != ids[i].Algorithm() {
			continue
		}
		if l.Digest != ids[i] {
			return invalid("layer %d is %s, diff_ids says %s", i, l.Digest, ids[i])
		}
	}
	return nil
}

// LayersIn is how many layers a history tells of.
func LayersIn(history []History) int {
	n := 0
	for _, h := range history {
		if !h.EmptyLayer {
			n++
		}
	}
	return n
}

package image

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
)

// MaxSize is the most bytes a manifest, index or config may have: the limit the
// distribution spec recommends for manifests and registries enforce.
const MaxSize = 4 << 20

// ErrInvalid is wrapped by errors about bytes that are not what they should be.
var ErrInvalid = errors.New("invalid image")

func invalid(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrInvalid, fmt.Errorf(format, args...))
}

// ParseConfig reads a config blob. Errors: ErrInvalid.
func ParseConfig(data []byte) (Config, error) {
	var c Config
	if err := unmarshal("config", data, &c); err != nil {
		return Config{}, err
	}
	for i, d := range c.RootFS.DiffIDs {
		if err := d.Validate(); err != nil {
			return Config{}, invalid("config: rootfs.diff_ids[%d]: %w", i, err)
		}
	}
	return c, nil
}

// ParseManifest reads a manifest, OCI's or docker's. Errors: ErrInvalid.
func ParseManifest(data []byte) (Manifest, error) {
	if err := checkShape("manifest", data, IsManifest); err != nil {
		return Manifest{}, err
	}
	var m Manifest
	if err := unmarshal("manifest", data, &m); err != nil {
		return Manifest{}, err
	}
	if err := checkDescriptor(m.Config); err != nil {
		return Manifest{}, invalid("manifest: config: %w", err)
	}
	for i, l := range m.Layers {
		if err := checkDescriptor(l); err != nil {
			return Manifest{}, invalid("manifest: layers[%d]: %w", i, err)
		}
	}
	return m, nil
}

// ParseIndex reads an index, OCI's or docker's manifest list. Errors: ErrInvalid.
func ParseIndex(data []byte) (Index, error) {
	if err := checkShape("index", data, IsIndex); err != nil {
		return Index{}, err
	}
	var x Index
	if err := unmarshal("index", data, &x); err != nil {
		return Index{}, err
	}
	for i, d := range x.Manifests {
		if err := checkDescriptor(d); err != nil {
			return Index{}, invalid("index: manifests[%d]: %w", i, err)
		}
	}
	return x, nil
}

// MediaTypeOf returns the media type of a manifest or index, from what it says
// itself or else from its shape. Errors: ErrInvalid where it is neither.
func MediaTypeOf(data []byte) (string, error) {
	s, err := parseShape("manifest", data)
	switch {
	case err != nil:
		return "", err
	case s.MediaType != "":
		if IsIndex(s.MediaType) || IsManifest(s.MediaType) {
			return s.MediaType, nil
		}
	case s.SchemaVersion != 2: // the config of an image has a "config" too
	case s.Manifests != nil && s.Layers == nil && s.Config == nil:
		return TypeIndex, nil
	case s.Config != nil && s.Manifests == nil:
		return TypeManifest, nil
	}
	return "", invalid("neither a manifest nor an index")
}

// Marshal returns v as the JSON nacre writes: compact, keys in a fixed order, the
// same bytes for the same value, without HTML escapes.
func Marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// shape is what tells a manifest from an index.
type shape struct {
	SchemaVersion int             `json:"schemaVersion"`
	MediaType     string          `json:"mediaType"`
	Manifests     json.RawMessage `json:"manifests"`
	Layers        json.RawMessage `json:"layers"`
	Config        json.RawMessage `json:"config"`
	FSLayers      json.RawMessage `json:"fsLayers"`
}

func parseShape(what string, data []byte) (shape, error) {
	var s shape
	if err := unmarshal(what, data, &s); err != nil {
		return shape{}, err
	}
	if s.SchemaVersion == 1 || s.FSLayers != nil || s.MediaType == typeDockerManifestV1 || s.MediaType == typeDockerManifestV1JW {
		return shape{}, invalid("%s: docker's schema 1 is not supported", what)
	}
	return s, nil
}

// checkShape refuses a document whose media type is another one's, and one that
// could be read both as manifest and as index: such a document means different
// things to different readers (CVE-2021-41190).
func checkShape(what string, data []byte, is func(string) bool) error {
	s, err := parseShape(what, data)
	if err != nil {
		return err
	}
	if s.SchemaVersion != 2 {
		return invalid("%s: schemaVersion is %d, not 2", what, s.SchemaVersion)
	}
	if s.MediaType != "" && !is(s.MediaType) {
		return invalid("%s: mediaType is %q", what, s.MediaType)
	}
	if s.Manifests != nil && (s.Layers != nil || s.Config != nil) {
		return invalid("%s: has both manifests and layers", what)
	}
	if what == "index" && s.Manifests == nil {
		return invalid("index: no manifests")
	}
	return nil
}

func checkDescriptor(d Descriptor) error {
	if err := d.Digest.Validate(); err != nil {
		return fmt.Errorf("digest %q: %w", d.Digest, err)
	}
	if d.Size < 0 {
		return fmt.Errorf("%s: negative size", d.Digest)
	}
	if d.MediaType == "" {
		return fmt.Errorf("%s: no mediaType", d.Digest)
	}
	return nil
}

func unmarshal(what string, data []byte, v any) error {
	if len(data) > MaxSize {
		return invalid("%s: %d bytes, more than %d", what, len(data), MaxSize)
	}
	if err := json.Unmarshal(data, v); err != nil {
		return invalid("%s: %w", what, err)
	}
	return nil
}

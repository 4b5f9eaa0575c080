package portable

import (
	"bytes"
	"encoding/json"
	"fmt"

	"nacre/internal/cache"
	"nacre/internal/image"
	"nacre/internal/registry"

	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
)

// Records say the same again and again (environments, inputs), so that they travel compressed.

// ConfigTypeZstd is the media type of a config that is compressed with zstd.
const ConfigTypeZstd = ConfigType + "+zstd"

// pack compresses a config. The same bytes give the same bytes.
func pack(data []byte) ([]byte, error) {
	w, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedDefault))
	if err != nil {
		return nil, err
	}
	defer w.Close()
	return w.EncodeAll(data, nil), nil
}

// unpack is the reverse of pack, up to maxConfig bytes. Errors: ErrFormat.
func unpack(data []byte) ([]byte, error) {
	r, err := zstd.NewReader(bytes.NewReader(data), zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxConfig))
	if err != nil {
		return nil, err
	}
	defer r.Close()
	out, err := registry.ReadAll(r, maxConfig)
	if err != nil {
		return nil, fmt.Errorf("%w: config: %w", ErrFormat, err)
	}
	return out, nil
}

// InlineField is the field of an image's config that has the records which lead to the image's own layers. Its
// value is what pack makes of a config, in base64.
const InlineField = "vnd.nacre.cache.v1"

// Inline puts entries, whose layers are among those of an image, into its config. Whoever does not know of it takes the image as
// any other. Entries of other layers are left out.
func Inline(a image.Assembled, entries []cache.Entry, base string) (image.Assembled, error) {
	cfg, err := image.ParseConfig(a.Config)
	if err != nil {
		return a, err
	}
	in := map[digest.Digest]bool{}
	for _, d := range cfg.RootFS.DiffIDs {
		in[d] = true
	}
	var own []cache.Entry
	for _, e := range entries {
		if in[e.DiffID] {
			e.Note = nil // names of files have no place in an image
			own = append(own, e)
		}
	}
	data, err := newConfig(Contents{Entries: own}, base).marshal()
	if err == nil {
		data, err = pack(data)
	}
	if err != nil {
		return a, err
	}
	return a.WithField(InlineField, data)
}

// readInline reads what Inline put into the config of an image, and as what each of its layers travels. Records of other layers
// are left out: what became of them is not known. Errors: ErrFormat.
func readInline(config []byte, m image.Manifest, base string) ([]cache.Entry, map[digest.Digest]registry.Descriptor, error) {
	cfg, err := image.ParseConfig(config)
	if err == nil {
		err = image.Validate(cfg, m)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(config, &fields); err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	value, ok := fields[InlineField]
	if !ok {
		return nil, nil, fmt.Errorf("%w: the image has none in it; --cache-to type=inline puts it there", ErrFormat)
	}
	var packed []byte
	if err := json.Unmarshal(value, &packed); err != nil {
		return nil, nil, fmt.Errorf("%w: %s: %w", ErrFormat, InlineField, err)
	}
	data, err := unpack(packed)
	if err != nil {
		return nil, nil, err
	}
	all, _, err := parseConfig(data, base)
	if err != nil {
		return nil, nil, err
	}
	blobs := map[digest.Digest]registry.Descriptor{}
	for i, d := range cfg.RootFS.DiffIDs {
		blobs[d] = m.Layers[i]
	}
	var entries []cache.Entry
	for _, e := range all.Entries {
		if _, ok := blobs[e.DiffID]; ok {
			entries = append(entries, e)
		}
	}
	return entries, blobs, nil
}

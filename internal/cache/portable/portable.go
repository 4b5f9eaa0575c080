// Package portable writes what a build cache holds as an image into a registry, and
// reads it back where another machine builds: --cache-to and --cache-from.
//
// The image is an artifact of the OCI image spec: its layers are those that cached steps
// made, as they travel, and its config lists the records that lead to them. docs/formats.md
// has the bytes. Any registry.Writer takes it: a layout in a folder, or a remote registry.
package portable

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"nacre/internal/cache"
	"nacre/internal/image"

	"github.com/opencontainers/go-digest"
)

const (
	// ArtifactType is that of the manifest.
	ArtifactType = "application/vnd.nacre.cache.v1"
	// ConfigType is the media type of the config.
	ConfigType = "application/vnd.nacre.cache.config.v1+json"

	// maxNote bounds one note in bytes, maxNotes all of them: a cache is fetched by whoever builds, and most of them hit.
	maxNote  = 256 << 10
	maxNotes = 4 << 20

	// maxConfig bounds the config in bytes: some 50,000 steps.
	maxConfig = 64 << 20
)

// ErrFormat: an image that is no cache, or not one of ours.
var ErrFormat = errors.New("not a build cache")

// config is the config of the image. Layers are in the order of the manifest's.
type config struct {
	Layers  []digest.Digest `json:"layers"` // diffIDs
	Records []record        `json:"records"`
	Mounts  []mount         `json:"mounts,omitempty"`
}

type record struct {
	Slot string `json:"slot"`
	// Fields are what the key hashes, as cache.Record.Encode writes them.
	Fields  []byte        `json:"fields"`
	Layer   int           `json:"layer"` // which of Layers came out
	Content digest.Digest `json:"content"`
	Created time.Time     `json:"created"`
	Size    int64         `json:"size"`
	// Note is what explains misses (package note); the largest stay at home.
	Note []byte `json:"note,omitempty"`
}

// newConfig lists contents. Their layers are in the order of their first use.
func newConfig(contents Contents, base string) config {
	var c config
	notes := maxNotes
	places := map[digest.Digest]int{}
	place := func(d digest.Digest) int {
		n, ok := places[d]
		if !ok {
			n = len(c.Layers)
			places[d] = n
			c.Layers = append(c.Layers, d)
		}
		return n
	}
	for _, e := range contents.Entries {
		r := record{
			Slot: relative(e.Slot, base), Fields: e.Encode(), Layer: place(e.DiffID),
			Content: e.Content, Created: e.Created, Size: e.Size,
		}
		if len(e.Note) <= min(maxNote, notes) {
			r.Note = e.Note
			notes -= len(e.Note)
		}
		c.Records = append(c.Records, r)
	}
	for _, m := range contents.Mounts {
		c.Mounts = append(c.Mounts, mount{m.ID, m.Variant, m.Mode, m.UID, m.GID, place(m.DiffID)})
	}
	return c
}

// parseConfig reads a config and checks it. Keys are computed from the fields, so that
// no record can claim another's. Errors: ErrFormat.
func parseConfig(data []byte, base string) (Contents, []digest.Digest, error) {
	var c config
	if err := json.Unmarshal(data, &c); err != nil {
		return Contents{}, nil, fmt.Errorf("%w: config: %w", ErrFormat, err)
	}
	for i, d := range c.Layers {
		if err := d.Validate(); err != nil {
			return Contents{}, nil, fmt.Errorf("%w: layers[%d]: %w", ErrFormat, i, err)
		}
	}
	entries := make([]cache.Entry, len(c.Records))
	for i, r := range c.Records {
		rec, err := cache.Decode(absolute(r.Slot, base), r.Fields)
		if err == nil && (r.Layer < 0 || r.Layer >= len(c.Layers)) {
			err = fmt.Errorf("there is no layer %d", r.Layer)
		}
		if err == nil {
			err = r.Content.Validate()
		}
		if err != nil {
			return Contents{}, nil, fmt.Errorf("%w: records[%d]: %w", ErrFormat, i, err)
		}
		if len(r.Note) <= maxNote {
			rec.Note = r.Note
		}
		entries[i] = cache.Entry{Record: rec, Output: cache.Output{
			DiffID: c.Layers[r.Layer], Content: r.Content, Created: r.Created, Size: r.Size,
		}}
	}
	mounts := make([]Mount, len(c.Mounts))
	for i, m := range c.Mounts {
		var err error
		if mounts[i], err = m.value(c.Layers); err != nil {
			return Contents{}, nil, fmt.Errorf("%w: mounts[%d]: %w", ErrFormat, i, err)
		}
	}
	return Contents{entries, mounts}, c.Layers, nil
}

func (c config) marshal() ([]byte, error) {
	data, err := image.Marshal(c)
	if err == nil && len(data) > maxConfig {
		err = fmt.Errorf("cache records of %d bytes, more than %d", len(data), maxConfig)
	}
	return data, err
}

// relative takes the place where a build was out of a slot: another machine has it
// elsewhere, and it is nobody's business.
func relative(slot, base string) string {
	if rest, ok := strings.CutPrefix(slot, base+"\x00"); ok && base != "" {
		return "\x00" + rest
	}
	return slot
}

func absolute(slot, base string) string {
	if strings.HasPrefix(slot, "\x00") {
		return base + slot
	}
	return slot
}

package portable

import (
	"errors"

	"nacre/internal/cache"

	"github.com/opencontainers/go-digest"
)

// Contents are what goes into an exported cache.
type Contents struct {
	Entries []cache.Entry
	Mounts  []Mount
}

// Mount is a directory of RUN --mount=type=cache. Its contents travel as a layer beside those of steps.
type Mount struct {
	ID, Variant string        // what it is found by
	Mode        uint32        // of the directory itself: bits as in st_mode
	UID, GID    int           // its owner
	DiffID      digest.Digest // of its contents
}

// mount is a Mount in a config.
type mount struct {
	ID      string `json:"id"`
	Variant string `json:"variant,omitempty"`
	Mode    uint32 `json:"mode"`
	UID     int    `json:"uid,omitempty"`
	GID     int    `json:"gid,omitempty"`
	Layer   int    `json:"layer"` // which of the config's layers
}

// value checks what was read, of a config with these layers.
func (m mount) value(layers []digest.Digest) (Mount, error) {
	switch {
	case m.ID == "":
		return Mount{}, errors.New("id is missing")
	case m.Mode&^0o7777 != 0, m.UID < 0, m.GID < 0:
		return Mount{}, errors.New("there is no such mode or owner")
	case m.Layer < 0 || m.Layer >= len(layers):
		return Mount{}, errors.New("there is no such layer")
	}
	return Mount{m.ID, m.Variant, m.Mode, m.UID, m.GID, layers[m.Layer]}, nil
}

package image

import (
	"slices"

	"github.com/opencontainers/go-digest"
)

// Made is one line of an image's history with the layer it made, if any.
type Made struct {
	History
	Layer  *Descriptor   // nil for an empty layer
	DiffID digest.Digest // empty for an empty layer
}

// Trace pairs the history of an image with its layers, oldest first. Layers the history
// does not tell of (some tools write none) come as lines of their own, at the end.
// Histories beyond the last layer come without one.
func Trace(cfg Config, m Manifest) []Made {
	made := make([]Made, 0, len(cfg.History))
	next := 0
	take := func(h History) Made {
		x := Made{History: h}
		if h.EmptyLayer {
			return x
		}
		if next < len(m.Layers) {
			x.Layer = &m.Layers[next]
		}
		if next < len(cfg.RootFS.DiffIDs) {
			x.DiffID = cfg.RootFS.DiffIDs[next]
		}
		next++
		return x
	}
	for _, h := range cfg.History {
		made = append(made, take(h))
	}
	for next < len(m.Layers) {
		made = append(made, take(History{}))
	}
	return made
}

// WholeHistory is h with as many lines that have a layer as there are layers: some tools write none, or too few (the
// OCI image spec makes history optional), and what is put on top must not be taken for theirs.
func WholeHistory(h []History, layers int) []History {
	h = slices.Clone(h)
	for i := range h {
		switch {
		case h[i].EmptyLayer:
		case layers == 0:
			h[i].EmptyLayer = true
		default:
			layers--
		}
	}
	return append(h, make([]History, layers)...)
}

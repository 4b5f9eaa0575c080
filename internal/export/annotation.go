package export

import (
	"errors"
	"maps"
	"slices"

	"nacre/internal/image"
)

// Place is what an annotation is of.
type Place int

// The places, as BuildKit calls them (docs/annotations.md).
const (
	Manifest           Place = iota // the manifest of each image
	ManifestDescriptor              // what describes it: in an index, or in the list of a layout
	Index
	IndexDescriptor
)

// Annotation is one to add.
type Annotation struct {
	Place      Place
	Platform   *image.Platform // of the images it is for; nil: all
	Key, Value string
}

// Annotations to add; a later one of the same key replaces the earlier.
type Annotations []Annotation

// ErrNoIndex: annotations for an index were asked for, and there is none.
var ErrNoIndex = errors.New("index annotations are not supported for a build of a single platform")

// Of adds those for a place to notes, which stays as it is.
func (a Annotations) Of(place Place, p image.Platform, notes map[string]string) map[string]string {
	out := maps.Clone(notes)
	for _, n := range a {
		if n.Place != place || n.Platform != nil && !fits(*n.Platform, p) {
			continue
		}
		if out == nil {
			out = map[string]string{}
		}
		out[n.Key] = n.Value
	}
	return out
}

func fits(want, have image.Platform) bool {
	_, err := image.MatchPlatform(image.Index{Manifests: []image.Descriptor{{MediaType: image.TypeManifest, Platform: &have}}}, want)
	return err == nil
}

// NeedIndex tells whether there are any for an index.
func (a Annotations) NeedIndex() bool {
	return slices.ContainsFunc(a, func(n Annotation) bool { return n.Place == Index || n.Place == IndexDescriptor })
}

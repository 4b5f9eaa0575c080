package registry

import (
	"encoding/json"
	"fmt"

	"github.com/opencontainers/go-digest"

	"nacre/internal/image"
)

// Refers returns what the manifest or index d, whose bytes are data, refers to:
// config and layers bottom first, or manifests. Anything else refers to nothing.
// A subject is not among them: it may well be absent. Errors: ErrInvalid.
func Refers(d Descriptor, data []byte) ([]Descriptor, error) {
	switch {
	case image.IsIndex(d.MediaType):
		x, err := image.ParseIndex(data)
		if err != nil {
			return nil, fmt.Errorf("%w: %s: %w", ErrInvalid, d.Digest, err)
		}
		return x.Manifests, nil
	case image.IsManifest(d.MediaType):
		m, err := image.ParseManifest(data)
		if err != nil {
			return nil, fmt.Errorf("%w: %s: %w", ErrInvalid, d.Digest, err)
		}
		return append([]Descriptor{m.Config}, m.Layers...), nil
	}
	return nil, nil
}

// MayLack tells whether a manifest is whole without d: a layer that has to be
// fetched from its own URLs.
func MayLack(d Descriptor) bool { return len(d.URLs) > 0 && image.IsForeign(d.MediaType) }

// Subject returns what the manifest or index d, whose bytes are data, says it is about,
// and how a list of referrers describes it: with its artifact type, which for an image
// is its config's media type, and its annotations (OCI distribution spec, "Listing
// Referrers"). A zero Digest: it is about nothing.
func Subject(d Descriptor, data []byte) (subject digest.Digest, as Descriptor) {
	var m struct {
		ArtifactType string            `json:"artifactType"`
		Annotations  map[string]string `json:"annotations"`
		Config       Descriptor        `json:"config"`
		Subject      *Descriptor       `json:"subject"`
	}
	if json.Unmarshal(data, &m) != nil || m.Subject == nil {
		return "", Descriptor{}
	}
	as = Descriptor{MediaType: d.MediaType, Digest: d.Digest, Size: int64(len(data)), Annotations: m.Annotations, ArtifactType: m.ArtifactType}
	if as.ArtifactType == "" {
		as.ArtifactType = m.Config.MediaType
	}
	return m.Subject.Digest, as
}

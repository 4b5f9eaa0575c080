package registry

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"nacre/internal/image"
)

// Annotations of the entries of a layout's index.json that say what they are named.
const (
	// nameAnnotation holds the whole name. containerd, BuildKit and docker write it.
	nameAnnotation = "io.containerd.image.name"
	// refAnnotation holds the tag, by the spec; some tools put the whole name there.
	refAnnotation = ocispec.AnnotationRefName
)

// MaxNames bounds index.json, which grows with the number of images (some 400
// bytes each) and so may be longer than the indexes of images.
const MaxNames = 32 << 20

// Names is what an OCI image layout's index.json says: which manifests there are,
// and what they are named. It is a value: changing it gives another. The zero Names has none.
//
// An entry may have only a tag, or no name at all: its Ref then has only Tag or Digest.
type Names struct {
	index image.Index
}

// ParseNames reads an index.json. Errors: ErrInvalid.
func ParseNames(data []byte) (Names, error) {
	if len(data) > MaxNames {
		return Names{}, fmt.Errorf("%w: index.json: %d bytes, more than %d", ErrInvalid, len(data), MaxNames)
	}
	var n Names
	if err := json.Unmarshal(data, &n.index); err != nil {
		return Names{}, fmt.Errorf("%w: index.json: %w", ErrInvalid, err)
	}
	if v := n.index.SchemaVersion; v != 2 {
		return Names{}, fmt.Errorf("%w: index.json: schemaVersion is %d, not 2", ErrInvalid, v)
	}
	for i, d := range n.index.Manifests {
		if err := CheckDescriptor(d); err != nil {
			return Names{}, fmt.Errorf("index.json: manifests[%d]: %w", i, err)
		}
	}
	return n, nil
}

// Marshal returns the index.json: the same bytes for the same names.
func (n Names) Marshal() ([]byte, error) {
	x := n.index
	x.SchemaVersion, x.MediaType = 2, image.TypeIndex
	if x.Manifests == nil {
		x.Manifests = []Descriptor{}
	}
	return image.Marshal(x)
}

// Resolve finds what ref names: by digest, or by repository and tag. A ref without
// repository finds any entry of that tag, one without anything the only image there is.
// Errors: ErrAbsent; ErrInvalid where several images fit.
func (n Names) Resolve(ref Ref) (Descriptor, error) {
	fits := func(e Ref, d Descriptor) bool {
		switch {
		case ref.Digest != "":
			return d.Digest == ref.Digest
		case ref.Repo == "":
			return ref.Tag == "" || e.Tag == ref.Tag
		}
		return e.Repo == ref.Repo && e.Tag == ref.Tag
	}
	var found Descriptor
	for _, d := range n.index.Manifests {
		if !isManifest(d) || !fits(nameOf(d), d) {
			continue
		}
		if found.Digest != "" && found.Digest != d.Digest {
			return Descriptor{}, fmt.Errorf("%w: several images fit the name %q", ErrInvalid, ref)
		}
		found = d
	}
	if found.Digest == "" {
		return Descriptor{}, fmt.Errorf("%q: %w", ref, ErrAbsent)
	}
	return plain(found), nil
}

// All returns every image in order of name.
func (n Names) All() []Named {
	var all []Named
	for _, d := range n.index.Manifests {
		if isManifest(d) {
			all = append(all, Named{Ref: nameOf(d), Desc: plain(d)})
		}
	}
	slices.SortStableFunc(all, func(a, b Named) int { return strings.Compare(a.Ref.String(), b.Ref.String()) })
	return all
}

// NamesOf lists images under their names. Of several images of one name the last has it;
// a Ref without a tag lists an image without a name, where it has no other.
func NamesOf(all []Named) Names {
	last := map[Ref]int{}
	named := map[digest.Digest]bool{}
	for i, n := range all {
		last[key(n)] = i
		named[n.Desc.Digest] = named[n.Desc.Digest] || n.Ref.Tag != ""
	}
	var entries []Descriptor
	for i, n := range all {
		if last[key(n)] != i || (n.Ref.Tag == "" && named[n.Desc.Digest]) {
			continue
		}
		entries = append(entries, entry(n))
	}
	return Names{}.replace(entries)
}

// With adds a name for d, taking it from whatever had it. Where ref has no tag, d
// is listed without a name, unless it is listed already.
func (n Names) With(ref Ref, d Descriptor) Names {
	add := Named{ref, d}
	drop := func(e Descriptor) bool {
		// A name makes the nameless entry needless.
		return nameOf(e) == key(add) || nameOf(e) == Ref{Digest: d.Digest}
	}
	if ref.Tag == "" {
		if slices.ContainsFunc(n.index.Manifests, func(e Descriptor) bool { return e.Digest == d.Digest }) {
			return n
		}
	}
	entries := slices.DeleteFunc(slices.Clone(n.index.Manifests), drop)
	return n.replace(append(entries, entry(add)))
}

// key is the Ref under which an entry is found again: what nameOf will say of it.
func key(n Named) Ref {
	if n.Ref.Tag == "" {
		return Ref{Digest: n.Desc.Digest}
	}
	return Ref{Repo: n.Ref.Repo, Tag: n.Ref.Tag}
}

// entry is how an image and its name are written.
func entry(n Named) Descriptor {
	d := plain(n.Desc)
	ref := key(n)
	if ref.Tag == "" {
		return d
	}
	if d.Annotations == nil {
		d.Annotations = map[string]string{}
	}
	d.Annotations[refAnnotation] = ref.Tag
	if ref.Repo != "" {
		d.Annotations[nameAnnotation] = ref.String()
	}
	return d
}

// Without removes a name. It tells whether there was one.
func (n Names) Without(ref Ref) (Names, bool) {
	ref = key(Named{ref, Descriptor{Digest: ref.Digest}})
	return n.without(func(d Descriptor) bool { return nameOf(d) == ref })
}

// WithoutDigest removes everything that names d. It tells whether anything did.
func (n Names) WithoutDigest(d digest.Digest) (Names, bool) {
	return n.without(func(e Descriptor) bool { return e.Digest == d })
}

func (n Names) without(drop func(Descriptor) bool) (Names, bool) {
	entries := slices.DeleteFunc(slices.Clone(n.index.Manifests), drop)
	return n.replace(entries), len(entries) < len(n.index.Manifests)
}

func (n Names) replace(entries []Descriptor) Names {
	n.index.Manifests = entries
	return n
}

// isManifest: a layout's index may list other things, to be ignored (OCI image-layout.md).
func isManifest(d Descriptor) bool {
	return image.IsIndex(d.MediaType) || image.IsManifest(d.MediaType)
}

// nameOf reads the name of an entry. Where its two annotations disagree on the tag,
// the spec's decides: umoci copies an entry under another tag and changes that one alone.
func nameOf(d Descriptor) Ref {
	tag := d.Annotations[refAnnotation]
	if ref, ok := fullName(d.Annotations[nameAnnotation]); ok {
		if tag != "" && !strings.ContainsAny(tag, "/:@") {
			ref.Tag = tag
		}
		return ref
	}
	if strings.ContainsAny(tag, "/:") {
		if ref, ok := fullName(tag); ok {
			return ref
		}
	}
	if tag != "" {
		return Ref{Tag: tag}
	}
	return Ref{Digest: d.Digest}
}

func fullName(s string) (Ref, bool) {
	if s == "" {
		return Ref{}, false
	}
	ref, err := ParseRef(s)
	return Ref{Repo: ref.Repo, Tag: ref.Tag}, err == nil && ref.Tag != ""
}

// plain is d without its names.
func plain(d Descriptor) Descriptor {
	d.Annotations = maps.Clone(d.Annotations)
	delete(d.Annotations, nameAnnotation)
	delete(d.Annotations, refAnnotation)
	if len(d.Annotations) == 0 {
		d.Annotations = nil
	}
	return d
}

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

// MaxNames bounds index.json in bytes. It grows with the number of images (some 400
// bytes each) and so may be longer than the indexes of images.
const MaxNames = 32 << 20

// Names is what an OCI image layout's index.json says: which manifests there are,
// and what they are named. It is a value: changing it gives another. The zero Names has none.
//
// An entry may have only a tag, or no name at all: its Ref then has only Tag or Digest.
type Names struct {
	entries []listed
	index   image.Index // all but the entries
}

// listed is one entry of index.json.
type listed struct {
	ref  Ref        // what its annotations mean
	desc Descriptor // as it is written, with them
}

// manifest tells whether the entry is an image: a layout's index may list other things, to be
// ignored (OCI image-layout.md).
func (l listed) manifest() bool { return isManifest(l.desc) }

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
		n.entries = append(n.entries, listed{nameOf(d), d})
	}
	n.index.Manifests = nil
	return n, nil
}

// NamesOf lists images under their names. Of several images of one name the last has it;
// a Ref without a tag lists an image without a name, where it has no other.
func NamesOf(all []Named) Names {
	last := map[Ref]int{}
	named := map[digest.Digest]bool{}
	entries := make([]listed, len(all))
	for i, n := range all {
		entries[i] = list(n)
		last[entries[i].ref] = i
		named[n.Desc.Digest] = named[n.Desc.Digest] || n.Ref.Tag != ""
	}
	var n Names
	for i, e := range entries {
		if last[e.ref] == i && (e.ref.Tag != "" || !named[e.desc.Digest]) {
			n.entries = append(n.entries, e)
		}
	}
	return n
}

// Marshal returns the index.json: the same bytes for the same names.
func (n Names) Marshal() ([]byte, error) {
	x := n.index
	x.SchemaVersion, x.MediaType = 2, image.TypeIndex
	x.Manifests = make([]Descriptor, 0, len(n.entries))
	for _, e := range n.entries {
		x.Manifests = append(x.Manifests, e.desc)
	}
	return image.Marshal(x)
}

// Resolve finds what ref names: by digest, or by repository and tag. A ref without
// repository finds any entry of that tag, one without anything the only image there is.
// Errors: ErrAbsent; ErrInvalid where several images fit.
func (n Names) Resolve(ref Ref) (Descriptor, error) {
	fits := func(e listed) bool {
		switch {
		case ref.Digest != "":
			return e.desc.Digest == ref.Digest
		case ref.Repo == "":
			return ref.Tag == "" || e.ref.Tag == ref.Tag
		}
		return e.ref.Repo == ref.Repo && e.ref.Tag == ref.Tag
	}
	var found Descriptor
	for _, e := range n.entries {
		if !e.manifest() || !fits(e) {
			continue
		}
		if found.Digest != "" && found.Digest != e.desc.Digest {
			return Descriptor{}, fmt.Errorf("%w: several images fit the name %q", ErrInvalid, ref)
		}
		found = e.desc
	}
	if found.Digest == "" {
		return Descriptor{}, fmt.Errorf("%q: %w", ref, ErrAbsent)
	}
	return plain(found), nil
}

// All returns every image in order of name.
func (n Names) All() []Named {
	type keyed struct {
		name string
		listed
	}
	var sorted []keyed
	for _, e := range n.entries {
		if e.manifest() {
			sorted = append(sorted, keyed{e.ref.String(), e})
		}
	}
	slices.SortStableFunc(sorted, func(a, b keyed) int { return strings.Compare(a.name, b.name) })
	all := make([]Named, len(sorted))
	for i, k := range sorted {
		all[i] = Named{Ref: k.ref, Desc: plain(k.desc)}
	}
	return all
}

// With adds a name for d, taking it from whatever had it. Where ref has no tag, d
// is listed without a name, unless it is listed already.
func (n Names) With(ref Ref, d Descriptor) Names {
	add := list(Named{ref, d})
	if add.ref.Tag == "" && slices.ContainsFunc(n.entries, func(e listed) bool { return e.desc.Digest == d.Digest }) {
		return n
	}
	n, _ = n.without(func(e listed) bool {
		// A name makes the nameless entry needless.
		return e.ref == add.ref || e.ref == Ref{Digest: d.Digest}
	})
	n.entries = append(n.entries, add)
	return n
}

// Without removes a name. It tells whether there was one.
func (n Names) Without(ref Ref) (Names, bool) {
	want := key(ref)
	return n.without(func(e listed) bool { return e.ref == want })
}

// WithoutDigest removes everything that names d. It tells whether anything did.
func (n Names) WithoutDigest(d digest.Digest) (Names, bool) {
	return n.without(func(e listed) bool { return e.desc.Digest == d })
}

// without always returns entries of its own, so that they can be appended to.
func (n Names) without(drop func(listed) bool) (Names, bool) {
	before := len(n.entries)
	n.entries = slices.DeleteFunc(slices.Clone(n.entries), drop)
	return n, len(n.entries) < before
}

// list makes the entry for an image and its name.
func list(n Named) listed {
	ref := key(Ref{Repo: n.Ref.Repo, Tag: n.Ref.Tag, Digest: n.Desc.Digest})
	d := plain(n.Desc)
	if ref.Tag == "" {
		return listed{ref, d}
	}
	if d.Annotations == nil {
		d.Annotations = map[string]string{}
	}
	d.Annotations[refAnnotation] = ref.Tag
	if ref.Repo != "" {
		d.Annotations[nameAnnotation] = ref.String()
	}
	return listed{ref, d}
}

// key is the Ref under which an entry is found again: what nameOf says of it.
func key(ref Ref) Ref {
	if ref.Tag == "" {
		return Ref{Digest: ref.Digest}
	}
	return Ref{Repo: ref.Repo, Tag: ref.Tag}
}

// isManifest tells whether d names an image or several.
func isManifest(d Descriptor) bool {
	return image.IsManifestOrIndex(d.MediaType)
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

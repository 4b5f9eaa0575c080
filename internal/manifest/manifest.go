// Package manifest makes and changes images for several platforms: indexes of the store, that list images which are
// there or in registries. What is listed need not be fetched: the store remembers where each was found.
//
// It leaves to the store what an index is to be kept with, and to package registry how it travels.
package manifest

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"slices"

	"nacre/internal/image"
	"nacre/internal/registry"
	"nacre/internal/registry/store"

	"github.com/opencontainers/go-digest"
)

// ErrNotList: an image that is for one platform alone.
var ErrNotList = errors.New("not a manifest list")

// ErrUnlisted: an image that a list does not have.
var ErrUnlisted = errors.New("not in the manifest list")

// Lists are the indexes of a store.
type Lists struct {
	Store *store.Store
	// Remote has the images of the world's registries.
	Remote func(context.Context) (registry.Reader, error)
}

// Entry is an image that a list has or is to have.
type Entry struct {
	Desc registry.Descriptor // with its platform
	// Ref is what it was found as, with the repository that has it where the store has not. Zero: an image of the store without a name.
	Ref registry.Ref
}

// List is an index with the name it has. It is a value: changing it gives another.
type List struct {
	Name  registry.Ref
	Index image.Index
	refs  map[digest.Digest][]registry.Ref // what entries were found as
	local bool
}

// New returns an empty list.
func New(name registry.Ref) List {
	x := image.Index{MediaType: image.TypeIndex}
	x.SchemaVersion = 2
	return List{Name: name, Index: x}
}

// Open reads the list called name. The name is that of the list whatever the error. Errors: registry.ErrAbsent, ErrNotList.
func (l *Lists) Open(ctx context.Context, name registry.Ref) (List, error) {
	x := List{Name: name, refs: map[digest.Digest][]registry.Ref{}, local: true}
	d, err := l.Store.Resolve(ctx, name)
	if err != nil {
		return x, err
	}
	if !image.IsIndex(d.MediaType) {
		return x, fmt.Errorf("%s: %w: it is an image for one platform", name.Familiar(), ErrNotList)
	}
	data, err := registry.ReadDocument(ctx, l.Store, "", d)
	if err != nil {
		return x, err
	}
	if x.Index, err = image.ParseIndex(data); err != nil {
		return x, err
	}
	for _, m := range x.Index.Manifests {
		refs, err := l.Store.Origins(ctx, m.Digest)
		if err != nil {
			return x, err
		}
		if len(refs) == 0 { // it was pulled, and what was not is where the list came from
			x.local = false
			refs = []registry.Ref{{Repo: name.Repo, Digest: m.Digest}}
		}
		x.refs[m.Digest] = refs
	}
	return x, nil
}

// Local tells whether the list was made here, and not pulled or loaded: its entries were found one by one.
func (x List) Local() bool { return x.local }

// Change replaces the list called name by what f makes of it, alone among all processes. f is told that there is none by
// registry.ErrAbsent, and may return a new one.
func (l *Lists) Change(ctx context.Context, name registry.Ref, f func(List, error) (List, error)) (store.Image, error) {
	unlock, err := l.Store.Lock(ctx, fmt.Sprintf("list-%x", sha256.Sum256([]byte(name.String()))))
	if err != nil {
		return store.Image{}, err
	}
	defer unlock()
	x, err := f(l.Open(ctx, name))
	if err != nil {
		return store.Image{}, err
	}
	x.Index.MediaType = image.TypeIndex // docker's list has no annotations
	if x.Index.Manifests == nil {
		x.Index.Manifests = []registry.Descriptor{}
	}
	data, err := image.Marshal(x.Index)
	if err != nil {
		return store.Image{}, err
	}
	var origins []store.Origin
	for _, m := range x.Index.Manifests {
		for _, ref := range x.refs[m.Digest] {
			origins = append(origins, store.Origin{Digest: m.Digest, Ref: ref})
		}
	}
	return l.Store.PutIndex(ctx, data, name, origins)
}

// Add returns x with an entry. What was found by the same name before goes; what x has already stays as it is.
func (x List) Add(e Entry) List {
	x = x.clone()
	if e.Ref.Tag != "" {
		x.Index.Manifests = slices.DeleteFunc(x.Index.Manifests, func(d registry.Descriptor) bool {
			return d.Digest != e.Desc.Digest && slices.Contains(x.refs[d.Digest], e.Ref)
		})
	}
	if !e.Ref.IsZero() && !slices.Contains(x.refs[e.Desc.Digest], e.Ref) {
		x.refs[e.Desc.Digest] = append(slices.Clone(x.refs[e.Desc.Digest]), e.Ref)
	}
	if x.index(e.Desc.Digest) < 0 {
		x.Index.Manifests = append(x.Index.Manifests, e.Desc)
	}
	return x
}

// Note returns x with annotations of its own besides those it has.
func (x List) Note(annotations map[string]string) List {
	if len(annotations) == 0 {
		return x
	}
	x = x.clone()
	x.Index.Annotations = maps.Clone(x.Index.Annotations)
	if x.Index.Annotations == nil {
		x.Index.Annotations = map[string]string{}
	}
	maps.Copy(x.Index.Annotations, annotations)
	return x
}

// Remove returns x without an entry. Errors: ErrUnlisted.
func (x List) Remove(d digest.Digest) (List, error) {
	i := x.index(d)
	if i < 0 {
		return x, fmt.Errorf("%s: %w %s", d, ErrUnlisted, x.Name.Familiar())
	}
	x = x.clone()
	x.Index.Manifests = slices.Delete(x.Index.Manifests, i, i+1)
	return x, nil
}

func (x List) clone() List {
	x.Index.Manifests = slices.Clone(x.Index.Manifests)
	refs := map[digest.Digest][]registry.Ref{}
	maps.Copy(refs, x.refs)
	x.refs = refs
	return x
}

func (x List) index(d digest.Digest) int {
	return slices.IndexFunc(x.Index.Manifests, func(m registry.Descriptor) bool { return m.Digest == d })
}

package archive

import (
	"github.com/opencontainers/go-digest"

	"nacre/internal/image"
	"nacre/internal/registry"
)

// items is docker's manifest.json: one entry per image, with all its names. Of an index it is
// the image for this machine, or else the first that was copied. Artifacts, which are no
// images, are not listed. An archive that is for OCI has none.
func (w *Writer) items(names registry.Names) ([]byte, error) {
	if w.kind != Docker {
		return nil, nil
	}
	items := []item{}
	where := map[digest.Digest]int{}
	for _, n := range names.All() {
		d, ok := w.image(n.Desc, map[digest.Digest]bool{})
		if !ok {
			continue
		}
		i, ok := where[d.Digest]
		if !ok {
			i = len(items)
			where[d.Digest] = i
			items = append(items, w.item(d))
		}
		if n.Ref.Repo != "" && n.Ref.Tag != "" {
			items[i].RepoTags = append(items[i].RepoTags, n.Ref.Familiar())
		}
	}
	return image.Marshal(items)
}

// repositories is what docker's archives had in place of names in manifest.json: for each repository its tags,
// and for each of these the topmost layer. Some tools still read it; it is nil without names.
func (w *Writer) repositories(names registry.Names) ([]byte, error) {
	if w.kind != Docker {
		return nil, nil
	}
	repos := map[string]map[string]string{}
	for _, n := range names.All() {
		d, ok := w.image(n.Desc, map[digest.Digest]bool{})
		if !ok || n.Ref.Repo == "" || n.Ref.Tag == "" {
			continue
		}
		m, err := image.ParseManifest(w.manifests[d.Digest])
		if err != nil || len(m.Layers) == 0 {
			continue
		}
		repo := n.Ref.FamiliarRepo()
		if repos[repo] == nil {
			repos[repo] = map[string]string{}
		}
		repos[repo][n.Ref.Tag] = m.Layers[len(m.Layers)-1].Digest.Encoded()
	}
	if len(repos) == 0 {
		return nil, nil
	}
	return image.Marshal(repos)
}

// image finds the one image that d stands for, among those not looked at already.
func (w *Writer) image(d registry.Descriptor, seen map[digest.Digest]bool) (registry.Descriptor, bool) {
	data, ok := w.manifests[d.Digest]
	if !ok || seen[d.Digest] {
		return d, false
	}
	seen[d.Digest] = true
	if image.IsManifest(d.MediaType) {
		m, err := image.ParseManifest(data)
		return d, err == nil && image.IsConfig(m.Config.MediaType) && w.layersOnly(m)
	}
	x, err := image.ParseIndex(data)
	if err != nil {
		return d, false
	}
	if c, err := image.MatchPlatform(x, image.DefaultPlatform()); err == nil {
		if found, ok := w.image(c, seen); ok {
			return found, true
		}
	}
	for _, c := range x.Manifests {
		if found, ok := w.image(c, seen); ok {
			return found, true
		}
	}
	return d, false
}

// layersOnly: attestations have a config like an image's but layers that are no tars.
func (w *Writer) layersOnly(m image.Manifest) bool {
	for _, l := range m.Layers {
		if _, ok := w.blobs[l.Digest]; !ok || !image.IsLayer(l.MediaType) {
			return false
		}
	}
	return true
}

func (w *Writer) item(d registry.Descriptor) item {
	m, err := image.ParseManifest(w.manifests[d.Digest])
	if err != nil {
		return item{} // w.image has parsed it
	}
	it := item{Config: blobName(m.Config.Digest), Layers: []string{}}
	for _, l := range m.Layers {
		it.Layers = append(it.Layers, blobName(l.Digest))
	}
	return it
}

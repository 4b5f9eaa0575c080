package archive

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"nacre/internal/image"
	"nacre/internal/layer"
	"nacre/internal/registry"
)

// What docker save wrote before version 1.10 has no configs: every layer is an image of its own, in a folder
// named by its ID, with VERSION, json (image/spec/v1.md of moby) and layer.tar, and says which is its parent. The
// file repositories, which is missing where nothing had a name, says what the topmost are called.

// repositoriesFile is a JSON object: repository → tag → ID.
const repositoriesFile = "repositories"

// maxChain bounds the layers of an image; docker had 127 at most.
const maxChain = 1024

// ancestor is one image of a chain as its json says.
type ancestor struct {
	ID              string     `json:"id"`
	Parent          string     `json:"parent"`
	Created         *time.Time `json:"created"`
	Author          string     `json:"author"`
	Comment         string     `json:"comment"`
	ContainerConfig struct {
		Cmd command
	} `json:"container_config"`
	fields map[string]json.RawMessage
}

// command is a list of words, or one word.
type command []string

func (c *command) UnmarshalJSON(data []byte) error {
	var words []string
	if json.Unmarshal(data, &words) == nil {
		*c = words
		return nil
	}
	var word string
	err := json.Unmarshal(data, &word)
	*c = command{word}
	return err
}

// ancestorIDs are the IDs of all images of the archive, sorted.
func (t *table) ancestorIDs() []string {
	var ids []string
	for name := range t.entries {
		if id, ok := strings.CutSuffix(name, "/json"); ok && isID(id) && t.has(id+"/layer.tar") {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

func isID(s string) bool { return digest.NewDigestFromEncoded(digest.SHA256, s).Validate() == nil }

// ancient reads an archive without manifest.json.
type ancient struct {
	*docker
	known   map[string]ancestor
	diffIDs map[string]digest.Digest
	made    map[string]registry.Descriptor
}

// readAncestors reads an archive of docker before 1.10, or finds that it is none. Errors: ErrNoImages.
func (a *Archive) readAncestors(ctx context.Context) error {
	ids := a.table.ancestorIDs()
	if len(ids) == 0 {
		return fmt.Errorf("%w: %w: it has neither index.json nor manifest.json", registry.ErrInvalid, ErrNoImages)
	}
	x := &ancient{docker: newDocker(ctx, a), known: map[string]ancestor{}, diffIDs: map[string]digest.Digest{}, made: map[string]registry.Descriptor{}}
	parent := map[string]bool{}
	for _, id := range ids {
		an, err := x.ancestor(id)
		if err != nil {
			return err
		}
		parent[an.Parent] = true
	}
	all, err := x.named()
	if err != nil {
		return err
	}
	for _, id := range ids {
		if parent[id] { // NamesOf leaves out those that have a name
			continue
		}
		desc, err := x.image(id)
		if err != nil {
			return err
		}
		all = append(all, registry.Named{Ref: registry.Ref{Digest: desc.Digest}, Desc: desc})
	}
	a.names = registry.NamesOf(all)
	return nil
}

// named lists what the file repositories names.
func (x *ancient) named() ([]registry.Named, error) {
	if !x.table.has(repositoriesFile) {
		return nil, nil
	}
	data, err := x.table.read(repositoriesFile, image.MaxSize)
	if err != nil {
		return nil, err
	}
	var repos map[string]map[string]string
	if err := json.Unmarshal(data, &repos); err != nil {
		return nil, fmt.Errorf("%s: %w: %w", repositoriesFile, registry.ErrInvalid, err)
	}
	var all []registry.Named
	for _, repo := range slices.Sorted(maps.Keys(repos)) {
		for _, tag := range slices.Sorted(maps.Keys(repos[repo])) {
			id := repos[repo][tag]
			if !isID(id) {
				return nil, fmt.Errorf("%s: %w: %q is no ID", repositoriesFile, registry.ErrInvalid, shown(id))
			}
			desc, err := x.image(id)
			if err != nil {
				return nil, fmt.Errorf("%s:%s: %w", shown(repo), shown(tag), err)
			}
			got, err := names([]string{repo + ":" + tag}, desc)
			if err != nil {
				return nil, err
			}
			all = append(all, got...)
		}
	}
	return all, nil
}

// ancestor reads the json of an image.
func (x *ancient) ancestor(id string) (ancestor, error) {
	if an, ok := x.known[id]; ok {
		return an, nil
	}
	data, err := x.table.read(id+"/json", image.MaxSize)
	if err != nil {
		return ancestor{}, err
	}
	if x.bytes += len(data); x.bytes > maxMade {
		return ancestor{}, fmt.Errorf("%w: too many images", ErrLimit)
	}
	var an ancestor
	if err = json.Unmarshal(data, &an); err == nil {
		err = json.Unmarshal(data, &an.fields)
	}
	if err != nil {
		return an, fmt.Errorf("%s/json: %w: %w", id, registry.ErrInvalid, err)
	}
	if an.ID != "" && an.ID != id || an.Parent != "" && !isID(an.Parent) {
		return an, fmt.Errorf("%s/json: %w: it is of image %q with parent %q", id, registry.ErrInvalid, shown(an.ID), shown(an.Parent))
	}
	x.known[id] = an
	return an, nil
}

// chain lists an image and its ancestors, the first of them first.
func (x *ancient) chain(id string) ([]string, error) {
	var ids []string
	for at := id; at != ""; {
		if len(ids) == maxChain {
			return nil, fmt.Errorf("image %s: %w: more than %d ancestors", id, registry.ErrInvalid, maxChain)
		}
		an, err := x.ancestor(at)
		if err != nil {
			return nil, fmt.Errorf("image %s: %w", id, err)
		}
		ids = append(ids, at)
		at = an.Parent
	}
	slices.Reverse(ids)
	return ids, nil
}

// image makes the config and manifest of an image, once.
func (x *ancient) image(id string) (registry.Descriptor, error) {
	if d, ok := x.made[id]; ok {
		return d, nil
	}
	ids, err := x.chain(id)
	if err != nil {
		return registry.Descriptor{}, err
	}
	diffIDs := []digest.Digest{}
	history := []image.History{}
	m := image.Manifest{MediaType: image.TypeManifest, Layers: []image.Descriptor{}}
	m.SchemaVersion = 2
	for _, at := range ids {
		diffID, err := x.diffID(at)
		if err != nil {
			return registry.Descriptor{}, fmt.Errorf("image %s: %w", at, err)
		}
		l, err := x.layer(at+"/layer.tar", diffID)
		if err != nil {
			return registry.Descriptor{}, fmt.Errorf("image %s: %w", at, err)
		}
		an := x.known[at]
		diffIDs, m.Layers = append(diffIDs, diffID), append(m.Layers, l)
		history = append(history, image.History{
			Created: an.Created, Author: an.Author, CreatedBy: strings.Join(an.ContainerConfig.Cmd, " "), Comment: an.Comment,
		})
	}
	config, err := x.known[id].config(diffIDs, history)
	if err != nil {
		return registry.Descriptor{}, fmt.Errorf("image %s: %w", id, err)
	}
	m.Config = x.keep(image.TypeConfig, config)
	data, err := image.Marshal(m)
	if err != nil {
		return registry.Descriptor{}, err
	}
	if x.bytes += len(data) + len(config); x.bytes > maxMade || len(data) > image.MaxSize || len(config) > image.MaxSize {
		return registry.Descriptor{}, fmt.Errorf("%w: too many layers", ErrLimit)
	}
	x.made[id] = x.keep(m.MediaType, data)
	return x.made[id], nil
}

// keep has a document that was made up found by its digest.
func (d *docker) keep(mediaType string, data []byte) registry.Descriptor {
	desc := image.Describe(mediaType, data)
	d.Archive.made[desc.Digest] = data
	return desc
}

// config is the json of an image as a config of today, with what docker puts into it when it loads one.
func (an ancestor) config(diffIDs []digest.Digest, history []image.History) ([]byte, error) {
	fields := maps.Clone(an.fields)
	for _, old := range []string{"id", "parent", "Size", "parent_id", "layer_id", "throwaway"} {
		delete(fields, old)
	}
	var err error
	if fields["rootfs"], err = image.Marshal(map[string]any{"type": "layers", "diff_ids": diffIDs}); err != nil {
		return nil, err
	}
	if fields["history"], err = image.Marshal(history); err != nil {
		return nil, err
	}
	data, err := image.Marshal(fields)
	if err != nil {
		return nil, err
	}
	if _, err := image.ParseConfig(data); err != nil {
		return nil, fmt.Errorf("%w: %w", registry.ErrInvalid, err)
	}
	return data, nil
}

// diffID hashes a layer, uncompressed.
func (x *ancient) diffID(id string) (digest.Digest, error) {
	if d, ok := x.diffIDs[id]; ok {
		return d, nil
	}
	e, err := x.table.file(id + "/layer.tar")
	if err != nil {
		return "", err
	}
	rc, _, err := layer.Decompress(x.table.open(e))
	if err != nil {
		return "", err
	}
	defer rc.Close()
	h := digest.SHA256.Digester()
	var size int64
	for buf := make([]byte, spoolBlock); ; {
		if err := x.ctx.Err(); err != nil {
			return "", err
		}
		n, err := rc.Read(buf)
		h.Hash().Write(buf[:n])
		if size += int64(n); tooMuch(size, e.size) {
			return "", fmt.Errorf("%w: a layer of %d bytes so far, from %d", ErrLimit, size, e.size)
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return "", err
		}
	}
	x.diffIDs[id] = h.Digest()
	return x.diffIDs[id], nil
}

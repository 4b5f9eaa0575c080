package edit

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"nacre/internal/image"
	"nacre/internal/imagefs"
	"nacre/internal/registry"

	"github.com/opencontainers/go-digest"
)

// Annotations of the OCI image spec (annotations.md) that name what an image was made on.
const (
	BaseName   = "org.opencontainers.image.base.name"
	BaseDigest = "org.opencontainers.image.base.digest"
)

// ErrUnsafe: a rebase that would not give the image that a build on the new base gives.
var ErrUnsafe = errors.New("unsafe rebase")

// RebaseOptions of Rebase.
type RebaseOptions struct {
	Old, New Source
	// Name of the new base, for an image whose annotations say what it is on; empty: none that others know.
	Name string
	// Layers reads the files to be compared. nil: none are, and nothing but documents is read.
	Layers  *imagefs.Layers
	Created *time.Time
}

// Rebase puts the layers over an old base over a new one. Settings that the image has from its old base come from the new one.
// Errors: ErrUnsafe (what the image begins with is not the old base), *ConflictError.
func (e *Edit) Rebase(o RebaseOptions) Change {
	return func(ctx context.Context, p *Parts) error {
		was, err := e.base(ctx, o.Old, p)
		if err != nil {
			return fmt.Errorf("old base: %w", err)
		}
		now, err := e.base(ctx, o.New, p)
		if err != nil {
			return fmt.Errorf("new base: %w", err)
		}
		if err := begins(p, was); err != nil {
			return err
		}
		if was.Desc.Digest == now.Desc.Digest {
			return nil // it is there already
		}
		if o.Layers != nil {
			list, err := conflicts(ctx, o.Layers, p, was, now)
			if err != nil {
				return fmt.Errorf("compare files: %w", err)
			}
			if len(list) > 0 {
				return &ConflictError{list}
			}
		}
		for _, l := range now.Manifest.Layers {
			e.other[l.Digest] = o.New
		}
		p.rebase(was, now)
		if o.Created != nil {
			p.Config.Created = o.Created
		}
		p.renameBase(o.Name, now.Desc.Digest)
		return nil
	}
}

// renameBase keeps annotations about a base true.
func (p *Parts) renameBase(name string, d digest.Digest) {
	if p.Manifest.Annotations[BaseName] == "" && p.Manifest.Annotations[BaseDigest] == "" {
		return
	}
	p.setAnnotation(BaseName, name)
	if name == "" {
		delete(p.Manifest.Annotations, BaseName)
	}
	p.setAnnotation(BaseDigest, d.String())
}

// base is what of a base image is for the platform of p.
func (e *Edit) base(ctx context.Context, s Source, p *Parts) (*Parts, error) {
	want := p.Config.Platform
	d, err := e.choose(ctx, s, &want)
	if err != nil {
		return nil, err
	}
	b, err := e.parts(ctx, s, d)
	if err == nil && (b.Config.OS != want.OS || b.Config.Architecture != want.Architecture) {
		err = fmt.Errorf("%w: it is for %s, the image for %s", ErrUnsafe, image.FormatPlatform(b.Config.Platform), image.FormatPlatform(want))
	}
	return b, err
}

// begins tells whether the lowest layers of p are those of its base.
func begins(p, base *Parts) error {
	have, want := p.Config.RootFS.DiffIDs, base.Config.RootFS.DiffIDs
	for i, d := range want {
		switch {
		case i == len(have):
			return fmt.Errorf("%w: the base has %d layers, the image %d", ErrUnsafe, len(want), len(have))
		case have[i] != d:
			return fmt.Errorf("%w: the image is not on that base: its layer %d is %s, that of the base %s", ErrUnsafe, i+1, have[i], d)
		}
	}
	return nil
}

// rebase puts what p has over was over now.
func (p *Parts) rebase(was, now *Parts) {
	n := len(was.Config.RootFS.DiffIDs)
	layers := slices.Clone(now.Manifest.Layers)
	if p.docker() != (now.Desc.MediaType == image.TypeDockerManifest) {
		for i, l := range layers {
			layers[i] = retyped(l, p.docker())
		}
	}
	upper := p.over(was)
	history := image.WholeHistory(now.Config.History, len(now.Config.RootFS.DiffIDs))
	p.Manifest.Layers = append(layers, p.Manifest.Layers[n:]...)
	p.Config.RootFS.DiffIDs = append(slices.Clone(now.Config.RootFS.DiffIDs), p.Config.RootFS.DiffIDs[n:]...)
	p.Config.History = append(history, upper...)
	p.settings(was, now)
}

// retyped is a layer as part of a manifest of docker's or not.
func retyped(d registry.Descriptor, docker bool) registry.Descriptor {
	if !docker {
		return image.OCILayer(d)
	}
	if image.IsLayer(d.MediaType) && !image.IsForeign(d.MediaType) {
		d.MediaType = layerType(map[string]string{"": "uncompressed"}[image.Compression(d.MediaType)]+image.Compression(d.MediaType), true)
	}
	return d
}

// over is the history of what is over a base: all after that of the base, where it tells of as many layers, else all after the
// line of its last layer.
func (p *Parts) over(base *Parts) []image.History {
	n, all := len(base.Config.RootFS.DiffIDs), image.WholeHistory(p.Config.History, len(p.Config.RootFS.DiffIDs))
	if k := len(base.Config.History); k <= len(all) && image.LayersIn(all[:k]) == n {
		return all[k:]
	}
	for i := range all {
		if image.LayersIn(all[:i]) == n {
			return all[i:]
		}
	}
	return nil
}

// settings takes from the new base what was as the old base had it.
func (p *Parts) settings(was, now *Parts) {
	c, old, base := &p.Config.Config, was.Config.Config, now.Config.Config
	for _, s := range []struct {
		to        *string
		old, base string
	}{
		{&c.User, old.User, base.User}, {&c.WorkingDir, old.WorkingDir, base.WorkingDir}, {&c.StopSignal, old.StopSignal, base.StopSignal},
	} {
		if *s.to == s.old {
			*s.to = s.base
		}
	}
	for _, s := range []struct {
		to        *[]string
		old, base []string
	}{{&c.Entrypoint, old.Entrypoint, base.Entrypoint}, {&c.Cmd, old.Cmd, base.Cmd}, {&c.Shell, old.Shell, base.Shell}} {
		if slices.Equal(*s.to, s.old) {
			*s.to = s.base
		}
	}
	c.Env = mergeEnv(c.Env, old.Env, base.Env)
	c.Labels = mergeMaps(c.Labels, old.Labels, base.Labels)
	c.ExposedPorts = mergeMaps(c.ExposedPorts, old.ExposedPorts, base.ExposedPorts)
	c.Volumes = mergeMaps(c.Volumes, old.Volumes, base.Volumes)
	if same(c.Healthcheck, old.Healthcheck) {
		c.Healthcheck = base.Healthcheck
	}
}

func same(a, b any) bool {
	x, err := image.Marshal(a)
	y, err2 := image.Marshal(b)
	return err == nil && err2 == nil && string(x) == string(y)
}

// mergeMaps is have, of which what is as in old becomes as in base.
func mergeMaps[V comparable](have, old, base map[string]V) map[string]V {
	out := map[string]V{}
	for k, v := range have {
		if was, ok := old[k]; !ok || was != v {
			out[k] = v
		}
	}
	for k, v := range base {
		_, here := have[k]
		_, before := old[k]
		if _, own := out[k]; !own && (here || !before) { // what the image took away stays away
			out[k] = v
		}
	}
	if len(out) == 0 {
		return nil
	}
	return out
}

// mergeEnv is mergeMaps of variables: those of the base first, in its order.
func mergeEnv(have, old, base []string) []string {
	table := func(list []string) map[string]string {
		m := map[string]string{}
		for _, kv := range list {
			name, value, _ := strings.Cut(kv, "=")
			m[name] = value
		}
		return m
	}
	merged := mergeMaps(table(have), table(old), table(base))
	var out []string
	for _, kv := range slices.Concat(base, have) {
		name := nameOf(kv)
		if v, ok := merged[name]; ok {
			out = append(out, name+"="+v)
			delete(merged, name)
		}
	}
	return out
}

// image is p as its files are read.
func (p *Parts) image() imagefs.Image {
	return imagefs.Image{Reader: p.from.Reader, Repo: p.from.Repo, Manifest: p.Manifest, Config: p.Config}
}

// sharedLayers is how many layers two images have in common at the bottom.
func sharedLayers(a, b []digest.Digest) int {
	n := 0
	for n < min(len(a), len(b)) && a[n] == b[n] {
		n++
	}
	return n
}

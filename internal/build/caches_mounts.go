package build

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"

	"nacre/internal/cache/portable"
	"nacre/internal/event"
	"nacre/internal/graph"
	"nacre/internal/registry/store"

	"github.com/opencontainers/go-digest"
)

// The directories of RUN --mount=type=cache go along with a cache where that is asked for. Each is a layer there. It is fetched
// when a step that mounts the directory is executed, and only where there is none, or an empty one.

// MountChoice says which directories of RUN --mount=type=cache go along with a cache. The zero value is none.
type MountChoice struct {
	All bool
	IDs []string
}

func (c MountChoice) has(id string) bool { return c.All || slices.Contains(c.IDs, id) }

// carried are the cache directories that can be had from caches, by cacheKey. Of several that of the source named first.
type carried map[string]portable.Mount

// cacheKey is what a cache directory is found by.
func cacheKey(id, variant string) string { return id + "\x00" + variant }

func (c carried) add(list []portable.Mount, choice MountChoice) (n int) {
	for _, m := range list {
		key := cacheKey(m.ID, m.Variant)
		if _, ok := c[key]; ok || !choice.has(m.ID) {
			continue
		}
		c[key] = m
		n++
	}
	return n
}

// fillCarried fills a cache directory that a step is about to use, once in a build. One that cannot be had is warned of: the step
// does without, as it does with a cache that is empty.
func (w *work) fillCarried(ctx context.Context, o store.CacheDirOptions) error {
	key := cacheKey(o.ID, o.Variant)
	m, ok := w.carried[key]
	if !ok || w.o.FreshCaches {
		return nil
	}
	_, err := w.filled.do(key, func() (struct{}, error) {
		o.Mode, o.UID, o.GID = m.Mode, m.UID, m.GID
		_, err := w.Store.FillCacheDir(ctx, o, func() (digest.Digest, error) {
			w.spare.add(m.DiffID)
			return m.DiffID, w.layers.Need(ctx, m.DiffID)
		})
		if err != nil && ctx.Err() == nil {
			w.Sink(event.Warning{Text: fmt.Sprintf("cache mount %s is not filled: %v", m.ID, err)})
			err = nil
		}
		return struct{}{}, err
	})
	return err
}

// moved lists the cache directories that the steps of g mount and that choice has, each with its contents as a layer.
// Of one that is not here, or empty, what came along with another cache is passed on.
func (s *solver) moved(ctx context.Context, g *graph.Graph, choice MountChoice) ([]portable.Mount, error) {
	uses := mountsOf(g, choice)
	if len(uses) == 0 {
		return nil, nil
	}
	dirs, err := s.Store.FindCacheDirs(ctx, func(id, variant string) bool {
		return slices.ContainsFunc(uses, func(m graph.Mount) bool { return mayBe(m, id, variant) })
	})
	if err != nil {
		return nil, err
	}
	all := map[string]portable.Mount{}
	for key, m := range s.carried {
		if s.layers.Known(m.DiffID) && slices.ContainsFunc(uses, func(u graph.Mount) bool { return mayBe(u, m.ID, m.Variant) }) {
			all[key] = m
		}
	}
	for _, c := range dirs {
		m, err := s.packed.do(c.Name, func() (portable.Mount, error) { return s.pack(ctx, c.Name) })
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		all[cacheKey(m.ID, m.Variant)] = m
	}
	list := make([]portable.Mount, 0, len(all))
	for _, m := range all {
		list = append(list, m)
	}
	slices.SortFunc(list, func(a, b portable.Mount) int {
		return strings.Compare(cacheKey(a.ID, a.Variant), cacheKey(b.ID, b.Variant))
	})
	return list, nil
}

// pack makes a layer of what is in a cache directory.
func (s *solver) pack(ctx context.Context, name string) (portable.Mount, error) {
	o, info, err := s.Store.CacheDirLayer(ctx, s.lease, name)
	if err != nil {
		return portable.Mount{}, err
	}
	s.spare.add(info.DiffID)
	return portable.Mount{ID: o.ID, Variant: o.Variant, Mode: o.Mode, UID: o.UID, GID: o.GID, DiffID: info.DiffID}, nil
}

// mountsOf are the cache mounts of g that choice has.
func mountsOf(g *graph.Graph, choice MountChoice) (list []graph.Mount) {
	for _, st := range g.Steps {
		r, ok := st.Op.(*graph.Run)
		if !ok {
			continue
		}
		for _, m := range r.Mounts {
			if m.Type == graph.MountCache && choice.has(m.ID) {
				list = append(list, m)
			}
		}
	}
	return list
}

// mayBe tells whether a cache directory is one that m mounts. What stands for the content that a cache began with is known of steps alone that
// were executed: all of them go along.
func mayBe(m graph.Mount, id, text string) bool {
	if id != m.ID {
		return false
	}
	if originOf(m) == (origin{}) {
		return text == variant(m, "")
	}
	return strings.Contains(text, "from=")
}

// spareLayers are those that a build had made or fetched for cache directories: nothing needs them after it.
type spareLayers struct {
	mu   sync.Mutex
	list []digest.Digest
}

func (s *spareLayers) add(d digest.Digest) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.list = append(s.list, d)
}

// drop removes them, unless an image or a record has the same. What it cannot remove the next prune does.
func (s *spareLayers) drop(ctx context.Context, from *store.Store) {
	if len(s.list) > 0 {
		from.Collect(context.WithoutCancel(ctx), s.list...)
	}
}

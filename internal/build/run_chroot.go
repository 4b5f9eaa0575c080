package build

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"

	"nacre/internal/cache"
	"nacre/internal/event"
	"nacre/internal/graph"
	"nacre/internal/layer"
	"nacre/internal/network"
	"nacre/internal/rootfs"
	"nacre/internal/sandbox"

	"github.com/opencontainers/go-digest"
)

// NoRunError is a RUN step where no program can be run.
type NoRunError struct{ Why string }

func (e *NoRunError) Error() string { return "RUN cannot be executed here: " + e.Why }

// workTree is a directory that is the root of a stage, from step to step.
type workTree struct {
	*rootfs.WorkTree
	dir    string
	remove func()
	layers []digest.Digest // what it is made of
	note   func(string)
}

// runInTree executes a RUN step where nothing can be mounted: in a directory that has the root below it, by chroot. What
// the program changed is found by comparing; the directory is then the root below the next step.
func (w *work) runInTree(ctx context.Context, op *graph.Run) (cache.Output, error) {
	lower, err := w.lower(ctx)
	if err != nil {
		return cache.Output{}, err
	}
	if lower == nil {
		lower = rootfs.NewFS()
	}
	config, err := w.treeConfig(op, lower)
	if err != nil {
		return cache.Output{}, err
	}
	t, err := w.takeTree(ctx, lower)
	if err != nil {
		return cache.Output{}, err
	}
	whole := false // the tree is what its layers are
	w.temp = append(w.temp, func() { w.giveTree(t, whole) })
	config.Tree = t.WorkTree
	held := len(w.temp)
	if err := w.treeMounts(ctx, op, &config); err != nil {
		return cache.Output{}, err
	}
	w.noteTree(t)
	_, err = w.sandbox(ctx, op, config)
	if _, exit := errors.AsType[*ExitError](err); exit {
		config.Places = nil // they have been taken out
		w.failed = &config
	}
	if err != nil {
		return cache.Output{}, err
	}
	w.undo(held)
	out, err := w.layer(ctx, t.Changes(ctx, lower))
	if err == nil {
		err = t.Settle(w.epoch)
	}
	if err == nil {
		t.layers, whole = append(t.layers, out.DiffID), true
	}
	return out, err
}

// treeConfig is a step's sandbox but its root.
func (w *work) treeConfig(op *graph.Run, lower *rootfs.FS) (sandbox.Config, error) {
	switch {
	case op.Network == network.ModeNone:
		return sandbox.Config{}, errors.New("RUN --network=none takes a network namespace, which cannot be made here (isolation chroot)")
	case len(op.Devices) > 0:
		return sandbox.Config{}, errors.New("RUN --device takes mounts, which cannot be made here (isolation chroot)")
	}
	config, err := w.config(op, lower, nil)
	if err == nil && !op.Insecure {
		sandbox.WithoutEscape(config.Spec.Process.Capabilities)
	}
	return config, err
}

// takeTree gives a tree with the root below the step: one that a step before left, with what followed, or a new one.
func (w *work) takeTree(ctx context.Context, lower *rootfs.FS) (*workTree, error) {
	var chain []digest.Digest
	if p := w.parent(); p != nil {
		chain = p.layers
	}
	t, err := w.idleTree(chain)
	if err != nil {
		return nil, err
	}
	t.note = func(text string) { w.Sink(event.Warning{Pos: w.step.Pos, Text: text}) }
	if err := w.layers.Need(ctx, chain...); err != nil {
		return nil, errors.Join(err, w.dropTree(t))
	}
	var layers []*layer.Layer
	for _, id := range chain[len(t.layers):] {
		l, err := w.reader().Layer(ctx, id)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("layer %s: %w", short(id), err), w.dropTree(t))
		}
		layers = append(layers, l)
	}
	if len(layers) > 0 || len(chain) == 0 {
		if err := t.Apply(ctx, lower, layers...); err != nil {
			return nil, errors.Join(err, w.dropTree(t))
		}
	}
	t.layers = slices.Clone(chain)
	return t, nil
}

// idleTree is the tree that has most of a chain, from below, and nothing else.
func (s *solver) idleTree(chain []digest.Digest) (*workTree, error) {
	s.scratchMu.Lock()
	best := -1
	for i, t := range s.trees {
		if len(t.layers) <= len(chain) && slices.Equal(t.layers, chain[:len(t.layers)]) && (best < 0 || len(t.layers) > len(s.trees[best].layers)) {
			best = i
		}
	}
	if best >= 0 {
		t := s.trees[best]
		s.trees = slices.Delete(s.trees, best, best+1)
		s.scratchMu.Unlock()
		return t, nil
	}
	s.scratchMu.Unlock()
	dir, remove, err := s.Store.TempDir("tree")
	if err != nil {
		return nil, err
	}
	t := &workTree{dir: dir, remove: remove}
	if t.WorkTree, err = rootfs.NewWorkTree(dir, func(text string) { t.note(text) }); err != nil {
		remove()
		return nil, err
	}
	return t, nil
}

// giveTree keeps a tree for the step that follows, unless it is not what its layers say.
func (s *solver) giveTree(t *workTree, whole bool) {
	if !whole {
		s.removing.Go(func() { s.dropTree(t) })
		return
	}
	s.scratchMu.Lock()
	s.trees = append(s.trees, t)
	s.scratchMu.Unlock()
}

func (s *solver) dropTree(t *workTree) error {
	err := t.Close()
	t.remove()
	return err
}

// noteTree says once in a build what programs do without.
func (w *work) noteTree(t *workTree) {
	w.toldTree.Do(func() {
		w.noteNetwork("no /proc and /sys in RUN steps, and the network, host name and processes are those around: nothing can be mounted here (isolation chroot)")
		if err := t.TryDevice(); err != nil {
			w.noteNetwork("device nodes do not work here (" + err.Error() + "): in RUN steps /dev/null, zero, random and urandom are plain files, and there are no others")
		}
	})
}

// treeMounts is mounts for a tree: what would be mounted is moved there.
func (w *work) treeMounts(ctx context.Context, op *graph.Run, config *sandbox.Config) error {
	caches, err := w.useCaches(ctx, op.Mounts)
	if err != nil {
		return err
	}
	list := w.sortedMounts(op, config)
	taken := map[string]string{}
	for _, m := range list {
		switch m.Type {
		case graph.MountBind:
			var from string
			from, err = w.boundCopy(ctx, m)
			config.Places = append(config.Places, rootfs.Place{Target: m.Target, From: from})
		case graph.MountCache:
			dir := caches[cacheName(m, w.variants[originOf(m)])]
			if at, twice := taken[dir]; twice {
				return fmt.Errorf("mount of type cache: %s is mounted at %s already: one directory at two places takes a mount, which is not possible here (isolation chroot)", m.ID, at)
			}
			taken[dir] = m.Target
			config.Places = append(config.Places, rootfs.Place{
				Target: m.Target, From: dir, Back: true, Mode: value(m.Mode, 0o755), UID: int(grab(m.UID)), GID: int(grab(m.GID)),
			})
		case graph.MountTmpfs:
			config.Places = append(config.Places, rootfs.Place{Target: m.Target, Dir: true, Mode: 0o1777})
		case graph.MountSecret:
			err = w.secret(m, config)
		case graph.MountSSH:
			n := len(config.Spec.Mounts)
			if err = w.ssh(m, config); len(config.Spec.Mounts) > n {
				config.Places = append(config.Places, rootfs.Place{Target: m.Target, From: config.Spec.Mounts[n].Source})
			}
		}
		if err != nil {
			return fmt.Errorf("mount of type %s: %w", m.Type, err)
		}
	}
	config.Files = uncovered(config.Files, list)
	return nil
}

// boundCopy is a copy of what a mount shows, which goes with the step.
func (w *work) boundCopy(ctx context.Context, m graph.Mount) (string, error) {
	f, options, err := w.openOrigin(ctx, m)
	if err != nil {
		return "", err
	}
	name, err := w.resolveSource(f, m)
	if err != nil {
		return "", err
	}
	dir, remove, err := w.Store.TempDir("bind")
	if err != nil {
		return "", err
	}
	w.temp = append(w.temp, remove)
	if err := copyOut(ctx, f, name, dir, options); err != nil {
		return "", err
	}
	return filepath.Join(dir, "files", boundName), nil
}

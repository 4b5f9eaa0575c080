// Package property builds what chance comes up with, and checks what holds of every build.
package property

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"nacre/internal/build"
	"nacre/internal/compare"
	"nacre/internal/event"
	"nacre/internal/layer"
	"nacre/internal/registry"
	"nacre/internal/registry/layout"
	"nacre/internal/registry/store"
	"nacre/internal/sandbox"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"
)

func TestMain(m *testing.M) {
	sandbox.Init()
	os.Exit(m.Run())
}

// TestCacheEqualsNone: a wrong answer is worse than a miss. From each seed come a Dockerfile, a
// context and changes of both; after every change a build that may use all that the
// builds before it left must be, to the byte, what a build in an empty store is, and once
// more it must hit everything. NACRE_SEEDS=5000 tries so many seeds, NACRE_SEED=17 that one.
func TestCacheEqualsNone(t *testing.T) {
	first, count := uint64(1), 200
	if n, err := strconv.Atoi(os.Getenv("NACRE_SEEDS")); err == nil {
		first, count = uint64(time.Now().UnixNano()), n
	}
	if n, err := strconv.ParseUint(os.Getenv("NACRE_SEED"), 10, 64); err == nil {
		first, count = n, 1
	}
	p := newProperty(t)
	var g errgroup.Group
	g.SetLimit(runtime.GOMAXPROCS(0))
	var mu sync.Mutex
	failures := 0
	for i := range count {
		g.Go(func() error {
			c := newCase(first + uint64(i))
			err := p.check(c)
			if err == nil {
				return nil
			}
			mu.Lock()
			defer mu.Unlock()
			if failures++; failures > 5 {
				return nil // one cause, most likely
			}
			small := p.shrink(c)
			t.Errorf("NACRE_SEED=%d: %v\nminimised: %v\n%s", c.seed, err, p.check(small), small)
			return nil
		})
	}
	g.Wait()
	t.Logf("%d seeds, %d builds, of which %d failed as the Dockerfile does", count, p.builds.Load(), p.failed.Load())
	if n, bad := p.builds.Load(), p.failed.Load(); count >= 100 && bad*2 > n {
		t.Errorf("%d of %d builds failed: the Dockerfiles say too little", bad, n)
	}
}

// check builds a case and all its changes.
func (p *property) check(c *testCase) (err error) {
	dir, err := os.MkdirTemp(p.dir, "case-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	rng := rand.New(rand.NewPCG(c.seed, 1))
	s, done, err := p.store(filepath.Join(dir, "store"), rng.IntN(4) == 0)
	if err != nil {
		return err
	}
	defer done()
	w, err := c.start(filepath.Join(dir, "ctx"))
	if err != nil {
		return err
	}
	export := rng.IntN(5) == 0
	for i := -1; i < len(c.changes); i++ {
		said := "as it began"
		if i >= 0 {
			if said, err = w.change(c.changes[i]); err != nil {
				return fmt.Errorf("change %d: %w", i, err)
			}
		}
		if err := p.compare(s, w, export); err != nil {
			return fmt.Errorf("after change %d (%s): %w", i, said, err)
		}
	}
	if rng.IntN(5) == 0 {
		return p.together(s, c, w, dir)
	}
	return nil
}

// compare builds with what s has cached and in an empty store.
func (p *property) compare(s *store.Store, w *world, export bool) error {
	cache := filepath.Join(filepath.Dir(w.dir), "cache")
	if export {
		defer os.RemoveAll(cache)
	}
	cached := p.build(s, w, func(o *build.Options) {
		if export {
			o.CacheTo = []build.CacheTo{{Name: "layout", Max: true, Open: func(context.Context) (registry.Writer, registry.Ref, error) {
				l, err := layout.Create(cache)
				return l, registry.Ref{Tag: "latest"}, err
			}}}
		}
	})
	fresh := p.fresh(w, func(o *build.Options) { o.NoCache = true })
	defer fresh.close()
	if err := cached.differs(fresh); err != nil {
		return fmt.Errorf("cached and not: %w", err)
	}
	if cached.err != nil {
		return nil
	}
	again := p.build(s, w, nil)
	if err := again.differs(cached); err != nil {
		return fmt.Errorf("cached, and once more: %w", err)
	}
	if len(again.ran) > 0 {
		return fmt.Errorf("built again nothing has changed, but it ran %q", again.ran)
	}
	if !export {
		return nil
	}
	imported := p.fresh(w, func(o *build.Options) {
		o.CacheFrom = []build.CacheFrom{{Name: "layout", Open: func(context.Context) (registry.Reader, registry.Ref, error) {
			l, err := layout.Open(cache)
			return l, registry.Ref{Tag: "latest"}, err
		}}}
	})
	defer imported.close()
	if err := imported.differs(fresh); err != nil {
		return fmt.Errorf("with the imported cache and without: %w", err)
	}
	if len(imported.ran) > 0 {
		return fmt.Errorf("the cache was imported, but it ran %q", imported.ran)
	}
	return nil
}

// together builds two variants at once, in one store.
func (p *property) together(s *store.Store, c *testCase, w *world, dir string) error {
	other, err := c.start(filepath.Join(dir, "other"))
	if err != nil {
		return err
	}
	var got [2]built
	var wg sync.WaitGroup
	other.tags = w.tags // they share the store
	variants := []*world{w, other}
	for i, v := range variants {
		wg.Go(func() { got[i] = p.build(s, v, nil) })
	}
	wg.Wait()
	for i, v := range variants {
		fresh := p.fresh(v, nil)
		defer fresh.close()
		if err := got[i].differs(fresh); err != nil {
			return fmt.Errorf("variant %d, built beside another: %w", i, err)
		}
	}
	return nil
}

// built is what came of a build.
type built struct {
	manifest digest.Digest
	layers   []digest.Digest
	opened   []*layer.Layer
	close    func()   // of a fresh store
	ran      []string // steps that were executed
	text     string   // the Dockerfile
	err      error
}

// differs says how two builds differ; failures are alike, whatever they say.
func (a built) differs(b built) error {
	switch {
	case (a.err == nil) != (b.err == nil):
		return fmt.Errorf("one failed: %v, %v", a.err, b.err)
	case a.err != nil || a.manifest == b.manifest:
		return nil
	case len(a.layers) != len(b.layers):
		return fmt.Errorf("%d layers and %d", len(a.layers), len(b.layers))
	}
	for i := range a.layers {
		if a.layers[i] != b.layers[i] {
			return fmt.Errorf("layer %d of %d differs: %s, %s\n%s", i, len(a.layers), a.layers[i], b.layers[i], a.files(b, i))
		}
	}
	return fmt.Errorf("manifests differ, layers do not: %s, %s", a.manifest, b.manifest)
}

// files says how the files of a layer differ.
func (a built) files(b built, i int) string {
	var text strings.Builder
	for d, err := range compare.Layers(context.Background(), a.opened[i], b.opened[i], compare.Options{}) {
		fmt.Fprintf(&text, "%+v %v\n", d, err)
	}
	return text.String()
}

// fresh builds in a store that has the base images only.
func (p *property) fresh(w *world, with func(*build.Options)) built {
	dir, err := os.MkdirTemp(p.memory, "fresh-")
	if err != nil {
		p.t.Fatal(err)
	}
	s, done, err := p.store(filepath.Join(dir, "store"), true)
	if err != nil {
		p.t.Fatal(err)
	}
	out := p.build(s, w, with)
	out.close = func() {
		done()
		os.RemoveAll(dir)
	}
	return out
}

// build builds a world as it is.
func (p *property) build(s *store.Store, w *world, with func(*build.Options)) (out built) {
	p.builds.Add(1)
	out.text = w.dockerfile()
	if out.err = p.tag(s, w); out.err != nil {
		p.t.Error(out.err)
		return out
	}
	o := build.Options{Context: w.dir, Data: []byte(out.text), BuildArgs: map[string]*string{"SOURCE_DATE_EPOCH": &w.epoch}}
	for name, value := range w.args {
		o.BuildArgs[name] = &value
	}
	if with != nil {
		with(&o)
	}
	var mu sync.Mutex
	names := map[int]string{}
	r, err := build.Builder{Store: s, Cache: s.Cache(), Slots: 4, Sink: func(e event.Event) {
		mu.Lock()
		defer mu.Unlock()
		switch e := e.(type) {
		case event.Started:
			names[e.Step.ID] = e.Step.Name
		case event.Done:
			if name := names[e.ID]; !e.Cached && strings.HasPrefix(name, "[") && !strings.HasPrefix(name, "[internal]") && !strings.Contains(name, "] FROM ") {
				out.ran = append(out.ran, name)
			}
		case event.Warning:
			if strings.Contains(e.Text, "cache from") {
				p.t.Errorf("warning: %s", e.Text)
			}
		}
	}}.Build(context.Background(), o)
	if out.err = err; err != nil {
		p.failed.Add(1)
		if os.Getenv("NACRE_SEED") != "" || os.Getenv("NACRE_LOG") != "" {
			p.t.Log(err)
		}
		return out
	}
	out.manifest = r.Manifest.Digest
	m, _, err := s.Manifest(context.Background(), r.Image, nil)
	for _, l := range m.Layers {
		out.layers = append(out.layers, l.Digest)
		opened, err := s.Layer(context.Background(), l.Digest)
		if err != nil {
			p.t.Error(err)
		}
		out.opened = append(out.opened, opened)
	}
	out.err = err
	return out
}

// shrink leaves out what does not matter for the failure: changes, instructions, files.
func (p *property) shrink(c *testCase) *testCase {
	fails := func(c *testCase) bool {
		for range 2 { // some failures need luck
			if p.check(c) != nil {
				return true
			}
		}
		return false
	}
	until := time.Now().Add(time.Minute)
	for again := true; again && time.Now().Before(until); {
		again = false
		for _, n := range []struct {
			len  int
			drop func(c *testCase, i int)
		}{
			{len(c.changes), func(c *testCase, i int) { c.changes = slices.Delete(c.changes, i, i+1) }},
			{len(c.lines), func(c *testCase, i int) { c.lines = slices.Delete(c.lines, i, i+1) }},
			{len(c.files), func(c *testCase, i int) { c.files = slices.Delete(c.files, i, i+1) }},
			{len(c.ignore), func(c *testCase, i int) { c.ignore = slices.Delete(c.ignore, i, i+1) }},
		} {
			for i := n.len - 1; i >= 0; i-- {
				if small := c.clone(); true {
					n.drop(small, i)
					if fails(small) {
						c, again = small, true
					}
				}
			}
		}
	}
	return c
}

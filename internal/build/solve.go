package build

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"nacre/internal/cache"
	"nacre/internal/cache/note"
	"nacre/internal/cache/portable"
	"nacre/internal/device"
	"nacre/internal/dockerfile"
	"nacre/internal/event"
	"nacre/internal/explain"
	"nacre/internal/graph"
	"nacre/internal/layer"
	"nacre/internal/registry"
	"nacre/internal/registry/lazy"
	"nacre/internal/registry/store"
	"nacre/internal/rootfs"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"
)

// root is what a step leaves: the chain of layers that make its root.
type root struct {
	key    cache.Key       // by definition
	layers []digest.Digest // diffIDs, bottom first
	out    cache.Output    // of the step itself; zero for a base
	parent *root

	origin note.Input // of a base and of what was fetched, for notes

	made  *graph.Step    // nil for a base and for what was fetched
	step  *explain.Step  // with Options.Explain: that step
	cause *explain.Cause // and why it was not found in the cache; nil where it was

	mu       sync.Mutex
	contents []digest.Digest // content digests of layers, once they were asked for
}

// solver walks one graph. Each step is solved once, its inputs side by side; a step whose
// key is known is not executed. A step has two keys (docs/architecture.md, "Keys"):
// by definition, from its inputs' keys, and by content, from what its inputs came out as.
type solver struct {
	Builder
	o      Options
	epoch  *time.Time // SOURCE_DATE_EPOCH
	lease  *store.Lease
	layers *lazy.Layers // that the store has, or may get
	opened sync.Map     // diffID to *layer.Layer: those that steps read
	slots  chan struct{}
	base   string // of cache slots: what is built, so that misses compare with earlier builds of it
	source *contextSource
	named  map[string]*contextSource // contexts of files that have a name

	round int     // how often the build began again
	ids   stepIDs // of steps that come up after the plan

	recorder *portable.Recorder // with CacheTo: what the build used and made

	solved  memo[*graph.Step, *root]
	running memo[cache.Key, cache.Output]  // steps that are alike execute once
	ordinal map[*graph.Step]int            // place of a step within its stage
	devices *device.Set                    // nil where no step asks for any
	granted map[*graph.Step][]string       // devices of RUN steps, by their full names
	runs    atomic.Int32                   // RUN steps not yet solved
	bound   memo[boundFiles, rootfs.Lower] // what RUN --mount shows of contexts, by context and source

	whenSolved func(*solver, *graph.Graph) error // called before there is an image

	fresh   memo[string, *freshCache] // with FreshCaches, by name
	carried carried                   // cache directories that can be had from CacheFrom
	filled  memo[string, struct{}]    // such that steps asked for
	packed  memo[string, portable.Mount]
	spare   *spareLayers

	debugger  debugger
	earlier   explain.History
	removing  sync.WaitGroup
	scratchMu sync.Mutex
	idle      []*scratch // for RUN steps to come
	trees     []*workTree
	toldTree  sync.Once

	nothing atomic.Pointer[layer.Info] // a layer without entries, once one was made

	networks networks

	endMu sync.Mutex
	ends  []func() // to be called when the build ends
}

// atEnd has f called when the build ends.
func (s *solver) atEnd(f func()) {
	s.endMu.Lock()
	defer s.endMu.Unlock()
	s.ends = append(s.ends, f)
}

func newSolver(b Builder, o Options, g *graph.Graph, lease *store.Lease, layers *lazy.Layers, source *contextSource) *solver {
	s := &solver{
		Builder: b, o: o, epoch: g.Epoch, lease: lease, layers: layers,
		slots:   make(chan struct{}, b.Slots),
		base:    absolute(graph.Redact(o.Context)) + "\x00" + o.Dockerfile,
		source:  source,
		named:   map[string]*contextSource{},
		carried: carried{},
		ordinal: map[*graph.Step]int{},
	}
	for name, spec := range o.Contexts {
		s.named[graph.ContextName(name)] = newNamedContext(b, name, spec, stepGraph+len(g.Steps)+len(s.named))
	}
	s.earlier.Place = s.base
	s.ids.next = stepGraph + len(g.Steps) + len(s.named)
	count := map[string]int{}
	for _, st := range g.Steps {
		count[st.Stage]++
		s.ordinal[st] = count[st.Stage]
		if o.Explain {
			s.earlier.Steps = append(s.earlier.Steps, explain.Identity(st.Fields()))
		}
	}
	s.countRuns(g)
	return s
}

func (s *solver) countRuns(g *graph.Graph) {
	s.runs.Store(0)
	for _, st := range g.Steps {
		if isRun(st) {
			s.runs.Add(1)
		}
	}
}

func (s *solver) announce(g *graph.Graph) {
	plan := event.Plan{}
	for _, st := range g.Steps {
		plan.Steps = append(plan.Steps, s.eventStep(st))
	}
	s.Sink(plan)
}

// solveTarget solves what the target needs; the first failure stops the rest.
func (s *solver) solveTarget(ctx context.Context, t *graph.Result) (*root, error) {
	if t.Last == nil {
		return &root{}, nil
	}
	outer := ctx
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	s.debugWith(outer, cancel)
	return s.solve(ctx, cancel, t.Last)
}

// solve gives the root a step leaves.
func (s *solver) solve(ctx context.Context, fail context.CancelCauseFunc, st *graph.Step) (*root, error) {
	return s.solved.do(st, func() (*root, error) {
		inputs, err := s.inputs(ctx, fail, st)
		if err != nil {
			return nil, err
		}
		r, err := s.step(ctx, st, inputs)
		if _, lost := errors.AsType[*lazy.LostError](err); err != nil && !lost {
			fail(err) // after a loss the build begins again, and what goes on now will be there
		}
		return r, err
	})
}

func isRun(st *graph.Step) bool {
	_, ok := st.Op.(*graph.Run)
	return ok
}

// inputs solves st's inputs in parallel, in the order of st.Inputs.
func (s *solver) inputs(ctx context.Context, fail context.CancelCauseFunc, st *graph.Step) ([]*root, error) {
	steps := st.Inputs()
	roots := make([]*root, len(steps))
	var g errgroup.Group
	for i, in := range steps {
		g.Go(func() (err error) {
			roots[i], err = s.solve(ctx, fail, in)
			return err
		})
	}
	return roots, g.Wait()
}

// step finds one step's output in the cache, by definition and then by content, or executes it.
func (s *solver) step(ctx context.Context, st *graph.Step, in []*root) (*root, error) {
	if b, ok := st.Op.(*graph.Base); ok {
		return s.baseRoot(ctx, st, b)
	}
	if f, ok := st.Op.(*graph.Fetch); ok {
		return s.fetched(ctx, st, f)
	}
	if c, ok := st.Op.(*graph.Copy); ok && c.From == nil && len(local(c)) > 0 {
		s.contextNamed(c.Context).open(ctx) // a step of its own, shown before this one; its error comes back below
	}
	if r, ok := st.Op.(*graph.Run); ok {
		s.runs.Add(-1)
		for _, m := range r.Mounts {
			if m.From == nil && (m.Type == graph.MountBind || m.Context != "") {
				s.contextNamed(m.Context).open(ctx)
			}
		}
	}
	w := &work{solver: s, step: st, in: in, done: s.begin(s.eventStep(st))}
	defer w.close()
	out, d, err := w.resolve(ctx)
	d.Size = out.Size
	if err := w.done(d, err); err != nil {
		if cause := context.Cause(ctx); cause != nil && errors.Is(err, context.Canceled) {
			return nil, cause // another step failed first
		}
		err = positioned(st, err)
		if _, lost := errors.AsType[*lazy.LostError](err); !lost {
			w.debug(err)
		}
		return nil, err
	}
	r := &root{key: w.rootKey(), out: out, parent: w.parent(), made: st, cause: w.cause}
	if w.o.Explain {
		r.step = w.explained(ctx)
	}
	if r.parent != nil {
		r.layers = append(r.layers, r.parent.layers...)
	}
	r.layers = append(r.layers, out.DiffID)
	return r, nil
}

// resolve is the heart: two look-ups, then the work itself.
func (w *work) resolve(ctx context.Context) (out cache.Output, d event.Done, err error) {
	if op, ok := w.step.Op.(*graph.Run); ok {
		if err := w.required(op.Mounts); err != nil {
			return out, d, err
		}
	}
	if w.def, err = w.definition(ctx); err != nil {
		return out, d, err
	}
	if out, ok, err := w.lookup(ctx, w.def); ok || err != nil {
		return out, event.Done{Cached: true, Cache: event.CacheHit}, err
	}
	noted := w.takeNote(ctx)
	if err := w.explain(ctx); err != nil {
		return out, d, err
	}
	d = event.Done{Cache: event.CacheMiss, Why: w.cause.Line()}
	content, err := w.content(ctx)
	if err != nil {
		return out, d, err
	}
	if out, ok, err := w.lookup(ctx, content); ok || err != nil {
		d = event.Done{Cached: true, Cache: event.CacheEqual, Note: "same content", Why: w.cause.Equal()}
		return out, d, errors.Join(err, w.Cache.Put(ctx, noted(), out))
	}
	out, err = w.running.do(content.Key, func() (cache.Output, error) { return w.execute(ctx) })
	if err != nil {
		return out, d, err
	}
	return out, d, errors.Join(w.Cache.Put(ctx, noted(), out), w.Cache.Put(ctx, content, out))
}

func (w *work) lookup(ctx context.Context, rec cache.Record) (cache.Output, bool, error) {
	if w.uncached() {
		return cache.Output{}, false, nil
	}
	out, ok, err := w.Cache.Get(ctx, rec.Key)
	if err != nil || !ok {
		return out, false, err
	}
	err = w.layers.Hold(ctx, out.DiffID)
	if errors.Is(err, registry.ErrAbsent) {
		return cache.Output{}, false, nil // pruned since, by another process
	}
	return out, err == nil, err
}

// uncached tells whether the step is to run whatever is cached.
func (w *work) uncached() bool {
	return w.o.NoCache || slices.ContainsFunc(w.o.NoCacheFilter, func(stage string) bool { return strings.EqualFold(stage, w.step.Stage) })
}

// positioned puts the Dockerfile's position before an error, once.
func positioned(st *graph.Step, err error) error {
	var p *StepError
	if errors.As(err, &p) {
		return err
	}
	return &StepError{Pos: st.Pos, Step: st.Name, Err: err}
}

// StepError is a step that failed.
type StepError struct {
	Pos  string // `Dockerfile:7`
	Step string // `[2/3] RUN make`
	Err  error
	// Detail shows the place in the Dockerfile, in several lines; empty where there is none.
	Detail string
}

// located adds to the error of a step what stands in the Dockerfile where the step is from.
func located(file *dockerfile.File, err error) error {
	if step, ok := errors.AsType[*StepError](err); ok && step.Detail == "" {
		step.Detail = file.Excerpt(step.Pos)
	}
	return err
}

func (e *StepError) Error() string { return fmt.Sprintf("%s: %v", e.Pos, e.Err) }
func (e *StepError) Unwrap() error { return e.Err }

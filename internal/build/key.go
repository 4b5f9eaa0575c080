package build

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"

	"nacre/internal/cache"
	"nacre/internal/cache/note"
	"nacre/internal/copier"
	"nacre/internal/event"
	"nacre/internal/explain"
	"nacre/internal/graph"
	"nacre/internal/sandbox"

	"github.com/opencontainers/go-digest"
)

// work is one step being solved.
type work struct {
	*solver
	step    *graph.Step
	in      []*root
	def     cache.Record
	done    func(event.Done, error) error
	cause   *explain.Cause // with Options.Explain, of a step that was not found by def
	used    []usedFiles    // of build contexts, for the note of def
	shown   *explain.Step  // the step as explanations have it
	plan    *copier.Plan   // of COPY and WORKDIR, made for the content key and used to execute
	scratch *scratch       // of a RUN step
	temp    []func()       // what to undo when the step ends

	hidden   [][]byte          // of RUN: secrets, which are not for logs
	failed   *sandbox.Config   // of RUN: its sandbox, where the program failed
	variants map[origin]string // of RUN: what stands for the roots that caches begin with
}

func (w *work) close() { w.undo(0) }

// undo undoes the latest of temp, last first, until n are left.
func (w *work) undo(n int) {
	for len(w.temp) > n {
		last := len(w.temp) - 1
		w.temp[last]()
		w.temp = w.temp[:last]
	}
}

// parent is the root this step works on; nil is empty.
func (w *work) parent() *root {
	if w.step.Parent == nil {
		return nil
	}
	return w.in[0]
}

// from is the root a COPY --from reads.
func (w *work) from() *root { return w.in[len(w.in)-1] }

// input is the root of one of the step's inputs.
func (w *work) input(st *graph.Step) *root { return w.in[slices.Index(w.step.Inputs(), st)] }

func (w *work) slot() string {
	return explain.Slot(w.base, w.step.Stage, w.ordinal[w.step])
}

// independent tells that a step does not look at its parent: COPY --link.
func (w *work) independent() bool {
	c, ok := w.step.Op.(*graph.Copy)
	return ok && c.Link
}

// rootKey stands for all of the root that the step leaves: what comes after it sees
// the layers below, even where the step does not.
func (w *work) rootKey() cache.Key {
	p := w.parent()
	if p == nil || !w.independent() {
		return w.def.Key // which has the parent's in it
	}
	h := cache.NewHash("root/1", "")
	w.addRoot(h, "parent", p)
	h.Add("step", w.def.Key.String())
	return h.Sum().Key
}

// definition is the first key: the step as written and the keys of its inputs. Of inputs
// only the context is read, by what its stat cache says of it.
func (w *work) definition(ctx context.Context) (cache.Record, error) {
	h := w.hash("definition/2")
	if p := w.parent(); p != nil && !w.independent() {
		w.addRoot(h, "parent", p)
	}
	if r, ok := w.step.Op.(*graph.Run); ok {
		if err := w.addMounts(ctx, h, r, false); err != nil {
			return cache.Record{}, err
		}
	}
	c, ok := w.step.Op.(*graph.Copy)
	switch {
	case ok && c.From != nil:
		w.addRoot(h, "from", w.from())
	case ok:
		for _, r := range c.Remote {
			if r != nil {
				w.addRoot(h, "from", w.input(r))
			}
		}
		if len(local(c)) > 0 {
			if err := w.addContext(ctx, h, c); err != nil {
				return cache.Record{}, err
			}
		}
	}
	return h.Sum(), nil
}

// addRoot adds a root to a key by definition: what it was made of, and what came out. Steps that came out differently when they
// were executed again have one definition, and what was made of one outcome is not for the other.
func (s *solver) addRoot(h *cache.Hash, name string, r *root) {
	h.Add(name, r.key.String())
	switch {
	case r.made == nil: // a base, or fetched: its key is what it is
	case s.epoch != nil: // times count, too
		h.Add("outcome", r.out.DiffID.String())
	default:
		h.Add("outcome", r.out.Content.String())
	}
}

// content is the second key: the step as written and what its inputs came out
// as. It needs the inputs themselves, if only their metadata.
func (w *work) content(ctx context.Context) (cache.Record, error) {
	switch op := w.step.Op.(type) {
	case *graph.Run:
		h := w.hash("content/1")
		contents, err := w.inputContents(ctx, w.parent())
		if err != nil {
			return cache.Record{}, err
		}
		for _, d := range contents {
			h.Add("layer", d.String())
		}
		if err := w.addMounts(ctx, h, op, true); err != nil {
			return cache.Record{}, err
		}
		return h.Sum(), nil
	case *graph.Copy:
		return w.planned(ctx, w.planCopy(ctx, op))
	case *graph.Workdir:
		return w.planned(ctx, w.planWorkdir(ctx, op))
	default:
		return cache.Record{}, fmt.Errorf("no content key for %T", op)
	}
}

// planned is the content key of a step whose files are known before it is
// executed: those files, and nothing else, are what comes out, however the
// instruction was written.
func (w *work) planned(ctx context.Context, err error) (cache.Record, error) {
	if err != nil {
		return cache.Record{}, err
	}
	sum, err := w.plan.Sum(ctx, w.epoch)
	if err != nil {
		return cache.Record{}, err
	}
	h := cache.NewHash("content/1", w.slot())
	w.addEpoch(h)
	h.Add("files", sum.String())
	return h.Sum(), nil
}

// inputContents are what counts of a root for keys: its contents, but with SOURCE_DATE_EPOCH its layers
// to the byte, times included, as what comes of them shall be the same to the byte, too.
func (s *solver) inputContents(ctx context.Context, r *root) ([]digest.Digest, error) {
	if r != nil && s.epoch != nil {
		return r.layers, nil
	}
	return s.contents(ctx, r)
}

// contents are the content digests of a root's layers: of a base as the store knows
// them, of a step what came out.
func (s *solver) contents(ctx context.Context, r *root) ([]digest.Digest, error) {
	if r == nil {
		return nil, nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.contents != nil {
		return r.contents, nil
	}
	if r.out.DiffID != "" {
		below, err := s.contents(ctx, r.parent)
		if err != nil {
			return nil, err
		}
		r.contents = append(slices.Clip(below), r.out.Content)
		return r.contents, nil
	}
	if err := s.layers.Need(ctx, r.layers...); err != nil {
		return nil, err
	}
	list := make([]digest.Digest, len(r.layers))
	for i, d := range r.layers {
		info, err := s.Store.LayerInfo(ctx, d)
		if err != nil {
			return nil, err
		}
		list[i] = info.Content
	}
	r.contents = list
	return list, nil
}

func (w *work) hash(kind string) *cache.Hash {
	h := cache.NewHash(kind, w.slot())
	for _, f := range w.step.Fields() {
		h.Add(f.Name, f.Value)
	}
	for _, name := range w.granted[w.step] {
		h.Add("granted", name)
	}
	w.addEpoch(h)
	return h
}

func (s *solver) addEpoch(h *cache.Hash) {
	if s.epoch != nil {
		h.Add("SOURCE_DATE_EPOCH", strconv.FormatInt(s.epoch.Unix(), 10))
	}
}

// baseRoot is the root of an image in the store: its layers, nothing to do.
func (s *solver) baseRoot(ctx context.Context, st *graph.Step, b *graph.Base) (*root, error) {
	done := s.begin(s.eventStep(st))
	h := cache.NewHash("base/1", "")
	for _, d := range b.DiffIDs {
		h.Add("layer", d.String())
	}
	r := &root{key: h.Sum().Key, layers: b.DiffIDs}
	r.origin = note.Input{Step: "FROM " + b.Name, Base: b.Name, ID: cmp.Or(b.Digest.String(), "sha256:"+r.key.String())}
	err := s.layers.Hold(ctx, b.DiffIDs...)
	if err != nil {
		err = positioned(st, fmt.Errorf("base image %s: %w", b.Name, err))
	}
	return r, done(event.Done{}, err)
}

func short(d digest.Digest) string { return d.Encoded()[:12] }

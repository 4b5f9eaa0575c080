package build

import (
	"context"
	"strings"
	"sync"
	"time"

	"nacre/internal/cache"
	"nacre/internal/cache/note"
	"nacre/internal/explain"
	"nacre/internal/graph"
	"nacre/internal/source"
)

// usedFiles are those of a build context that a step's key has as one digest.
type usedFiles struct {
	label string
	tree  contextTree
	names []string

	notAfter *time.Time // of times, where they count
}

func contextLabel(name string) string {
	if name == "" {
		return ""
	}
	return "context " + name
}

// takeNote begins to list what the step's key is over, beside the step itself. The result is the
// record with its note, once it is there. Nothing that goes wrong with it matters to the build.
func (w *work) takeNote(ctx context.Context) (noted func() cache.Record) {
	s := w.explained(ctx)
	ready := make(chan struct{})
	rec := w.def
	go func() {
		defer close(ready)
		rec.Note = s.Note().Encode()
	}()
	wait := func() { <-ready }
	w.temp = append(w.temp, wait) // the context may be closed after the step
	return func() cache.Record {
		wait()
		return rec
	}
}

// list is what is noted of files.
func (u usedFiles) list(ctx context.Context) (t note.Tree) {
	err := u.tree.Each(ctx, u.names, u.notAfter, func(o source.Object) {
		if t.Total++; t.Total > note.MaxFiles {
			t.Files = nil
			return
		}
		f := note.File{Name: o.Name, Mode: o.Mode}
		copy(f.Sum[:], o.Content[:])
		copy(f.Attr[:], o.Attr[:])
		t.Files = append(t.Files, f)
	})
	if err != nil {
		return note.Tree{Total: t.Total + 1} // not complete
	}
	return t
}

// explained is the step as what explains misses sees it.
func (w *work) explained(ctx context.Context) *explain.Step {
	if w.shown != nil {
		return w.shown
	}
	s := &explain.Step{Name: instruction(w.step), Pos: w.step.Pos, Place: place(w.step), Record: w.def, Contexts: make([]explain.Context, len(w.used))}
	for i, u := range w.used {
		s.Contexts[i] = explain.Context{Label: u.label, Tree: sync.OnceValue(func() note.Tree { return u.list(ctx) })}
	}
	if r, ok := w.step.Op.(*graph.Run); ok {
		s.Scope = r.Scope
	}
	for _, r := range w.roots() {
		in := &explain.Input{Input: r.origin, Key: r.key.String(), Of: r.step, Cause: r.cause}
		if r.made != nil {
			in.Step = instruction(r.made)
		}
		s.Inputs = append(s.Inputs, in)
	}
	w.shown = s
	return s
}

// roots are those that definition has the keys of, in its order.
func (w *work) roots() (list []*root) {
	if p := w.parent(); p != nil && !w.independent() {
		list = append(list, p)
	}
	switch op := w.step.Op.(type) {
	case *graph.Run:
		for _, m := range op.Mounts {
			if m.From != nil && (m.Type == graph.MountBind || m.Type == graph.MountCache) {
				list = append(list, w.input(m.From))
			}
		}
	case *graph.Copy:
		if op.From != nil {
			return append(list, w.from())
		}
		for _, r := range op.Remote {
			if r != nil {
				list = append(list, w.input(r))
			}
		}
	}
	return list
}

// instruction is the name of a step without its place: of "[2/3] RUN make" it is "RUN make".
func instruction(st *graph.Step) string {
	if _, name, ok := strings.Cut(st.Name, "] "); ok {
		return name
	}
	return st.Name
}

// place is the place of a step in its name: of "[2/3] RUN make" it is "[2/3]".
func place(st *graph.Step) string {
	p, _, ok := strings.Cut(st.Name, "] ")
	if !ok {
		return ""
	}
	return p + "]"
}

// explain works out why the step was not found by its definition, where that is asked for.
func (w *work) explain(ctx context.Context) error {
	if !w.o.Explain {
		return nil
	}
	s := w.explained(ctx)
	switch {
	case w.o.NoCache:
		w.cause = &explain.Cause{Step: s.Name, Pos: s.Pos, Text: "--no-cache"}
		return nil
	case w.uncached():
		w.cause = &explain.Cause{Step: s.Name, Pos: s.Pos, Text: "--no-cache-filter " + w.step.Stage}
		return nil
	}
	var err error
	w.cause, err = w.earlier.Miss(ctx, s)
	return err
}

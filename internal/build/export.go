package build

import (
	"context"
	"time"

	"nacre/internal/event"
	"nacre/internal/graph"
	"nacre/internal/image"
	"nacre/internal/registry/store"
)

// export puts the image together and names it.
func (s *solver) export(ctx context.Context, t *graph.Result, last *root) (Result, error) {
	if s.o.NoImage {
		r, err := s.assemble(ctx, t, last)
		if err == nil {
			err = s.outputs(ctx, r)
		}
		return r, err
	}
	done := s.begin(event.Step{ID: stepExport + s.round*rounds, Name: "exporting to image"})
	r, err := s.assemble(ctx, t, last)
	note := r.Config.String()
	for _, name := range r.Names {
		note += ", named " + name.Familiar()
	}
	if err := done(event.Done{Note: note}, err); err != nil {
		return r, err
	}
	return r, s.outputs(ctx, r)
}

func (s *solver) assemble(ctx context.Context, t *graph.Result, last *root) (Result, error) {
	cfg := t.Config
	cfg.History, cfg.Created = s.history(t)
	diffIDs := last.layers
	if s.o.Squash {
		var err error
		if diffIDs, err = s.squash(ctx, last, &cfg, len(t.BaseHistory)); err != nil {
			return Result{}, err
		}
	}
	if err := s.resultLayers(ctx, diffIDs); err != nil {
		return Result{}, err
	}
	layers, err := s.travels(ctx, diffIDs)
	if err != nil {
		return Result{}, err
	}
	a, err := image.Assemble(cfg, layers)
	if err != nil {
		return Result{}, err
	}
	if a, err = s.inline(ctx, a, diffIDs); err != nil {
		return Result{}, err
	}
	r := Result{
		Config: a.ConfigDesc.Digest, Manifest: a.ManifestDesc, Names: s.o.Names, Reader: assembled{a, s.layers}, MountFrom: s.layers.MountFrom,
		Platform: cfg.Platform, Created: cfg.Created, Base: len(baseOf(last)), Epoch: s.epoch, Sink: s.Sink, Step: s.nextStep,
	}
	if s.needs() {
		r.Root, err = s.rootFS(ctx, diffIDs)
	}
	if err != nil || s.o.NoImage {
		return r, err
	}
	r.Image, err = s.Store.PutImage(ctx, s.lease, store.NewImage{Config: a.Config, Manifest: a.Manifest}, s.o.Names)
	return r, err
}

// history gives each entry the time its step ran; entries without a layer take
// that of the entry before. So a fully cached build repeats the image to the byte.
func (s *solver) history(t *graph.Result) ([]image.History, *time.Time) {
	h := append([]image.History(nil), t.BaseHistory...)
	last := t.Config.Created
	if n := len(h); last == nil && n > 0 {
		last = h[n-1].Created
	}
	if s.epoch != nil {
		last = s.epoch
	}
	for _, e := range t.History {
		if e.Step != nil {
			if r := s.solved.get(e.Step); r != nil && !r.out.Created.IsZero() {
				last = &r.out.Created
			}
		}
		h = append(h, image.History{
			Created: last, CreatedBy: e.CreatedBy, Comment: e.Comment, EmptyLayer: e.Step == nil,
		})
	}
	return h, last
}

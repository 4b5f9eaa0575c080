package build

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"nacre/internal/compare"
	"nacre/internal/graph"
	"nacre/internal/registry/store"

	"github.com/opencontainers/go-digest"
)

// Verified is what a build that was made twice came out as.
type Verified struct {
	Result // of the first
	// SameTimes: it is the same image to the byte. Else times were not compared, as there was
	// no SOURCE_DATE_EPOCH to make them the same.
	SameTimes bool
}

// ErrTar: the context comes as a tar and can be read once only.
var ErrTar = errors.New("a context from standard input cannot be read twice")

// Verify builds twice without cache. The first build is that of Build in all it leaves; the second
// leaves nothing, runs every step again at another time, with caches of RUN that begin empty, and fetches again what
// ADD does. Where a step comes out otherwise, though all it is made from came out the same, the
// error is an *UnlikeError. Without SOURCE_DATE_EPOCH times are not compared.
func (b Builder) Verify(ctx context.Context, o Options) (Verified, error) {
	b = b.withDefaults()
	if o.Tar != nil {
		return Verified{}, ErrTar
	}
	lease, err := b.Store.Lease(ctx) // of the first build's layers
	if err != nil {
		return Verified{}, err
	}
	defer lease.Release()
	var v Verified
	var first []madeStep
	ids := &numbering{sink: b.Sink}
	o.NoCache, o.CacheFrom = true, nil
	b.Sink = ids.first
	v.Result, err = b.build(ctx, o, func(s *solver, g *graph.Graph) (err error) {
		first = s.made(g)
		return leaseAll(ctx, lease, first)
	})
	if err != nil {
		return v, err
	}
	v.SameTimes = v.Epoch != nil
	if err := nextSecond(ctx, b.Clock()); err != nil {
		return v, err
	}
	b.Sink, b.Cache = ids.second, forgetful{}
	o.NoImage, o.Outputs, o.Names, o.CacheTo, o.Pull, o.FreshCaches = true, nil, nil, nil, false, true
	var unlike *UnlikeError
	again, err := b.build(ctx, o, func(s *solver, g *graph.Graph) (err error) {
		unlike, err = s.unlike(ctx, first, s.made(g), compare.Options{SkipTimes: !v.SameTimes})
		return err
	})
	switch {
	case err != nil:
		return v, fmt.Errorf("the second build: %w", err)
	case unlike != nil:
		return v, unlike
	case v.SameTimes && again.Manifest.Digest != v.Manifest.Digest:
		return v, fmt.Errorf("all layers are the same, but the image is not: %s, then %s", v.Manifest.Digest, again.Manifest.Digest)
	}
	v.SameTimes = again.Manifest.Digest == v.Manifest.Digest
	return v, nil
}

// nextSecond waits until no clock with seconds shows what it may have shown before then.
func nextSecond(ctx context.Context, then time.Time) error {
	t := time.NewTimer(then.Truncate(time.Second).Add(time.Second).Sub(then))
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// madeStep is what one step of a build came out as.
type madeStep struct {
	step    *graph.Step
	layers  []digest.Digest // of its root
	content digest.Digest   // of its own layer, times left out
}

// made are the steps of a graph in their order.
func (s *solver) made(g *graph.Graph) []madeStep {
	list := make([]madeStep, len(g.Steps))
	for i, st := range g.Steps {
		list[i].step = st
		if r := s.solved.get(st); r != nil {
			list[i].layers, list[i].content = r.layers, r.out.Content
		}
	}
	return list
}

func leaseAll(ctx context.Context, lease *store.Lease, list []madeStep) error {
	var all []digest.Digest
	for _, m := range list {
		all = append(all, m.layers...)
	}
	slices.Sort(all)
	return lease.Layer(ctx, slices.Compact(all)...)
}

// UnlikeError is a build whose steps came out otherwise the second time.
type UnlikeError struct {
	Steps []UnlikeStep // whose inputs were the same, in the order of the build
}

// UnlikeStep is a step that made something else of the same.
type UnlikeStep struct {
	Pos, Name     string // `Dockerfile:7`, `[2/3] RUN make`
	First, Second digest.Digest
	Files         []compare.Difference // the first of them
	More          int                  // how many there are besides
}

// maxUnlike is how many differences are kept of a step: there may be one for every file.
const maxUnlike = 20

func (e *UnlikeError) Error() string {
	first := e.Steps[0]
	text := fmt.Sprintf("%s: not reproducible: %s came out otherwise the second time", first.Pos, first.Name)
	if n := len(e.Steps) - 1; n > 0 {
		text += fmt.Sprintf(", and so did %d more", n)
	}
	return text
}

// unlike compares what two builds made; nil: the same.
func (s *solver) unlike(ctx context.Context, a, b []madeStep, o compare.Options) (*UnlikeError, error) {
	if len(a) != len(b) {
		return nil, fmt.Errorf("%d steps became %d: a base image or the Dockerfile was changed", len(a), len(b))
	}
	e := &UnlikeError{}
	differ := map[*graph.Step]bool{} // of b, or what it is made from
	for i := range a {
		st := b[i].step
		for _, in := range st.Inputs() {
			differ[st] = differ[st] || differ[in]
		}
		if differ[st] || b[i].same(a[i], o) {
			continue
		}
		differ[st] = true
		u, err := s.unlikeStep(ctx, a[i], b[i], o)
		if err != nil {
			return nil, err
		}
		e.Steps = append(e.Steps, u)
	}
	if len(e.Steps) == 0 {
		return nil, nil
	}
	return e, nil
}

// same tells whether two steps made the same of the same.
func (m madeStep) same(other madeStep, o compare.Options) bool {
	if o.SkipTimes && m.content != "" && other.content != "" {
		return m.content == other.content
	}
	return slices.Equal(m.layers, other.layers)
}

func (s *solver) unlikeStep(ctx context.Context, a, b madeStep, o compare.Options) (UnlikeStep, error) {
	u := UnlikeStep{Pos: b.step.Pos, Name: b.step.Name}
	if len(a.layers) == 0 || len(b.layers) == 0 {
		return u, nil
	}
	u.First, u.Second = a.layers[len(a.layers)-1], b.layers[len(b.layers)-1]
	first, err := s.Store.Layer(ctx, u.First)
	if err != nil {
		return u, err
	}
	second, err := s.Store.Layer(ctx, u.Second)
	if err != nil {
		return u, err
	}
	for d, err := range compare.Layers(ctx, first, second, o) {
		switch {
		case err != nil:
			return u, err
		case len(u.Files) < maxUnlike:
			u.Files = append(u.Files, d)
		default:
			u.More++
		}
	}
	return u, nil
}

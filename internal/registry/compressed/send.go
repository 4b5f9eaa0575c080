package compressed

import (
	"context"
	"errors"
	"fmt"

	"nacre/internal/image"
	"nacre/internal/registry"
	"nacre/internal/registry/store"

	"golang.org/x/sys/unix"
)

// Send copies what ref names in s to dst, under the name as (zero: ref), with its layers compressed. Where dst is a
// registry.Drafter a layer is compressed, kept and sent in one go; the rest is registry.Copy's, which sends what dst lacks.
// It returns the descriptor that as now names.
// Errors: those of Remake and of registry.Copy.
func Send(ctx context.Context, dst registry.Writer, as registry.Ref, s *store.Store, ref registry.Ref, o Options, copy registry.CopyOptions) (registry.Descriptor, error) {
	if as.IsZero() {
		as = ref
	}
	if copy.Sink == nil {
		copy.Sink = o.Sink
	}
	r := New(s, o)
	if copy.Step == nil {
		copy.Step = r.o.Step // one after the other: see below
	}
	if d, ok := dst.(registry.Drafter); ok {
		r.to = &outlet{drafter: d, repo: as.Repo}
	}
	l, err := r.lease(ctx)
	if err != nil {
		return registry.Descriptor{}, err
	}
	if l != nil {
		defer l.Release()
	}
	d, err := r.choose(ctx, ref, copy.Platform)
	if err != nil {
		return registry.Descriptor{}, err
	}
	if d, err = r.remake(ctx, l, d); err != nil {
		return registry.Descriptor{}, err
	}
	copy.Platform = nil
	return registry.Copy(ctx, dst, as, r, registry.Ref{Repo: ref.Repo, Digest: d.Digest}, copy)
}

// choose resolves ref, and within an index the image for a platform.
func (r *Reader) choose(ctx context.Context, ref registry.Ref, p *image.Platform) (registry.Descriptor, error) {
	d, err := r.src.Resolve(ctx, ref)
	for depth := 0; err == nil && p != nil && image.IsIndex(d.MediaType); depth++ {
		if depth > maxNesting {
			return d, fmt.Errorf("%w: indexes nested more than %d deep", registry.ErrInvalid, maxNesting)
		}
		var data []byte
		var x image.Index
		if data, err = r.read(ctx, d); err != nil {
			break
		}
		if x, err = image.ParseIndex(data); err == nil {
			d, err = image.MatchPlatform(x, *p)
		}
	}
	return d, err
}

// outlet is where compressed layers go besides the store.
type outlet struct {
	drafter registry.Drafter
	repo    string
}

// tee begins a draft beside w. Where that fails the layer goes to w alone, and to dst later.
func (o *outlet) tee(ctx context.Context, w *store.FormWriter) *tee {
	t := &tee{w: w}
	t.draft, t.remote = o.drafter.Draft(ctx, o.repo)
	return t
}

// tee writes to the store and to a draft. When one of them fails the other goes on; w, which
// hashes for both, gets all of it.
type tee struct {
	w             *store.FormWriter
	draft         registry.Draft
	local, remote error // why there is no more writing to either
	committed     bool
}

func (t *tee) Write(p []byte) (int, error) {
	_, t.local = t.w.Write(p)
	if t.remote == nil {
		if _, t.remote = t.draft.Write(p); t.remote != nil {
			t.draft.Cancel()
		}
	}
	if t.local != nil && t.remote != nil {
		return 0, t.local
	}
	return len(p), nil
}

// commit ends the draft as form f. If that fails Copy sends it from the store.
func (p *packing) commit(f store.Form) {
	if p.tee != nil && p.tee.remote == nil {
		p.tee.committed = p.tee.draft.Commit(f.Desc) == nil
	}
}

func (p *packing) cancel() {
	if p.tee != nil && p.tee.draft != nil && !p.tee.committed {
		p.tee.draft.Cancel()
	}
}

// instead returns the form that the store could not keep for want of room, if dst has all of it.
func (p *packing) instead(ctx context.Context, err error) (store.Form, error) {
	if p.tee == nil || !p.all || p.tee.remote != nil || !errors.Is(err, unix.ENOSPC) || ctx.Err() != nil {
		return store.Form{}, err
	}
	f := store.Form{Layer: p.diffID, How: p.c.Name(), DiffID: p.diffID}
	if p.packed.DiffID != "" {
		f.DiffID = p.packed.DiffID
	}
	f.Desc = registry.Descriptor{
		MediaType: OCI.layer(p.c.Kind), Digest: p.tee.w.Digest(), Size: p.tee.w.Size(), Annotations: p.packed.Annotations,
	}
	if cerr := p.tee.draft.Commit(f.Desc); cerr != nil {
		return store.Form{}, errors.Join(err, cerr)
	}
	p.tee.committed = true
	return f, nil
}

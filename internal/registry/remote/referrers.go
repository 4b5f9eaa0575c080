package remote

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"slices"

	"github.com/opencontainers/go-digest"

	"nacre/internal/image"
	"nacre/internal/registry"
)

// Referrers implements registry.ReferrerLister: by the API, or by the tag that takes its place
// (OCI distribution spec, "Referrers Tag Schema").
func (r *Registry) Referrers(ctx context.Context, repo string, d digest.Digest) iter.Seq2[registry.Descriptor, error] {
	return func(yield func(registry.Descriptor, error) bool) {
		p, err := r.placeOf(registry.Ref{Repo: repo, Digest: d})
		if err != nil {
			yield(registry.Descriptor{}, err)
			return
		}
		all, err := read(p, func(e *endpoint) ([]registry.Descriptor, error) { return p.referrers(ctx, e, d) })
		if err != nil {
			yield(registry.Descriptor{}, fmt.Errorf("referrers of %s@%s: %w", repo, d, err))
			return
		}
		for _, one := range all {
			if !yield(one, nil) {
				return
			}
		}
	}
}

func (p place) referrers(ctx context.Context, e *endpoint, d digest.Digest) ([]registry.Descriptor, error) {
	var all []registry.Descriptor
	q := &request{method: http.MethodGet, path: p.path(e, "referrers", d.String()), scope: p.scope(e, "pull"), header: http.Header{"Accept": {image.TypeIndex}}}
	err := e.pages(ctx, q, func(data []byte) error {
		x, err := parseReferrers(data)
		all = append(all, x.Manifests...)
		if err == nil && len(all) > maxNames {
			err = fmt.Errorf("%w: more than %d referrers", registry.ErrInvalid, maxNames)
		}
		return err
	})
	var refused *Error
	switch {
	case errors.Is(err, registry.ErrAbsent), errors.Is(err, registry.ErrUnsupported), errors.As(err, &refused) && refused.Status == http.StatusBadRequest:
		x, err := p.referrersTag(ctx, e, d)
		return x.Manifests, err
	}
	return all, err
}

func parseReferrers(data []byte) (image.Index, error) {
	x, err := image.ParseIndex(data)
	if err != nil {
		return x, fmt.Errorf("%w: list of referrers: %w", registry.ErrInvalid, err)
	}
	return x, nil
}

// referrersTag reads the index that registries without the API keep under a tag. None is an empty one.
func (p place) referrersTag(ctx context.Context, e *endpoint, d digest.Digest) (image.Index, error) {
	q := &request{method: http.MethodGet, path: p.path(e, "manifests", tagOf(d)), header: manifestHeader(), scope: p.scope(e, "pull")}
	resp, err := e.do(ctx, q, http.StatusOK)
	if err != nil {
		return image.Index{}, absentAsNone(err)
	}
	defer resp.Body.Close()
	data, err := registry.ReadAll(resp.Body, image.MaxSize)
	if err != nil {
		return image.Index{}, e.failure(q.op(), err)
	}
	return parseReferrers(data)
}

// tagOf is the tag that stands for referrers of d: at most 32 and 64 characters of algorithm
// and hash.
func tagOf(d digest.Digest) string {
	cut := func(s string, n int) string { return s[:min(n, len(s))] }
	return cut(d.Algorithm().String(), 32) + "-" + cut(d.Encoded(), 64)
}

// addReferrer lists a manifest under its subject's tag, where the registry has no API for it.
// Two clients who do this at once may lose one: the spec has no better.
func (p place) addReferrer(ctx context.Context, subject digest.Digest, as registry.Descriptor) error {
	e := p.origin
	e.r.referring.Lock()
	defer e.r.referring.Unlock()
	x, err := p.referrersTag(ctx, e, subject)
	if err != nil {
		return fmt.Errorf("referrers of %s: %w", subject, err)
	}
	if slices.ContainsFunc(x.Manifests, func(d registry.Descriptor) bool { return d.Digest == as.Digest }) {
		return nil
	}
	data, d, err := image.AssembleIndex(append(x.Manifests, as), nil)
	if err != nil {
		return fmt.Errorf("referrers of %s: %w", subject, err)
	}
	if _, err := p.putManifest(ctx, tagOf(subject), d.MediaType, data); err != nil {
		return fmt.Errorf("referrers of %s: %w", subject, err)
	}
	return nil
}

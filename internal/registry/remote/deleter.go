package remote

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/opencontainers/go-digest"

	"nacre/internal/registry"
)

// Untag implements registry.Deleter. Errors: ErrUnsupported where a registry removes only
// what has the tag, with all its tags (Docker's registry 2).
func (r *Registry) Untag(ctx context.Context, ref registry.Ref) error {
	ref.Digest = ""
	p, err := r.placeOf(ref)
	if err != nil {
		return err
	}
	err = p.delete(ctx, "manifests", ref.Tag)
	var refused *Error
	if errors.As(err, &refused) && (refused.Status == http.StatusBadRequest || errors.Is(err, registry.ErrUnsupported)) {
		return fmt.Errorf("untag %s: %w: %s does not remove a tag alone", ref, registry.ErrUnsupported, p.domain)
	}
	if err != nil {
		return fmt.Errorf("untag %s: %w", ref, err)
	}
	return nil
}

// Delete implements registry.Deleter.
func (r *Registry) Delete(ctx context.Context, repo string, d digest.Digest) error {
	p, err := r.placeOf(registry.Ref{Repo: repo, Digest: d})
	if err != nil {
		return err
	}
	r.recent.drop(p, d)
	kind := "manifests"
	if _, err = p.manifestThere(ctx, p.origin, registry.Ref{Digest: d}); errors.Is(err, registry.ErrAbsent) {
		kind, err = "blobs", nil
	}
	if err == nil {
		err = p.delete(ctx, kind, d.String())
	}
	if errors.Is(err, registry.ErrUnsupported) {
		return fmt.Errorf("delete %s@%s: %w: %s does not allow that", repo, d, registry.ErrUnsupported, p.domain)
	}
	if err != nil {
		return fmt.Errorf("delete %s@%s: %w", repo, d, err)
	}
	return nil
}

func (p place) delete(ctx context.Context, kind, name string) error {
	e := p.origin
	q := &request{method: http.MethodDelete, path: p.path(e, kind, name), scope: p.scope(e, "pull,delete")}
	resp, err := e.do(ctx, q, http.StatusAccepted, http.StatusOK, http.StatusNoContent)
	if err != nil {
		return err
	}
	resp.Body.Close()
	return nil
}

package remote

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"

	"github.com/opencontainers/go-digest"

	"nacre/internal/image"
	"nacre/internal/registry"
)

// accepted are the types of manifests that are understood. A registry may convert, or
// refuse, what is not among them.
var accepted = strings.Join([]string{image.TypeIndex, image.TypeManifest, image.TypeDockerIndex, image.TypeDockerManifest,
	"application/vnd.oci.artifact.manifest.v1+json", "*/*;q=0.1"}, ", ")

func manifestHeader() http.Header { return http.Header{"Accept": {accepted}} }

// isManifest tells whether content of that type is at manifests/ in place of blobs/.
func isManifest(mediaType string) bool {
	return image.IsManifestOrIndex(mediaType) || mediaType == "application/vnd.oci.artifact.manifest.v1+json"
}

// Resolve implements registry.Reader.
func (r *Registry) Resolve(ctx context.Context, ref registry.Ref) (registry.Descriptor, error) {
	p, err := r.placeOf(ref)
	if err != nil {
		return registry.Descriptor{}, err
	}
	d, err := read(p, func(e *endpoint) (registry.Descriptor, error) { return p.head(ctx, e, "manifests", ref) })
	if err != nil {
		return registry.Descriptor{}, fmt.Errorf("%s: %w", ref, err)
	}
	return d, nil
}

// placeOf is place for a name, which it checks. Errors: ErrInvalid.
func (r *Registry) placeOf(ref registry.Ref) (place, error) {
	if err := checkRef(ref); err != nil {
		return place{}, err
	}
	return r.place(ref.Repo)
}

// read asks the mirrors and then the registry itself, until one answers. The error is that
// of the registry.
func read[T any](p place, ask func(*endpoint) (T, error)) (T, error) {
	for _, e := range p.mirrors {
		if !e.up() {
			continue
		}
		v, err := ask(e)
		if err == nil {
			return v, nil
		}
		if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
			return v, err
		}
		if !errors.Is(err, registry.ErrAbsent) {
			e.failed()
			p.r.warnf("mirror of %s: %v", p.domain, err)
		}
	}
	return ask(p.origin)
}

// head describes a manifest or blob by HEAD, or by GET where the answer to that says too little.
func (p place) head(ctx context.Context, e *endpoint, kind string, ref registry.Ref) (registry.Descriptor, error) {
	return p.headBy(ctx, e, kind, ref, false)
}

func (p place) headBy(ctx context.Context, e *endpoint, kind string, ref registry.Ref, once bool) (registry.Descriptor, error) {
	q := &request{once: once, method: http.MethodHead, path: p.path(e, kind, name(ref)), header: manifestHeader(), scope: p.scope(e, "pull")}
	resp, err := e.do(ctx, q, http.StatusOK)
	var refused *Error
	if errors.As(err, &refused) && is(refused.Status, http.StatusMethodNotAllowed, http.StatusNotImplemented) && kind == "manifests" {
		return p.get(ctx, e, ref)
	}
	if err != nil {
		return registry.Descriptor{}, err
	}
	resp.Body.Close()
	d := registry.Descriptor{MediaType: mediaType(resp), Digest: ref.Digest, Size: max(0, resp.ContentLength)}
	said := digest.Digest(resp.Header.Get("Docker-Content-Digest"))
	if d.Digest == "" && said.Validate() == nil {
		d.Digest = said
	}
	if kind == "manifests" && (d.Digest == "" || d.MediaType == "" || resp.ContentLength <= 0) {
		return p.get(ctx, e, ref)
	}
	if kind == "manifests" && d.Size > image.MaxSize {
		return registry.Descriptor{}, fmt.Errorf("%w: %s: a manifest of %d bytes", registry.ErrInvalid, e.name, d.Size)
	}
	return d, nil
}

// get describes a manifest by reading it.
func (p place) get(ctx context.Context, e *endpoint, ref registry.Ref) (registry.Descriptor, error) {
	q := &request{method: http.MethodGet, path: p.path(e, "manifests", name(ref)), header: manifestHeader(), scope: p.scope(e, "pull")}
	resp, err := e.do(ctx, q, http.StatusOK)
	if err != nil {
		return registry.Descriptor{}, err
	}
	defer resp.Body.Close()
	data, err := registry.ReadAll(resp.Body, image.MaxSize)
	if err != nil {
		return registry.Descriptor{}, e.failure(q.op(), err)
	}
	d := registry.Descriptor{MediaType: mediaType(resp), Digest: ref.Digest, Size: int64(len(data))}
	if known, err := image.MediaTypeOf(data); err == nil && !isManifest(d.MediaType) {
		d.MediaType = known // the header is that of a static file server, say
	}
	if d.Digest == "" {
		d.Digest = digest.FromBytes(data)
	} else if d.Digest.Algorithm().FromBytes(data) != d.Digest {
		return registry.Descriptor{}, fmt.Errorf("%s: %w: asked for %s", e.name, registry.ErrDigest, d.Digest)
	}
	return d, nil
}

func mediaType(resp *http.Response) string {
	t, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if err != nil || t == "text/html" || t == "text/plain" {
		return ""
	}
	return t
}

// kinds are where content may be: where its type says, or in both places in turn.
func kinds(mediaType string) []string {
	switch {
	case mediaType == "":
		return []string{"blobs", "manifests"}
	case isManifest(mediaType):
		return []string{"manifests"}
	}
	return []string{"blobs"}
}

// Stat implements registry.Stater. The media type is known of manifests.
func (r *Registry) Stat(ctx context.Context, repo string, d digest.Digest) (registry.Descriptor, error) {
	p, err := r.placeOf(registry.Ref{Repo: repo, Digest: d})
	if err != nil {
		return registry.Descriptor{}, err
	}
	return read(p, func(e *endpoint) (registry.Descriptor, error) { return p.stat(ctx, e, d) })
}

func (p place) stat(ctx context.Context, e *endpoint, d digest.Digest) (out registry.Descriptor, err error) {
	ref := registry.Ref{Repo: p.repo, Digest: d}
	if out, err = p.manifestThere(ctx, e, ref); err == nil || !errors.Is(err, registry.ErrAbsent) {
		return out, err
	}
	if out, err = p.head(ctx, e, "blobs", ref); err != nil {
		return out, err
	}
	out.MediaType = ""
	return out, nil
}

// manifestThere tells whether a digest is that of a manifest, ErrAbsent if not. Registries serve manifests
// among their blobs too, without their type, so this is asked first; Docker's
// fails (500) where the digest is that of a blob that was deleted.
func (p place) manifestThere(ctx context.Context, e *endpoint, ref registry.Ref) (registry.Descriptor, error) {
	d, err := p.headBy(ctx, e, "manifests", ref, true)
	if errors.Is(err, ErrUnavailable) {
		err = fmt.Errorf("%w: %w", registry.ErrAbsent, err)
	}
	return d, err
}

// Open implements registry.Reader. A download that breaks off goes on where it was.
func (r *Registry) Open(ctx context.Context, repo string, d registry.Descriptor) (io.ReadCloser, error) {
	rc, err := r.openAt(ctx, repo, d, 0)
	if err != nil {
		return nil, err
	}
	return registry.Verify(rc, d), nil
}

// OpenAt implements registry.Ranger.
func (r *Registry) OpenAt(ctx context.Context, repo string, d registry.Descriptor, offset int64) (io.ReadCloser, error) {
	if offset < 0 || d.Size > 0 && offset > d.Size {
		return nil, fmt.Errorf("%w: %s: offset %d of %d", registry.ErrInvalid, d.Digest, offset, d.Size)
	}
	return r.openAt(ctx, repo, d, offset)
}

func (r *Registry) openAt(ctx context.Context, repo string, d registry.Descriptor, offset int64) (io.ReadCloser, error) {
	if err := registry.CheckDescriptor(d); err != nil {
		return nil, err
	}
	p, err := r.placeOf(registry.Ref{Repo: repo, Digest: d.Digest})
	if err != nil {
		return nil, err
	}
	for i, kind := range kinds(d.MediaType) {
		var rc io.ReadCloser
		rc, err = read(p, func(e *endpoint) (io.ReadCloser, error) { return p.download(ctx, e, kind, d, offset) })
		if err == nil {
			return rc, nil
		}
		if !errors.Is(err, registry.ErrAbsent) || i > 0 {
			break
		}
	}
	return nil, fmt.Errorf("%s@%s: %w", repo, d.Digest, err)
}

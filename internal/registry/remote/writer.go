package remote

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"

	"nacre/internal/image"
	"nacre/internal/registry"
)

// Has implements registry.Writer. Mirrors are not asked: it is the registry that lacks it or not.
func (r *Registry) Has(ctx context.Context, repo string, d registry.Descriptor) (bool, error) {
	if err := registry.CheckDescriptor(d); err != nil {
		return false, err
	}
	p, err := r.place(repo)
	if err != nil {
		return false, err
	}
	for _, kind := range kinds(d.MediaType) {
		got, err := p.head(ctx, p.origin, kind, registry.Ref{Digest: d.Digest})
		if errors.Is(err, registry.ErrAbsent) || errors.Is(err, registry.ErrUnsupported) {
			continue // not there, or there is no asking
		}
		return err == nil && (d.Size == 0 || got.Size == d.Size), err
	}
	return false, nil
}

// Mount implements registry.Mounter. Both repositories must be of one registry.
func (r *Registry) Mount(ctx context.Context, repo, from string, d registry.Descriptor) error {
	if err := registry.CheckDescriptor(d); err != nil {
		return err
	}
	p, err := r.place(repo)
	if err != nil {
		return err
	}
	src, err := r.place(from)
	if err != nil {
		return err
	}
	if p.site != src.site || isManifest(d.MediaType) {
		return fmt.Errorf("mount %s from %s: %w", d.Digest, from, registry.ErrUnsupported)
	}
	e := p.origin
	q := &request{method: http.MethodPost, path: p.path(e, "blobs", "uploads/"),
		query: url.Values{"mount": {d.Digest.String()}, "from": {e.prefix + src.repo}},
		scope: p.scope(e, "pull,push") + " " + src.scope(e, "pull")}
	resp, err := e.do(ctx, q, http.StatusCreated, http.StatusAccepted)
	if err != nil {
		return fmt.Errorf("mount %s from %s: %w", d.Digest, from, err)
	}
	resp.Body.Close()
	if resp.StatusCode == http.StatusCreated {
		return nil
	}
	u := &upload{p: p, e: e}
	if u.moved(resp) == nil {
		r.open.put(p, d.Digest, u.location) // the upload that will follow has begun
	}
	return fmt.Errorf("mount %s from %s: %w", d.Digest, from, registry.ErrUnsupported)
}

// manifestUpload is a manifest or index on its way out: small, and kept until it is whole.
type manifestUpload struct {
	ctx   context.Context
	p     place
	d     registry.Descriptor
	check *registry.Checker
	buf   bytes.Buffer
	ended bool
}

func (m *manifestUpload) Write(p []byte) (int, error) {
	if n, err := m.check.Write(p); err != nil {
		return n, err
	}
	if m.check.Size() > image.MaxSize {
		return 0, fmt.Errorf("%w: %s: a manifest of more than %d bytes", registry.ErrInvalid, m.d.Digest, image.MaxSize)
	}
	return m.buf.Write(p)
}

func (m *manifestUpload) Commit() error {
	if m.ended {
		return fmt.Errorf("%s: upload has ended", m.d.Digest)
	}
	m.ended = true
	if err := m.check.Check(); err != nil {
		return err
	}
	resp, err := m.p.putManifest(m.ctx, m.d.Digest.String(), m.d.MediaType, m.buf.Bytes())
	if err != nil {
		return err
	}
	m.p.r.recent.put(m.p, m.d, m.buf.Bytes())
	if subject, as := registry.Subject(m.d, m.buf.Bytes()); subject != "" && resp.Header.Get("OCI-Subject") == "" {
		return m.p.addReferrer(m.ctx, subject, as)
	}
	return nil
}

func (m *manifestUpload) Cancel() error {
	m.ended = true
	return nil
}

// putManifest sends a manifest under a tag or digest. A registry that does not see yet what it acknowledged a
// moment ago, as some whose storage is elsewhere, gets a moment to.
func (p place) putManifest(ctx context.Context, name, mediaType string, data []byte) (*http.Response, error) {
	for n := 0; ; n++ {
		resp, err := p.putManifestOnce(ctx, name, mediaType, data)
		var refused *Error
		if n == 2 || !errors.As(err, &refused) || !slices.Contains(refused.Codes, "MANIFEST_BLOB_UNKNOWN") {
			return resp, err
		}
		if err := p.r.sleep(ctx, firstPause/2<<n); err != nil {
			return nil, err
		}
	}
}

func (p place) putManifestOnce(ctx context.Context, name, mediaType string, data []byte) (*http.Response, error) {
	e := p.origin
	q := &request{method: http.MethodPut, path: p.path(e, "manifests", name), header: http.Header{"Content-Type": {mediaType}},
		scope: p.scope(e, "pull,push"), size: int64(len(data)), wait: e.r.o.Timeouts.Commit,
		body: func(*watchdog) (io.Reader, error) { return bytes.NewReader(data), nil }}
	resp, err := e.do(ctx, q, http.StatusCreated, http.StatusAccepted, http.StatusOK)
	if err != nil {
		return nil, err
	}
	resp.Body.Close()
	return resp, nil
}

// Tag implements registry.Writer.
func (r *Registry) Tag(ctx context.Context, ref registry.Ref, d registry.Descriptor) error {
	if err := r.tag(ctx, ref, d); err != nil {
		return fmt.Errorf("tag %s: %w", ref, err)
	}
	return nil
}

func (r *Registry) tag(ctx context.Context, ref registry.Ref, d registry.Descriptor) error {
	if !isManifest(d.MediaType) {
		return fmt.Errorf("%w: media type %q", registry.ErrInvalid, d.MediaType)
	}
	if err := registry.CheckDescriptor(d); err != nil {
		return err
	}
	if ref.Tag != "" {
		ref.Digest = ""
	}
	p, err := r.placeOf(ref)
	if err != nil {
		return err
	}
	m, ok := r.recent.get(p, d.Digest)
	if !ok || m.mediaType != d.MediaType {
		if m.data, err = p.manifest(ctx, d); err != nil {
			return err
		}
	}
	if ref.Tag == "" {
		return nil // it was sent by its digest, and is there
	}
	_, err = p.putManifest(ctx, ref.Tag, d.MediaType, m.data)
	return err
}

// manifest reads a manifest back from the registry.
func (p place) manifest(ctx context.Context, d registry.Descriptor) ([]byte, error) {
	rc, err := p.download(ctx, p.origin, "manifests", d, 0)
	if err != nil {
		return nil, err
	}
	defer rc.Close()
	return registry.ReadAll(registry.Verify(rc, d), image.MaxSize)
}

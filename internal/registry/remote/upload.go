package remote

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"nacre/internal/registry"
)

const (
	// windowSize is how much of an upload is kept to be sent again. What is lost when a connection breaks
	// is in the buffers of both kernels and of proxies between, a few MB. It is also the size up to
	// which a blob is sent in one request.
	windowSize = 8 << 20
	// backlog is how much of that may wait to be sent.
	backlog = 1 << 20
	// maxChunk bounds pieces, of which two are kept.
	maxChunk = 1 << 30
	// cancelWait is how long the end of an upload nobody wants is waited for.
	cancelWait = 10 * time.Second
)

var errCancelled = errors.New("the upload was cancelled")

// upload is a blob on its way out: Write fills a window, from which run sends in the background.
type upload struct {
	ctx   context.Context
	stop  context.CancelFunc
	p     place
	e     *endpoint
	d     registry.Descriptor // of a draft, known from Commit on, which run may read after finish
	size  int64               // as it was known at the beginning; 0: not
	check *registry.Checker   // nil: not from its beginning, or a draft
	begin int64               // offset of the first byte that is sent
	skip  int64               // bytes still to be left out of Writes: the registry has them, and nobody asked for the offset
	wrote int64
	chunk int64 // 0: all in one request
	w     *window
	done  chan struct{}
	ended bool

	// Of run, and of others after done.
	location *url.URL
	offset   int64 // what the registry has
	err      error
}

// Create implements registry.Writer. Where an upload of the same content broke off, it
// goes on there: the Upload is then a registry.Resumer with its offset.
func (r *Registry) Create(ctx context.Context, repo string, d registry.Descriptor) (registry.Upload, error) {
	check, err := registry.NewChecker(d)
	if err != nil {
		return nil, err
	}
	p, err := r.place(repo)
	if err != nil {
		return nil, err
	}
	if isManifest(d.MediaType) {
		return &manifestUpload{ctx: ctx, p: p, d: d, check: check}, nil
	}
	u := &upload{p: p, e: p.origin, d: d, check: check}
	if err := u.start(ctx); err != nil {
		return nil, fmt.Errorf("%s: %w", repo, err)
	}
	return u, nil
}

// Draft implements registry.Drafter.
func (r *Registry) Draft(ctx context.Context, repo string) (registry.Draft, error) {
	p, err := r.place(repo)
	if err != nil {
		return nil, err
	}
	u := &upload{p: p, e: p.origin}
	if err := u.start(ctx); err != nil {
		return nil, fmt.Errorf("%s: %w", repo, err)
	}
	return &draft{u}, nil
}

// start begins the session and the sending.
func (u *upload) start(ctx context.Context) error {
	u.ctx, u.stop = context.WithCancel(ctx)
	u.size = u.d.Size
	if err := u.open(); err != nil {
		u.stop()
		return err
	}
	size, ahead := int64(windowSize), int64(backlog)
	switch {
	case u.chunk > 0:
		size, ahead = 2*u.chunk, u.chunk
	case u.d.Size > 0 && u.d.Size <= windowSize && u.begin == 0:
		size, ahead = u.d.Size+1, u.d.Size+1 // in one request, when it is there
	}
	u.w = newWindow(size, ahead, u.begin)
	u.done = make(chan struct{})
	go func() {
		defer close(u.done)
		u.err = u.run(ahead)
		u.w.fail(u.err)
	}()
	return nil
}

// open goes on with a session that broke off, or begins one.
func (u *upload) open() error {
	if at := u.p.r.open.take(u.p, u.d.Digest); at != nil {
		u.location = at
		if n, err := u.status(); err == nil {
			u.offset, u.begin, u.skip = n, n, n
			if n > 0 {
				u.check = nil // the registry alone has seen all of it
			}
			u.chunk = u.e.pieces()
			return nil
		}
	}
	return u.fresh()
}

// fresh begins a session.
func (u *upload) fresh() error {
	resp, err := u.e.do(u.ctx, u.request(http.MethodPost, nil), http.StatusAccepted)
	if err != nil {
		return err
	}
	resp.Body.Close()
	u.offset, u.chunk = 0, u.e.pieces()
	if least, err := strconv.ParseInt(resp.Header.Get("OCI-Chunk-Min-Length"), 10, 64); err == nil && u.chunk > 0 {
		u.chunk = min(max(u.chunk, least), maxChunk)
	}
	return u.moved(resp)
}

// request is one of this upload: to where it is, or to begin it.
func (u *upload) request(method string, header http.Header) *request {
	q := &request{method: method, url: u.location, header: header, scope: u.p.scope(u.e, "pull,push")}
	if method == http.MethodPost {
		q.url, q.path = nil, u.p.path(u.e, "blobs", "uploads/")
	}
	return q
}

// moved takes the place of the upload from an answer.
func (u *upload) moved(resp *http.Response) error {
	at := resp.Header.Get("Location")
	if at == "" && u.location != nil {
		return nil
	}
	next, err := resp.Request.URL.Parse(at)
	if err != nil || at == "" {
		return fmt.Errorf("%s: it does not say where to upload to", u.e.name)
	}
	if next.Host == u.e.name {
		next.Scheme = resp.Request.URL.Scheme // a proxy before it speaks TLS, and it does not know
	}
	u.location = next
	return nil
}

// status asks how much has arrived.
func (u *upload) status() (int64, error) {
	resp, err := u.e.do(u.ctx, u.request(http.MethodGet, nil), http.StatusNoContent, http.StatusOK, http.StatusAccepted)
	if err != nil {
		return 0, err
	}
	resp.Body.Close()
	if err := u.moved(resp); err != nil {
		return 0, err
	}
	return received(resp.Header.Get("Range")), nil
}

// received reads how much of an upload there is: "0-9" are ten bytes, and "0-0" none, as
// registries say of one just begun.
func received(s string) int64 {
	_, last, ok := strings.Cut(strings.TrimPrefix(s, "bytes="), "-")
	n, err := strconv.ParseInt(last, 10, 64)
	if !ok || err != nil || n <= 0 {
		return 0
	}
	return n + 1
}

// Offset implements registry.Resumer.
func (u *upload) Offset() int64 {
	u.skip = 0
	return u.begin
}

func (u *upload) Write(p []byte) (int, error) {
	if u.ended {
		return 0, fmt.Errorf("%s: %w", u.d.Digest, errCancelled)
	}
	known := min(u.skip, int64(len(p)))
	u.skip -= known
	n, err := u.send(p[known:])
	return int(known) + n, err
}

func (u *upload) send(p []byte) (int, error) {
	if u.check != nil {
		if n, err := u.check.Write(p); err != nil {
			return n, err
		}
	}
	n, err := u.w.Write(p)
	u.wrote += int64(n)
	return n, err
}

// Commit implements registry.Upload.
func (u *upload) Commit() error {
	if u.ended {
		return fmt.Errorf("%s: upload has ended", u.d.Digest)
	}
	if err := u.right(); err != nil {
		u.Cancel()
		return err
	}
	u.ended = true
	u.w.finish()
	<-u.done
	defer u.stop()
	if u.err != nil && !errors.Is(u.err, errFinished) {
		u.abandon()
		return fmt.Errorf("%s: %w", u.d.Digest, u.err)
	}
	return nil
}

// right tells whether what was written is what was promised, as far as that is known here.
func (u *upload) right() error {
	if u.check != nil {
		return u.check.Check()
	}
	if n := u.begin + u.wrote; u.d.Size > 0 && n != u.d.Size {
		return fmt.Errorf("%s: %w: %d bytes, not %d", u.d.Digest, registry.ErrSize, n, u.d.Size)
	}
	return nil
}

// Cancel implements registry.Upload. A session that broke off is kept, for
// another Create to go on with.
func (u *upload) Cancel() error {
	if u.ended {
		return nil
	}
	u.ended = true
	u.w.fail(errCancelled)
	u.stop()
	<-u.done
	u.abandon()
	return nil
}

// abandon ends the session, unless another upload may go on with it.
func (u *upload) abandon() {
	if u.w.position() > 0 && u.d.Digest != "" && transient(u.err) {
		u.p.r.open.put(u.p, u.d.Digest, u.location)
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(u.ctx), cancelWait)
	defer cancel()
	q := u.request(http.MethodDelete, nil)
	q.once = true
	if resp, err := u.e.do(ctx, q, http.StatusNoContent, http.StatusAccepted, http.StatusOK); err == nil {
		resp.Body.Close()
	}
}

// draft is an upload whose digest comes at its end. Who tells it has hashed what was written, and the registry
// does (distribution-spec, "Pushing blobs"); it is not hashed here once more.
type draft struct{ u *upload }

func (d *draft) Write(p []byte) (int, error) { return d.u.Write(p) }
func (d *draft) Cancel() error               { return d.u.Cancel() }

func (d *draft) Commit(desc registry.Descriptor) error {
	if err := registry.CheckDescriptor(desc); err != nil {
		return err
	}
	if !d.u.ended {
		d.u.d = desc
	}
	return d.u.Commit()
}

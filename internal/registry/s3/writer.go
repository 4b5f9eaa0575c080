package s3

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"

	"nacre/internal/image"
	"nacre/internal/registry"

	"github.com/opencontainers/go-digest"
)

// maxObject is how much one request may send (Amazon S3, "Uploading objects": 5 GB).
const maxObject = 5 << 30

func isAbsent(err error) bool { return errors.Is(err, registry.ErrAbsent) }

// Create implements registry.Writer. d.Size must be known. The server checks what arrives against the
// digest, and has the object when all of it did.
func (b *Bucket) Create(ctx context.Context, _ string, d registry.Descriptor) (registry.Upload, error) {
	check, err := registry.NewChecker(d)
	if err != nil {
		return nil, err
	}
	key := b.blobKey(d)
	switch {
	case d.Digest.Algorithm() != digest.SHA256:
		return nil, fmt.Errorf("%s: %w: want sha256", b.place(key), registry.ErrUnsupported)
	case d.Size == 0 && d.Digest.Encoded() != emptySum:
		return nil, fmt.Errorf("%s: %w: its size must be known", b.place(key), registry.ErrUnsupported)
	case d.Size > maxObject:
		return nil, fmt.Errorf("%s: %w: %d bytes, and one object takes %d", b.place(key), registry.ErrUnsupported, d.Size, int64(maxObject))
	}
	if d.Size <= maxSmall {
		return &small{ctx: ctx, b: b, key: key, d: d, check: check}, nil
	}
	u := &upload{b: b, key: key, d: d, check: check, done: make(chan error, 1)}
	u.ctx, u.stop = context.WithCancel(ctx)
	var r *io.PipeReader
	r, u.w = io.Pipe()
	go func() {
		err := b.put(u.ctx, key, d.Digest.Encoded(), d.Size, r)
		r.CloseWithError(cmp.Or(err, io.ErrClosedPipe)) // whoever still writes
		u.done <- err
	}()
	return u, nil
}

// put sends an object. Errors: registry.ErrBroken where another attempt may succeed.
func (b *Bucket) put(ctx context.Context, key, sum string, size int64, body io.Reader) error {
	if size == 0 {
		body = http.NoBody // else the length would be taken for unknown
	}
	req, err := b.request(ctx, http.MethodPut, key, sum, size, body)
	if err != nil {
		return err
	}
	resp, err := b.o.Client.Do(req)
	again := err != nil
	if err == nil {
		again = passing(resp.StatusCode)
		err = check(resp)
	}
	switch {
	case err == nil:
		return resp.Body.Close()
	case again && ctx.Err() == nil:
		return fmt.Errorf("%s: %w: %w", b.place(key), registry.ErrBroken, err)
	}
	return fmt.Errorf("%s: %w", b.place(key), err)
}

// upload is an object on its way.
type upload struct {
	b     *Bucket
	key   string
	d     registry.Descriptor
	check *registry.Checker
	ctx   context.Context
	stop  context.CancelFunc
	w     *io.PipeWriter
	done  chan error // how the request ended
	ended bool
}

func (u *upload) Write(p []byte) (int, error) {
	if u.ended {
		return 0, fmt.Errorf("%s: the upload has ended", u.key)
	}
	if _, err := u.check.Write(p); err != nil {
		return 0, err
	}
	return u.w.Write(p)
}

// Commit implements registry.Upload.
func (u *upload) Commit() error {
	if u.ended {
		return fmt.Errorf("%s: the upload has ended", u.key)
	}
	defer u.Cancel()
	if err := u.check.Check(); err != nil {
		return err
	}
	u.w.Close()
	err := <-u.done
	u.done <- nil
	return err
}

// Cancel implements registry.Upload.
func (u *upload) Cancel() error {
	if u.ended {
		return nil
	}
	u.ended = true
	u.stop()
	u.w.CloseWithError(context.Canceled)
	<-u.done
	return nil
}

// Tag implements registry.Writer. A ref with a digest and no tag is nothing to note: what was uploaded is there.
func (b *Bucket) Tag(ctx context.Context, ref registry.Ref, d registry.Descriptor) error {
	rc, err := b.Open(ctx, "", d)
	if err != nil {
		return err
	}
	defer rc.Close()
	data, err := registry.ReadAll(rc, image.MaxSize)
	if err != nil {
		return fmt.Errorf("%s: %w", d.Digest, err)
	}
	refers, err := registry.Refers(d, data)
	if err != nil {
		return err
	}
	if !image.IsIndex(d.MediaType) {
		for _, c := range refers {
			ok, err := b.Has(ctx, "", c)
			if err == nil && !ok && !registry.MayLack(c) {
				err = fmt.Errorf("%s refers to %s: %w", d.Digest, c.Digest, registry.ErrAbsent)
			}
			if err != nil {
				return err
			}
		}
	}
	if ref.Tag == "" && ref.Digest != "" {
		return nil
	}
	key := b.nameKey(ref)
	return b.putAll(ctx, key, d.Digest.Encoded(), data)
}

package server

import (
	"cmp"
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"strconv"
	"time"

	"nacre/internal/registry"
)

// getBlob sends a blob, or parts of it, or only its headers.
func (s *Server) getBlob(x *exchange) error {
	d, b, err := s.openBlob(x.ctx(), x.req.Repo, registry.Descriptor{Digest: x.req.Digest})
	if err != nil {
		return err
	}
	defer b.Close()
	if x.req.Kind == GetBlob && b.rc == nil && x.http.Header["Range"] == nil {
		if err := b.open(d); err != nil { // while it can still be told
			return err
		}
	}
	x.describe(d)
	h := x.header()
	h["Content-Type"] = []string{"application/octet-stream"}
	h["Etag"] = []string{`"` + string(d.Digest) + `"`}
	h["Cache-Control"] = []string{"private, max-age=31536000, immutable"} // a digest names the same for ever
	h["X-Content-Type-Options"] = []string{"nosniff"}                     // it may be anybody's HTML
	w := &blobWriter{exchange: x}
	http.ServeContent(w, x.http, "", time.Time{}, b)
	if w.refused {
		delete(h, "X-Content-Type-Options")
		delete(h, "Cache-Control")
		return withStatus(http.StatusRequestedRangeNotSatisfiable, Errorf(CodeSizeInvalid, "the blob has %d bytes, and not the range that was asked for", d.Size))
	}
	return sending(cmp.Or(b.err, x.broken))
}

// blobWriter keeps http.ServeContent from writing its own words about a wrong range.
type blobWriter struct {
	*exchange
	refused bool
}

func (w *blobWriter) WriteHeader(status int) {
	if w.refused = status == http.StatusRequestedRangeNotSatisfiable; !w.refused {
		w.exchange.WriteHeader(status)
	}
}

func (w *blobWriter) Write(p []byte) (int, error) {
	if w.refused {
		return len(p), nil
	}
	return w.exchange.Write(p)
}

// openBlob opens content and finds its size.
func (s *Server) openBlob(ctx context.Context, repo string, d registry.Descriptor) (registry.Descriptor, *blob, error) {
	b := &blob{ctx: ctx, r: s.r, repo: repo}
	if stater, ok := s.r.(registry.Stater); ok {
		known, err := stater.Stat(ctx, repo, d.Digest)
		if err != nil {
			return d, nil, err
		}
		d = known
	}
	if d.Size == 0 {
		// Nobody knows: a file does.
		if err := b.open(d); err != nil {
			return d, nil, err
		}
		if b.seeker != nil {
			var err error
			if d.Size, err = b.seeker.Seek(0, io.SeekEnd); err != nil {
				b.Close()
				return d, nil, err
			}
		} else {
			b.Close()
			known, err := registry.Stat(ctx, s.r, repo, d.Digest)
			if err != nil {
				return d, nil, err
			}
			d.Size = known.Size
		}
	}
	b.d = d
	return d, b, nil
}

func (s *Server) sizeOf(ctx context.Context, repo string, d registry.Descriptor) (int64, error) {
	d, b, err := s.openBlob(ctx, repo, d)
	if err == nil {
		b.Close()
	}
	return d.Size, err
}

// blob is content as an io.ReadSeeker, opened when it is first read. A file is read as it
// is, so that the kernel can send it: whoever asked for it by digest verifies it.
type blob struct {
	ctx    context.Context
	r      registry.Registry
	repo   string
	d      registry.Descriptor
	offset int64
	rc     io.ReadCloser
	seeker io.ReadSeeker // what rc reads from, if it can be sought in
	at     int64         // of rc, where it cannot
	err    error         // of reading
}

func (b *blob) open(d registry.Descriptor) error {
	rc, err := b.r.Open(b.ctx, b.repo, d)
	if err != nil {
		return err
	}
	b.rc, b.at = rc, 0
	if raw, ok := rc.(registry.Raw); ok {
		b.seeker, _ = raw.Raw().(io.ReadSeeker)
	}
	return nil
}

// Seek implements io.Seeker. It opens nothing.
func (b *blob) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += b.offset
	case io.SeekEnd:
		offset += b.d.Size
	}
	if offset < 0 {
		return 0, errors.New("seek before the beginning")
	}
	b.offset = offset
	return offset, nil
}

// source is what has the content from the offset on.
func (b *blob) source() (io.Reader, error) {
	if b.rc == nil && b.offset == 0 {
		if err := b.open(b.d); err != nil {
			return nil, err
		}
	}
	if b.seeker != nil {
		_, err := b.seeker.Seek(b.offset, io.SeekStart)
		return b.seeker, err
	}
	if b.rc != nil && b.at == b.offset {
		return b.rc, nil
	}
	b.Close()
	rc, err := registry.OpenAt(b.ctx, b.r, b.repo, b.d, b.offset)
	if err != nil {
		return nil, err
	}
	b.rc, b.at = rc, b.offset
	if raw, ok := rc.(registry.Raw); ok {
		if f, ok := raw.Raw().(io.ReadSeeker); ok {
			_, err := f.Seek(b.offset, io.SeekStart)
			b.seeker = f
			return f, err
		}
	}
	return rc, nil
}

// Read implements io.Reader.
func (b *blob) Read(p []byte) (int, error) {
	src, err := b.source()
	if err != nil {
		b.err = err
		return 0, err
	}
	n, err := src.Read(p)
	b.advance(int64(n))
	if err != nil && err != io.EOF {
		b.err = err
	}
	return n, err
}

// file is the file that has the content, at the offset; nil if it is none.
func (b *blob) file() *os.File {
	if src, err := b.source(); err == nil {
		f, _ := src.(*os.File)
		return f
	}
	return nil // Read will say why
}

func (b *blob) advance(n int64) {
	b.offset += n
	b.at += n
}

// Close may be called more than once, and what is closed be read again.
func (b *blob) Close() error {
	if b.rc == nil {
		return nil
	}
	rc := b.rc
	b.rc, b.seeker = nil, nil
	return rc.Close()
}

// deleteBlob removes a blob from the repository. A manifest is not one.
func (s *Server) deleteBlob(x *exchange) error {
	if s.isManifest(x, x.req.Digest) {
		return Errorf(CodeUnsupported, "%s is a manifest, and can only be deleted as one", x.req.Digest)
	}
	x.desc = registry.Descriptor{Digest: x.req.Digest}
	if err := s.r.Delete(x.ctx(), x.req.Repo, x.req.Digest); err != nil {
		return err
	}
	return x.send(http.StatusAccepted, nil)
}

func setLength(h http.Header, n int64) {
	h["Content-Length"] = []string{strconv.FormatInt(n, 10)}
}

package remote

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"

	"nacre/internal/image"
	"nacre/internal/registry"
)

// download is content on its way here. It is read on from where a connection broke.
type download struct {
	ctx    context.Context
	p      place
	e      *endpoint
	kind   string
	d      registry.Descriptor
	offset int64 // of the next byte
	end    int64 // -1: unknown
	body   io.ReadCloser
	broken int // times in a row that nothing came
}

// download opens d from offset on.
func (p place) download(ctx context.Context, e *endpoint, kind string, d registry.Descriptor, offset int64) (io.ReadCloser, error) {
	dl := &download{ctx: ctx, p: p, e: e, kind: kind, d: d, offset: offset, end: -1}
	if d.Size > 0 {
		dl.end = d.Size
	}
	if offset > 0 && offset == dl.end {
		return io.NopCloser(strings.NewReader("")), nil
	}
	if err := dl.open(); err != nil {
		return nil, err
	}
	return dl, nil
}

func (dl *download) request() *request {
	q := &request{method: http.MethodGet, path: dl.p.path(dl.e, dl.kind, dl.d.Digest.String()), scope: dl.p.scope(dl.e, "pull"), header: http.Header{}}
	if dl.kind == "manifests" {
		q.header = manifestHeader()
		if isManifest(dl.d.MediaType) {
			q.header.Set("Accept", dl.d.MediaType)
		}
	}
	if dl.offset > 0 {
		q.header.Set("Range", fmt.Sprintf("bytes=%d-", dl.offset))
	}
	return q
}

// open asks for the rest.
func (dl *download) open() error {
	q := dl.request()
	want := []int{http.StatusOK}
	if dl.offset > 0 {
		want = append(want, http.StatusPartialContent, http.StatusRequestedRangeNotSatisfiable)
	}
	resp, err := dl.e.do(dl.ctx, q, want...)
	if err != nil {
		return err
	}
	total, skip, err := dl.extent(resp)
	if err == nil && dl.end >= 0 && total >= 0 && total != dl.end {
		err = fmt.Errorf("%s: %w: %d bytes, not %d", dl.d.Digest, registry.ErrSize, total, dl.end)
	}
	if err == nil && dl.kind == "manifests" && total > image.MaxSize {
		err = fmt.Errorf("%w: %s: a manifest of %d bytes", registry.ErrInvalid, dl.d.Digest, total)
	}
	if err != nil {
		resp.Body.Close()
		return err
	}
	dl.body = resp.Body
	if dl.end < 0 {
		dl.end = total
	}
	if _, err := io.CopyN(io.Discard, dl.body, skip); err != nil {
		dl.body.Close()
		return dl.e.failure(q.op(), err)
	}
	return nil
}

// extent tells how long the content is altogether (-1: unknown), and how much of the
// answer comes before what was asked for.
func (dl *download) extent(resp *http.Response) (total, skip int64, err error) {
	if resp.StatusCode == http.StatusOK { // all of it, whatever was asked for
		return resp.ContentLength, dl.offset, nil
	}
	start, total, ok := contentRange(resp.Header.Get("Content-Range"))
	if resp.StatusCode != http.StatusPartialContent || !ok || start > dl.offset {
		return 0, 0, fmt.Errorf("%s: %w: to go on at byte %d", dl.e.name, registry.ErrUnsupported, dl.offset)
	}
	return total, dl.offset - start, nil
}

// contentRange reads "bytes 5-9/10"; an unknown total is -1.
func contentRange(s string) (start, total int64, ok bool) {
	s, ok = strings.CutPrefix(s, "bytes ")
	span, all, ok2 := strings.Cut(s, "/")
	from, _, ok3 := strings.Cut(span, "-")
	start, err := strconv.ParseInt(from, 10, 64)
	if !ok || !ok2 || !ok3 || err != nil || start < 0 {
		return 0, 0, false
	}
	if all == "*" {
		return start, -1, true
	}
	total, err = strconv.ParseInt(all, 10, 64)
	return start, total, err == nil && total > start
}

func (dl *download) Read(p []byte) (int, error) {
	for {
		n, err := dl.body.Read(p)
		if dl.offset += int64(n); n > 0 {
			dl.broken = 0
		}
		if n > 0 && err != nil && err != io.EOF {
			return n, nil // the rest is for the next call
		}
		if err == nil || err == io.EOF && (dl.end < 0 || dl.offset >= dl.end) {
			return n, err
		}
		if err == io.EOF {
			if n > 0 {
				return n, nil
			}
			err = io.ErrUnexpectedEOF
		}
		if err := dl.resume(err); err != nil {
			return n, err
		}
	}
}

// resume opens the rest after cause.
func (dl *download) resume(cause error) error {
	if dl.ctx.Err() != nil {
		return context.Cause(dl.ctx)
	}
	dl.body.Close()
	dl.body = http.NoBody
	failed := dl.e.failure("GET "+dl.d.Digest.String(), cause)
	if dl.broken++; dl.broken >= attempts {
		return failed
	}
	if dl.broken > 1 { // what broke may be broken for a moment
		if err := dl.e.r.sleep(dl.ctx, firstPause<<(dl.broken-2)); err != nil {
			return err
		}
	}
	if err := dl.open(); err != nil {
		if errors.Is(err, registry.ErrUnsupported) {
			return failed
		}
		return err
	}
	return nil
}

func (dl *download) Close() error { return dl.body.Close() }

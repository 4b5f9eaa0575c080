package remote

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"time"

	"nacre/internal/registry"
)

// errFinished is the end of an upload that is done.
var errFinished = errors.New("done")

// run sends what is written until all is, and has the registry take it. ahead is how much
// may be written before something is sent.
func (u *upload) run(ahead int64) error {
	_, last, err := u.w.await(u.ctx, ahead)
	if err != nil {
		return err
	}
	if last && u.begin == 0 {
		err = u.put()
	} else if err = u.stream(); err == nil {
		err = u.commit(nil, 0)
	}
	if err == nil {
		return errFinished
	}
	return err
}

// put sends all in one request. Where that fails, nobody knows how much has arrived: it is begun anew.
func (u *upload) put() error {
	size := u.wrote
	for n := 1; ; n++ {
		err := u.commit(func(dog *watchdog) (io.Reader, error) { return u.w.from(0, size, dog) }, size)
		if err == nil || !transient(err) || n >= attempts || u.ctx.Err() != nil {
			return err
		}
		if u.there() {
			return nil
		}
		if serr := u.rest(n, err); serr != nil {
			return serr
		}
		if err := u.fresh(); err != nil {
			return err
		}
	}
}

// stream sends what is written as it comes, in one request or in chunks, going on where a
// connection broke.
func (u *upload) stream() error {
	failed := 0
	for {
		before := u.offset
		last, err := u.patch()
		if err == nil && last {
			return nil
		}
		if err == nil {
			failed = 0
			continue
		}
		if tooLarge(err) && u.chunk == 0 && u.begin == 0 && u.w.widen(smallChunk) {
			u.e.smaller() // a proxy that limits requests: in pieces, from the beginning
			if err := u.fresh(); err != nil {
				return err
			}
			continue
		}
		if !transient(err) && !behind(err) || u.ctx.Err() != nil {
			return err
		}
		if failed++; failed >= attempts {
			return err
		}
		if serr := u.rest(failed, err); serr != nil {
			return serr
		}
		at, serr := u.status()
		if errors.Is(serr, registry.ErrAbsent) || errors.Is(serr, registry.ErrInvalid) {
			// The session is gone, or (Docker's registry) ends when it is asked for what it has
			// of a request that broke. The beginning may still be here.
			at, serr = 0, u.fresh()
		}
		if serr != nil {
			return fmt.Errorf("%w; and then: %w", err, serr)
		}
		if u.offset = at; at > before {
			failed = 0
		}
	}
}

// patch sends one request's worth: all there is to come, or a chunk. It tells whether that was the last.
func (u *upload) patch() (last bool, err error) {
	start, size := u.offset, int64(-1)
	limit := int64(-1)
	switch {
	case u.chunk > 0:
		if _, err := u.w.from(start, -1, nil); err != nil {
			return false, err
		}
		if size, last, err = u.w.await(u.ctx, u.chunk); err != nil {
			return false, err
		}
		if size == 0 {
			return true, nil
		}
		limit = size
	case u.size > 0:
		if size = u.size - start; size == 0 {
			_, last, err := u.w.await(u.ctx, math.MaxInt64)
			return last, err
		}
	}
	h := http.Header{"Content-Type": {"application/octet-stream"}}
	if size > 0 && (start > 0 || u.chunk > 0) {
		h.Set("Content-Range", fmt.Sprintf("%d-%d", start, start+size-1))
	}
	q := u.request(http.MethodPatch, h)
	q.size, q.once = size, true
	q.body = func(dog *watchdog) (io.Reader, error) { return u.w.from(start, limit, dog) }
	resp, err := u.e.do(u.ctx, q, http.StatusAccepted, http.StatusNoContent, http.StatusCreated, http.StatusOK)
	if err != nil {
		return false, err
	}
	resp.Body.Close()
	if err := u.moved(resp); err != nil {
		return false, err
	}
	sent := u.w.position()
	if got := received(resp.Header.Get("Range")); got > start && got < sent {
		sent, last = got, false // it took a part only
	}
	u.offset = sent
	return last || u.chunk == 0 && u.w.all(sent), nil
}

// commit ends the upload, with its content where body is not nil.
func (u *upload) commit(body func(*watchdog) (io.Reader, error), size int64) error {
	for n := 1; ; n++ {
		q := u.request(http.MethodPut, http.Header{"Content-Type": {"application/octet-stream"}})
		q.url = withDigest(u.location, u.d.Digest.String())
		q.body, q.size, q.once, q.wait = body, size, true, u.e.r.o.Timeouts.Commit
		resp, err := u.e.do(u.ctx, q, http.StatusCreated, http.StatusNoContent, http.StatusOK)
		if err == nil {
			resp.Body.Close()
			return nil
		}
		if body != nil || n >= attempts || u.ctx.Err() != nil || !transient(err) && (n == 1 || !errors.Is(err, registry.ErrAbsent)) {
			return err
		}
		if u.there() { // the answer alone was lost
			return nil
		}
		if serr := u.rest(n, err); serr != nil {
			return serr
		}
	}
}

// there tells whether the registry has the blob.
func (u *upload) there() bool {
	d, err := u.p.head(u.ctx, u.e, "blobs", registry.Ref{Digest: u.d.Digest})
	return err == nil && (u.d.Size == 0 || d.Size == u.d.Size)
}

// rest waits before the next attempt, as long as the registry asks if it does.
func (u *upload) rest(n int, err error) error {
	pause := firstPause << (n - 1)
	var refused *Error
	if errors.As(err, &refused) {
		pause = max(pause, refused.after)
	}
	if pause > u.e.r.o.Timeouts.Retry {
		return fmt.Errorf("%w; it asks to come back in %v", err, pause.Round(time.Second))
	}
	return u.e.r.sleep(u.ctx, pause)
}

// transient tells whether what failed may work when tried again.
func transient(err error) bool {
	var refused *Error
	var c *connectError
	switch {
	case errors.As(err, &refused):
		return passing(refused.Status)
	case errors.As(err, &c):
		return c.is == nil && !errors.Is(err, context.Canceled) && !errors.Is(err, errGone) && !errors.Is(err, errCancelled) && !errors.Is(err, errRedirect)
	}
	return false
}

// behind tells whether the registry has less, or more, than we thought.
func behind(err error) bool {
	var refused *Error
	return errors.As(err, &refused) && refused.Status == http.StatusRequestedRangeNotSatisfiable
}

// smallChunk is the size of pieces where a registry, or a proxy before it, found an upload too
// large for one request. Two of them are as much as is kept of every upload.
const smallChunk = windowSize / 2

func tooLarge(err error) bool {
	var refused *Error
	return errors.As(err, &refused) && refused.Status == http.StatusRequestEntityTooLarge
}

// withDigest adds the digest to the URL of an upload, the rest of which is the registry's
// own and stays as it is.
func withDigest(u *url.URL, d string) *url.URL {
	out := *u
	if out.RawQuery != "" {
		out.RawQuery += "&"
	}
	out.RawQuery += "digest=" + url.QueryEscape(d)
	out.ForceQuery = false
	return &out
}

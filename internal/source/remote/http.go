// Package remote fetches what a build takes from elsewhere: files by HTTP and trees
// from git repositories. It writes them into a file or folder it is given;
// what becomes of them, and what is remembered of them, is the business of build.
//
// Nothing it reads is trusted. Sizes, redirects, silence and time have limits, and git
// runs with no configuration of the user's and no hooks.
package remote

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
)

var (
	// ErrLimit is wrapped by errors about a file that is larger than allowed.
	ErrLimit = errors.New("larger than allowed")
	// ErrCutOff is wrapped by errors about a file that ended before its announced length.
	ErrCutOff = errors.New("the connection ended before the file did")
	// ErrStalled is wrapped by errors about a server that stopped sending.
	ErrStalled = errors.New("the server sends nothing")
	// ErrStatus is wrapped by errors about an answer that is not the file.
	ErrStatus = errors.New("the server answered")
)

// Limits of Client where its fields are zero.
const (
	maxSize      = 64 << 30         // the same as that of an uncompressed layer
	maxRedirects = 10               // as browsers and curl in practice
	maxSilence   = 60 * time.Second // of a server, before an answer and within one
	maxTries     = 4
	firstPause   = 500 * time.Millisecond // between tries, doubled each time
)

// Client gets files by HTTP. The zero value is ready and can be used by many at once.
type Client struct {
	Transport http.RoundTripper // nil: http.DefaultTransport, so with the proxies of the environment
	MaxSize   int64
	Silence   time.Duration
	Pause     time.Duration // before the second try
}

// Request says what to get.
type Request struct {
	URL string
	// Authorization is sent as the header of that name to the host of URL, and to no other
	// that it redirects to. Empty: none.
	Authorization string
	// ETag and LastModified are what the server said of a file that is there already.
	// If it is still the same it is not sent again.
	ETag, LastModified string
	// Progress is told how far it got; total is 0 where unknown. It may be nil.
	Progress func(current, total int64)
}

// Response is what came. Of a file that is NotModified nothing else is said.
type Response struct {
	NotModified        bool
	ETag, LastModified string    // as the server says them, to ask with next time
	ModTime            time.Time // Last-Modified, or zero
	Size               int64
	Digest             digest.Digest // sha256 of the content
}

// Get writes the file to f, which it empties first. It tries again where that may help:
// connections that fail or end early, and answers that say "later".
//
// Errors: ErrLimit, ErrCutOff, ErrStalled, ErrStatus.
func (c *Client) Get(ctx context.Context, r Request, f *os.File) (Response, error) {
	pause := c.Pause
	if pause == 0 {
		pause = firstPause
	}
	for try := 1; ; try++ {
		resp, err := c.get(ctx, r, f)
		if err == nil || ctx.Err() != nil {
			return resp, err
		}
		if !temporary(err) {
			return resp, err
		}
		if try == maxTries {
			return resp, fmt.Errorf("%w (tried %d times)", err, try)
		}
		select {
		case <-ctx.Done():
			return resp, ctx.Err()
		case <-time.After(pause):
			pause *= 2
		}
	}
}

// statusError is an answer that is not the file.
type statusError struct{ code int }

func (e *statusError) Error() string {
	return fmt.Sprintf("the server answered %d %s", e.code, http.StatusText(e.code))
}

func (e *statusError) Unwrap() error { return ErrStatus }

// temporary tells whether the same request may succeed a moment later.
func temporary(err error) bool {
	var status *statusError
	if errors.As(err, &status) {
		switch status.code {
		case http.StatusRequestTimeout, http.StatusTooManyRequests, http.StatusInternalServerError,
			http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
			return true
		}
		return false
	}
	var dns *net.DNSError
	if errors.As(err, &dns) {
		return dns.IsTemporary || dns.IsTimeout
	}
	var op *net.OpError
	return errors.Is(err, ErrCutOff) || errors.Is(err, ErrStalled) || errors.Is(err, io.EOF) || errors.As(err, &op)
}

func (c *Client) get(ctx context.Context, r Request, f *os.File) (Response, error) {
	watch := newWatch(ctx, c.Silence)
	defer watch.stop()
	resp, err := c.ask(watch.ctx, r)
	if err != nil {
		return Response{}, watch.explain(plain(err))
	}
	defer resp.Body.Close()
	out := Response{ETag: resp.Header.Get("ETag"), LastModified: resp.Header.Get("Last-Modified")}
	conditional := r.ETag != "" || r.LastModified != ""
	switch {
	case resp.StatusCode == http.StatusNotModified && conditional:
		return Response{NotModified: true}, nil
	case resp.StatusCode != http.StatusOK:
		return Response{}, &statusError{resp.StatusCode}
	case r.ETag != "" && weak(out.ETag) == weak(r.ETag):
		// A server that tells tags but does not compare them: we can, and leave the rest unread.
		return Response{NotModified: true}, nil
	}
	if t, err := http.ParseTime(out.LastModified); err == nil {
		out.ModTime = t
	}
	out.Size, out.Digest, err = c.save(resp, r, f, watch)
	return out, watch.explain(err)
}

// ask sends the request and follows redirects.
func (c *Client) ask(ctx context.Context, r Request) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.URL, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("User-Agent", "nacre")
	// Bytes as they are: checksums are over those, and nothing can swell on the way.
	req.Header.Set("Accept-Encoding", "identity")
	if r.Authorization != "" {
		req.Header.Set("Authorization", r.Authorization) // net/http drops it when another host comes
	}
	if r.ETag != "" {
		req.Header.Set("If-None-Match", r.ETag)
	} else if r.LastModified != "" {
		req.Header.Set("If-Modified-Since", r.LastModified)
	}
	client := http.Client{Transport: c.Transport, CheckRedirect: func(req *http.Request, via []*http.Request) error {
		if len(via) > maxRedirects {
			return fmt.Errorf("redirected more than %d times", maxRedirects)
		}
		if from := via[len(via)-1].URL; from.Scheme == "https" && req.URL.Scheme != "https" {
			return fmt.Errorf("redirected from https to %s, which nobody vouches for", req.URL.Scheme)
		}
		return nil
	}}
	return client.Do(req)
}

// save writes the body to f.
func (c *Client) save(resp *http.Response, r Request, f *os.File, w *watch) (int64, digest.Digest, error) {
	limit := c.MaxSize
	if limit == 0 {
		limit = maxSize
	}
	if resp.ContentLength > limit {
		return 0, "", fmt.Errorf("%w: %d bytes where %d are the limit", ErrLimit, resp.ContentLength, limit)
	}
	if err := f.Truncate(0); err != nil {
		return 0, "", err
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return 0, "", err
	}
	h := sha256.New()
	buf := make([]byte, 128<<10)
	size := int64(0)
	for {
		w.alive()
		n, err := resp.Body.Read(buf)
		if size += int64(n); size > limit {
			return 0, "", fmt.Errorf("%w: more than %d bytes", ErrLimit, limit)
		}
		h.Write(buf[:n])
		if _, err := f.Write(buf[:n]); err != nil {
			return 0, "", err
		}
		if r.Progress != nil && n > 0 {
			r.Progress(size, max(resp.ContentLength, 0))
		}
		if err == io.EOF {
			return size, digest.NewDigest(digest.SHA256, h), nil
		}
		if errors.Is(err, io.ErrUnexpectedEOF) {
			if resp.ContentLength > 0 {
				return 0, "", fmt.Errorf("%w: %d of %d bytes came", ErrCutOff, size, resp.ContentLength)
			}
			return 0, "", fmt.Errorf("%w: after %d bytes", ErrCutOff, size)
		}
		if err != nil {
			return 0, "", fmt.Errorf("after %d bytes: %w", size, err)
		}
	}
}

// weak is an entity tag without its mark of weakness: for us the same content is enough (RFC 9110, 8.8.3.2).
func weak(tag string) string { return strings.TrimPrefix(tag, "W/") }

// plain takes the URL, which may hold a password, out of an error of net/http.
func plain(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}

// watch cancels a request when the server is silent for too long.
type watch struct {
	ctx     context.Context
	cancel  context.CancelCauseFunc
	timer   *time.Timer
	silence time.Duration
}

func newWatch(ctx context.Context, silence time.Duration) *watch {
	if silence == 0 {
		silence = maxSilence
	}
	w := &watch{silence: silence}
	w.ctx, w.cancel = context.WithCancelCause(ctx)
	w.timer = time.AfterFunc(silence, func() { w.cancel(fmt.Errorf("%w for %v", ErrStalled, silence)) })
	return w
}

func (w *watch) alive() { w.timer.Reset(w.silence) }

func (w *watch) stop() {
	w.timer.Stop()
	w.cancel(nil)
}

// explain gives the reason of an error that the watch caused.
func (w *watch) explain(err error) error {
	if cause := context.Cause(w.ctx); err != nil && cause != nil {
		return cause
	}
	return err
}

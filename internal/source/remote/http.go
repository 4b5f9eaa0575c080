// Package remote fetches what a build takes from elsewhere: files by HTTP and trees
// from git repositories. It writes them into a file or folder it is given;
// what becomes of them, and what is remembered of them, is the business of build.
//
// Nothing it reads is trusted. Sizes, redirects, silence and time have limits, and git
// runs with no configuration of the user's and no hooks.
package remote

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
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
	maxSize      = 64 << 30               // the same as that of an uncompressed layer
	maxRedirects = 10                     // as browsers and curl in practice
	maxSilence   = 60 * time.Second       // of a server, before an answer and within one
	maxTries     = 4                      // that bring nothing new
	firstPause   = 500 * time.Millisecond // between tries, doubled each time
	maxPatience  = 2 * time.Minute        // with a server that says when to come again
	// progress is what has to come for a try to count as one that brought something: a server that
	// gives a byte at a time is given up.
	progress = 1 << 20
)

// Client gets files by HTTP. The zero value is ready and can be used by many at once.
type Client struct {
	Transport http.RoundTripper // nil: http.DefaultTransport, so with the proxies of the environment
	MaxSize   int64
	Silence   time.Duration                                    // after which a server is given up
	Pause     time.Duration                                    // before the second try
	Patience  time.Duration                                    // with Retry-After
	Wait      func(ctx context.Context, d time.Duration) error // between tries; nil: by the clock
}

// Request says what to get.
type Request struct {
	URL string
	// Authorization is sent as the header of that name to the host of URL, and to no other
	// host or port that it redirects to. Empty: none.
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
// connections that fail or end early, and answers that say "later". What had come is kept where the
// server can go on from there.
//
// Errors: ErrLimit, ErrCutOff, ErrStalled, ErrStatus.
func (c *Client) Get(ctx context.Context, r Request, f *os.File) (Response, error) {
	pause := or(c.Pause, firstPause)
	d := &download{Request: r, f: f, limit: or(c.MaxSize, maxSize)}
	had := int64(0)
	for try := 1; ; try++ {
		resp, err := c.get(ctx, d)
		if err == nil || ctx.Err() != nil || !temporary(err) {
			return resp, err
		}
		if d.size >= had+progress {
			had, try, pause = d.size, 1, or(c.Pause, firstPause)
		}
		if try == maxTries {
			return resp, fmt.Errorf("%w (tried %d times)", err, try)
		}
		wait := max(pause, later(err))
		if patience := or(c.Patience, maxPatience); wait > patience {
			return resp, fmt.Errorf("%w, and wants to be asked again after %v", err, wait)
		}
		if err := c.wait(ctx, wait); err != nil {
			return resp, err
		}
		pause *= 2
	}
}

func (c *Client) wait(ctx context.Context, d time.Duration) error {
	if c.Wait != nil {
		return c.Wait(ctx, d)
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

func or[T comparable](v, otherwise T) T {
	var zero T
	if v == zero {
		return otherwise
	}
	return v
}

// get is one try.
func (c *Client) get(ctx context.Context, d *download) (Response, error) {
	watch := newWatch(ctx, c.Silence)
	defer watch.stop()
	resp, err := c.ask(watch.ctx, d)
	if err != nil {
		return Response{}, watch.explain(plain(err))
	}
	defer resp.Body.Close()
	out := Response{ETag: resp.Header.Get("ETag"), LastModified: resp.Header.Get("Last-Modified")}
	conditional := d.ETag != "" || d.LastModified != ""
	switch {
	case resp.StatusCode == http.StatusPartialContent && d.size > 0:
		if !d.continues(resp) {
			d.forget()
			return Response{}, errElsewhere
		}
		out.ETag, out.LastModified = d.tag, d.date
	case resp.StatusCode == http.StatusRequestedRangeNotSatisfiable && d.size > 0:
		d.forget() // it has become shorter
		return Response{}, errElsewhere
	case resp.StatusCode == http.StatusNotModified && conditional && d.size == 0:
		return Response{NotModified: true}, nil
	case resp.StatusCode != http.StatusOK:
		return Response{}, newStatusError(resp)
	case d.ETag != "" && weak(out.ETag) == weak(d.ETag):
		// A server that tells tags but does not compare them: we can, and leave the rest unread.
		return Response{NotModified: true}, nil
	default:
		if err := d.begin(resp); err != nil {
			return Response{}, err
		}
	}
	if t, err := http.ParseTime(out.LastModified); err == nil {
		out.ModTime = t
	}
	if err := d.save(resp, watch); err != nil {
		return Response{}, watch.explain(err)
	}
	out.Size, out.Digest = d.size, digest.NewDigest(digest.SHA256, d.hash)
	return out, nil
}

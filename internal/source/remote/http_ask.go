package remote

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// ask sends the request and follows redirects.
func (c *Client) ask(ctx context.Context, d *download) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, d.URL, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("User-Agent", "nacre")
	// Bytes as they are: nothing can swell on the way, and where they stop they can go on.
	req.Header.Set("Accept-Encoding", "identity")
	if d.Authorization != "" {
		req.Header.Set("Authorization", d.Authorization)
	}
	switch {
	case d.size > 0:
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-", d.size))
		req.Header.Set("If-Range", or(d.tag, d.date))
	case d.ETag != "":
		req.Header.Set("If-None-Match", d.ETag)
	case d.LastModified != "":
		req.Header.Set("If-Modified-Since", d.LastModified)
	}
	client := http.Client{Transport: c.Transport, CheckRedirect: redirect}
	return client.Do(req)
}

// redirect tells whether to go on to the URL of req. Secrets do not: net/http would take them
// along to other ports, and to hosts below the first.
func redirect(req *http.Request, via []*http.Request) error {
	if len(via) > maxRedirects {
		return fmt.Errorf("redirected more than %d times", maxRedirects)
	}
	if from := via[len(via)-1].URL; from.Scheme == "https" && req.URL.Scheme != "https" {
		return fmt.Errorf("redirected from https to %s, which nobody vouches for", req.URL.Scheme)
	}
	if req.URL.Scheme != "http" && req.URL.Scheme != "https" {
		return fmt.Errorf("redirected to %s: only http and https are followed", req.URL.Scheme)
	}
	// A chain that left the host and comes back is not trusted any more: somebody else wrote its URL.
	for _, r := range append(slices.Clone(via[1:]), req) {
		if !sameHost(via[0].URL, r.URL) {
			req.Header.Del("Authorization")
		}
	}
	return nil
}

// sameHost tells whether b is served by whom a is: the same name and port, or the same name
// by https.
func sameHost(a, b *url.URL) bool {
	if !strings.EqualFold(a.Hostname(), b.Hostname()) {
		return false
	}
	return a.Scheme == b.Scheme && port(a) == port(b) || port(a) == "80" && port(b) == "443" && b.Scheme == "https"
}

func port(u *url.URL) string {
	switch p := u.Port(); {
	case p != "":
		return p
	case u.Scheme == "https":
		return "443"
	default:
		return "80"
	}
}

// statusError is an answer that is not the file.
type statusError struct {
	code  int
	later time.Duration // what Retry-After says
}

func newStatusError(resp *http.Response) *statusError {
	e := &statusError{code: resp.StatusCode}
	after := resp.Header.Get("Retry-After")
	if seconds, err := strconv.ParseInt(after, 10, 32); err == nil && seconds > 0 {
		e.later = time.Duration(seconds) * time.Second
	} else if at, err := http.ParseTime(after); err == nil {
		// By the server's own clock, which need not be right.
		now, err := http.ParseTime(resp.Header.Get("Date"))
		if err == nil {
			e.later = at.Sub(now)
		}
	}
	return e
}

func (e *statusError) Error() string {
	return strings.TrimSpace(fmt.Sprintf("the server answered %d %s", e.code, http.StatusText(e.code)))
}

func (e *statusError) Unwrap() error { return ErrStatus }

// later is when the server wants to be asked again.
func later(err error) time.Duration {
	if status, ok := errors.AsType[*statusError](err); ok {
		return status.later
	}
	return 0
}

// temporary tells whether the same request may succeed a moment later.
func temporary(err error) bool {
	if status, ok := errors.AsType[*statusError](err); ok {
		switch status.code {
		case http.StatusRequestTimeout, http.StatusTooManyRequests, http.StatusInternalServerError,
			http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
			return true
		}
		return false
	}
	if dns, ok := errors.AsType[*net.DNSError](err); ok {
		return dns.IsTemporary || dns.IsTimeout
	}
	for _, e := range []error{ErrCutOff, ErrStalled, errElsewhere, io.EOF, io.ErrUnexpectedEOF} {
		if errors.Is(err, e) {
			return true
		}
	}
	_, ok := errors.AsType[*net.OpError](err)
	return ok
}

// weak is an entity tag without its mark of weakness: for us the same content is enough (RFC 9110, 8.8.3.2).
func weak(tag string) string { return strings.TrimPrefix(tag, "W/") }

// plain takes the URL, which may hold a password, out of an error of net/http.
func plain(err error) error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		return u.Err
	}
	return err
}

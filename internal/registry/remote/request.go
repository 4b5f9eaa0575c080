package remote

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// request is one question to an endpoint.
type request struct {
	method string
	path   string   // below /v2/
	url    *url.URL // in place of path: where the server said to go on
	query  url.Values
	header http.Header
	scope  string
	// body makes what is sent, size bytes (-1: unknown), again for every attempt.
	body func(*watchdog) (io.Reader, error)
	size int64
	// once: the caller sees to it what happens after a failure.
	once bool
	wait time.Duration // for the answer; 0: Timeouts.Idle
}

// Attempts of one request, and the pauses between them: together some 6 s, after
// which a registry that restarts is back.
const (
	attempts   = 6
	firstPause = 200 * time.Millisecond
	// firstAttempts are those at a registry that refuses connections and never had any: more likely
	// it is not there at all, and somebody waits to be told.
	firstAttempts = 2
)

// op names a request in errors, without its query, which may hold secrets.
func (q *request) op() string {
	path := "/v2/" + q.path
	if q.url != nil {
		path = q.url.Path
	}
	return q.method + " " + plain(path, 300)
}

// do sends q until there is an answer that waiting will not change. It is returned if its status
// is among want, and is an error otherwise. Errors: *Error and connectError, with sentinels.
func (e *endpoint) do(ctx context.Context, q *request, want ...int) (*http.Response, error) {
	for n := 1; ; n++ {
		resp, err := e.authorized(ctx, q)
		if err != nil && ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if err == nil {
			e.answered.Store(true)
		}
		if err == nil && is(resp.StatusCode, want...) {
			return resp, nil
		}
		pause, again := e.pause(n, resp, err)
		if err == nil {
			err = e.refusal(q.op(), resp)
		} else {
			err = e.failure(q.op(), err)
		}
		if q.once || !again {
			return nil, err
		}
		if pause > e.r.o.Timeouts.Retry {
			return nil, fmt.Errorf("%w; it asks to come back in %v", err, pause.Round(time.Second))
		}
		if err := e.r.sleep(ctx, pause); err != nil {
			return nil, err
		}
	}
}

// pause tells how long to wait after the nth attempt, and whether there is to be another.
func (e *endpoint) pause(n int, resp *http.Response, err error) (time.Duration, bool) {
	if n >= attempts || n >= firstAttempts && !e.answered.Load() && errors.Is(err, syscall.ECONNREFUSED) {
		return 0, false
	}
	backoff := firstPause << (n - 1)
	backoff += rand.N(backoff / 4) // so that clients cut off together do not come back together
	if err != nil {
		return backoff, !e.final(err)
	}
	if passing(resp.StatusCode) {
		return max(backoff, retryAfter(resp.Header.Get("Retry-After"), time.Now())), true
	}
	return 0, false
}

// final tells whether a request that failed for err would do so again.
func (e *endpoint) final(err error) bool {
	var auth *authError
	var dns *net.DNSError
	switch {
	case errors.As(err, &auth):
		return !transient(auth.err)
	case errors.As(err, &dns) && dns.IsNotFound, errors.Is(err, errRedirect):
		return true
	}
	failure := e.failure("", err)
	return errors.Is(failure, ErrCertificate) || errors.Is(failure, ErrPlainHTTP)
}

// authError is a request that could not be authorized.
type authError struct{ err error }

func (a *authError) Error() string { return a.err.Error() }
func (a *authError) Unwrap() error { return a.err }

// retryAfter reads the header of that name: seconds or a date. Nonsense is 0.
func retryAfter(s string, now time.Time) time.Duration {
	if n, err := strconv.ParseUint(s, 10, 31); err == nil {
		return time.Duration(n) * time.Second
	}
	if t, err := http.ParseTime(s); err == nil {
		return max(0, t.Sub(now))
	}
	return 0
}

// authorized sends q, and again where the answer is 401 and there is a way to do
// better: a stale token may be followed by a new one, and that is all.
func (e *endpoint) authorized(ctx context.Context, q *request) (*http.Response, error) {
	for n := 0; ; n++ {
		resp, err := e.follow(ctx, q)
		if err != nil || resp.StatusCode != http.StatusUnauthorized || n == 2 || !e.own(resp.Request.URL) {
			return resp, err
		}
		again, err := e.auth.challenged(ctx, resp, q.scope, resp.Request.Header.Get("Authorization"))
		if err != nil {
			resp.Body.Close()
			return nil, &authError{err}
		}
		if !again {
			return resp, nil
		}
		resp.Body.Close()
	}
}

var errRedirect = errors.New("redirect refused")

// maxRedirects is that of browsers and curl, roughly.
const maxRedirects = 10

// follow sends q and follows redirects. Only the endpoint itself sees credentials.
func (e *endpoint) follow(ctx context.Context, q *request) (*http.Response, error) {
	u := q.url
	if u == nil {
		base, err := e.base(ctx)
		if err != nil {
			return nil, err
		}
		base.Path += q.path
		base.RawQuery = q.query.Encode()
		u = base
	}
	if err := e.allowed(u); err != nil {
		return nil, err
	}
	for range maxRedirects {
		resp, err := e.send(ctx, q, u)
		if err != nil || !is(resp.StatusCode, 301, 302, 303, 307, 308) || resp.Header.Get("Location") == "" {
			return resp, err
		}
		resp.Body.Close()
		if q.method != http.MethodGet && q.method != http.MethodHead && (q.once || !is(resp.StatusCode, 307, 308)) {
			return nil, fmt.Errorf("%w: %s is answered %d", errRedirect, q.method, resp.StatusCode)
		}
		next, err := u.Parse(resp.Header.Get("Location"))
		if err != nil {
			return nil, fmt.Errorf("%w: to something that is no URL", errRedirect)
		}
		if err := e.allowed(next); err != nil {
			return nil, err
		}
		u = next
	}
	return nil, fmt.Errorf("%w: more than %d in a row", errRedirect, maxRedirects)
}

// allowed tells whether this endpoint may send us to u: it cannot make us talk in the clear,
// nor to what only this machine can reach.
func (e *endpoint) allowed(u *url.URL) error {
	e.mu.Lock()
	secure := e.scheme != "http"
	e.mu.Unlock()
	switch {
	case u.Scheme != "https" && u.Scheme != "http" || u.Host == "":
		return fmt.Errorf("%w: to a URL that is not http", errRedirect)
	case loopback(u.Host) && !loopback(e.name):
		return fmt.Errorf("%w: to this machine", errRedirect)
	case u.Scheme == "http" && secure && !e.r.o.Hosts[u.Host].HTTP:
		return fmt.Errorf("%w: from https to http://%s", errRedirect, plain(u.Host, 100))
	}
	return nil
}

// own tells whether u is the endpoint itself.
func (e *endpoint) own(u *url.URL) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return u.Scheme == e.scheme && bare(u) == bare(&url.URL{Scheme: e.scheme, Host: e.name})
}

// bare is the host of u without a port that goes without saying.
func bare(u *url.URL) string {
	port := map[string]string{"http": ":80", "https": ":443"}[u.Scheme]
	return strings.ToLower(strings.TrimSuffix(u.Host, port))
}

// send makes one HTTP request of q to u.
func (e *endpoint) send(ctx context.Context, q *request, u *url.URL) (*http.Response, error) {
	if err := e.limit.Wait(ctx); err != nil {
		return nil, err
	}
	if e.gate != nil && !q.once {
		if err := e.gate.Acquire(ctx, 1); err != nil {
			return nil, err
		}
		defer e.gate.Release(1)
	}
	req, err := http.NewRequestWithContext(ctx, q.method, u.String(), nil)
	if err != nil {
		return nil, err
	}
	for k, v := range q.header {
		req.Header[k] = v
	}
	if e.own(u) {
		for k, v := range e.conf.Headers {
			req.Header.Set(k, v)
		}
		if err := e.auth.apply(ctx, req.Header, q.scope); err != nil {
			return nil, &authError{err}
		}
	}
	wait := q.wait
	if wait == 0 {
		wait = e.r.o.Timeouts.Idle
	}
	return e.attemptBody(req, wait, q)
}

// attempt sends req and waits so long for its answer, and then for each part of its body.
func (e *endpoint) attempt(req *http.Request, wait time.Duration) (*http.Response, error) {
	return e.attemptBody(req, wait, &request{})
}

func (e *endpoint) attemptBody(req *http.Request, wait time.Duration, q *request) (*http.Response, error) {
	ctx, dog := watch(req.Context(), wait)
	req = req.WithContext(ctx)
	req.Header.Set("User-Agent", e.r.o.UserAgent)
	if q.body != nil {
		body, err := q.body(dog)
		if err != nil {
			dog.stop()
			return nil, err
		}
		req.Body, req.ContentLength = io.NopCloser(body), q.size
		if q.size == 0 {
			req.Body = http.NoBody
		}
	}
	resp, err := e.client.Do(req)
	if err != nil {
		if cause := context.Cause(ctx); errors.Is(cause, errStalled) {
			err = cause
		}
		dog.stop()
		return nil, err
	}
	for _, w := range resp.Header.Values("Warning") {
		e.warning(w)
	}
	dog.answered(e.r.o.Timeouts.Idle)
	resp.Body = &watched{resp.Body, ctx, dog}
	return resp, nil
}

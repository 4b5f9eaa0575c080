package remote

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"
	"golang.org/x/time/rate"
)

// endpoint is one server that speaks the protocol.
type endpoint struct {
	r      *Registry
	name   string // host[:port]
	prefix string // of all repositories there, ends in a slash
	conf   HostConfig
	client *http.Client
	auth   *authorizer
	gate   *semaphore.Weighted // nil: no limit
	limit  *rate.Limiter

	answered atomic.Bool // once, whatever it said

	mu     sync.Mutex
	scheme string    // "" until it is known
	chunk  int64     // of uploads; 0: all in one
	down   time.Time // until when a mirror is left out
}

// endpoint makes the endpoint at host, whose configuration and credentials are those of domain.
// It is called with r.mu held.
func (r *Registry) endpoint(domain, host string, m mirror) (*endpoint, error) {
	conf := r.o.Hosts[domain]
	e := &endpoint{r: r, name: host, prefix: m.prefix, conf: conf, chunk: conf.Chunk, limit: rate.NewLimiter(rate.Inf, 0)}
	t, own, err := r.transport(domain, conf)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", domain, err)
	}
	e.client = &http.Client{Transport: t, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	switch {
	case conf.HTTP || m.http:
		e.scheme = "http"
	case own || !loopback(host):
		e.scheme = "https"
	}
	if conf.MaxRequests > 0 {
		e.gate = semaphore.NewWeighted(int64(conf.MaxRequests))
	}
	if conf.Rate > 0 {
		e.limit = rate.NewLimiter(rate.Limit(conf.Rate), 1)
	}
	e.auth = newAuthorizer(domain)
	e.auth.creds = func(ctx context.Context) (Credential, error) { return r.o.Credentials.Get(ctx, domain) }
	e.auth.fetch = func(req *http.Request) (*http.Response, error) {
		resp, err := e.attempt(req, r.o.Timeouts.Idle)
		if err != nil {
			return nil, e.failure(req.Method+" "+req.URL.Path+" at "+req.URL.Host, err)
		}
		return resp, nil
	}
	e.auth.may = e.maySend
	return e, nil
}

// transport makes what connects to a registry. own: there are certificates for it.
func (r *Registry) transport(domain string, c HostConfig) (t *http.Transport, own bool, err error) {
	conf, own, err := r.tlsConfig(domain, c)
	if err != nil {
		return nil, false, err
	}
	dial := &net.Dialer{Timeout: r.o.Timeouts.Connect}
	return &http.Transport{
		Proxy:                  http.ProxyFromEnvironment, // which leaves out loopback
		DialContext:            dial.DialContext,
		TLSClientConfig:        conf,
		TLSHandshakeTimeout:    r.o.Timeouts.Connect,
		ForceAttemptHTTP2:      true,
		DisableCompression:     true, // content is its bytes
		MaxIdleConnsPerHost:    16,
		MaxResponseHeaderBytes: 256 << 10,
		ReadBufferSize:         64 << 10,
		WriteBufferSize:        64 << 10,
	}, own, nil
}

// maySend tells whether a secret may be sent to u, asked for by this endpoint: over TLS, to this machine, or
// in the clear where that was configured for that host.
func (e *endpoint) maySend(u *url.URL) error {
	if u.Scheme == "https" || loopback(u.Host) || u.Host == e.name && e.conf.HTTP || e.r.o.Hosts[u.Host].HTTP {
		return nil
	}
	return &connectError{domain: e.auth.host, host: e.name, op: "credentials for " + u.Host, is: ErrPlainHTTP, err: errors.New("they would be sent unencrypted")}
}

// pieces is the size of the pieces of uploads; 0: they are sent in one.
func (e *endpoint) pieces() int64 {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.chunk
}

// smaller has uploads sent in pieces from now on.
func (e *endpoint) smaller() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.chunk = smallChunk
}

// outage is how long a mirror that failed is left out: its attempts take seconds.
const outage = time.Minute

// up tells whether a mirror is to be asked.
func (e *endpoint) up() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return !time.Now().Before(e.down)
}

// failed leaves a mirror out for a while.
func (e *endpoint) failed() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.down = time.Now().Add(outage)
}

// base is where the API is. A loopback address without configuration may speak either: it is asked.
func (e *endpoint) base(ctx context.Context) (*url.URL, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.scheme == "" {
		scheme, err := e.probe(ctx)
		if err != nil {
			return nil, err
		}
		e.scheme = scheme
	}
	return &url.URL{Scheme: e.scheme, Host: e.name, Path: "/v2/"}, nil
}

// probe finds out whether the server speaks TLS, by beginning to.
func (e *endpoint) probe(ctx context.Context) (string, error) {
	addr := e.name
	if _, _, err := net.SplitHostPort(addr); err != nil {
		addr = net.JoinHostPort(addr, "443")
	}
	ctx, cancel := context.WithTimeout(ctx, e.r.o.Timeouts.Connect)
	defer cancel()
	d := tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true}} // only to see whether it is TLS; nothing is said
	conn, err := d.DialContext(ctx, "tcp", addr)
	var plain tls.RecordHeaderError
	switch {
	case err == nil:
		conn.Close()
		return "https", nil
	case errors.As(err, &plain):
		return "http", nil
	case addr != e.name && ctx.Err() == nil: // nothing at 443
		return "http", nil
	}
	return "", err
}

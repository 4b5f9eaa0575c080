package remote

import (
	"context"
	"net"
	"net/http"
	"sync"
	"time"
)

// Slept makes r remember its pauses in place of making them.
func (r *Registry) Slept() func() []time.Duration {
	var mu sync.Mutex
	var all []time.Duration
	r.sleep = func(ctx context.Context, d time.Duration) error {
		mu.Lock()
		defer mu.Unlock()
		all = append(all, d)
		return ctx.Err()
	}
	return func() []time.Duration {
		mu.Lock()
		defer mu.Unlock()
		return all
	}
}

// Via makes all connections of r to the registry of a domain go to addr, as a name server would.
func (r *Registry) Via(domain, addr string) {
	s, err := r.site(domain)
	if err != nil {
		panic(err)
	}
	for _, e := range s.readers() {
		t := e.client.Transport.(*http.Transport)
		dial := t.DialContext
		t.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) { return dial(ctx, network, addr) }
	}
}

const (
	WindowSize = windowSize
	Attempts   = attempts
)

// ViaOrigin is Via for the registry itself, not its mirrors.
func (r *Registry) ViaOrigin(domain, addr string) {
	s, err := r.site(domain)
	if err != nil {
		panic(err)
	}
	t := s.origin.client.Transport.(*http.Transport)
	dial := t.DialContext
	t.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) { return dial(ctx, network, addr) }
}

// readers are the endpoints to read from, in order.
func (s *site) readers() []*endpoint {
	return append(s.mirrors[:len(s.mirrors):len(s.mirrors)], s.origin)
}

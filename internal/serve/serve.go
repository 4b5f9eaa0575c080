// Package serve runs a registry for others to use: it puts access rules, limits, TLS,
// logs, metrics, health, webhooks and jobs around the HTTP face of package server, as a
// configuration says.
//
// One request goes through one chain (handler.go): its client's address, then
// who it is from, whether they ask too often, whether they may; then the registry; then what was
// done is logged, counted and told to webhooks (observe.go).
package serve

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"nacre/internal/registry"
	"nacre/internal/registry/server"
	"nacre/internal/serve/auth"
	"nacre/internal/serve/config"
	"nacre/internal/serve/webhook"
)

// Options is what a Server needs besides its configuration. Zero values work but for
// State.
type Options struct {
	State   string // folder for keys, queues and unfinished uploads
	Log     *slog.Logger
	Now     func() time.Time
	Ready   func(context.Context) error // whether storage answers; nil: its first repository is looked for
	Jobs    []Job
	Version string
	Name    func(repo string) string // as server.Options.Name
}

// Server is a registry that listens.
type Server struct {
	c        config.Config
	o        Options
	registry registry.Registry
	face     *server.Server
	gate     *auth.Gate // nil: everybody may do everything
	hooks    *webhook.Sender
	limit    *limiter
	proxies  proxies
	measured *measured
	instance string // names this start of this server, in events
	tls      *certificates

	draining atomic.Bool
	ready    readiness

	main, admin *http.Server
	mainAddr    atomic.Value // of net.Addr
	adminAddr   atomic.Value
	listening   chan struct{}
	wait        sync.WaitGroup
}

// New prepares a server of r as c says. Close or Run ends what it starts.
func New(ctx context.Context, c config.Config, r registry.Registry, o Options) (_ *Server, err error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	s := &Server{c: c, o: o, registry: r, instance: newID(), listening: make(chan struct{})}
	if s.proxies, err = newProxies(c.TrustedProxies); err != nil {
		return nil, err
	}
	s.limit = newLimiter(c.Limits.Requests, c.Limits.Burst, o.Now)
	if s.tls, err = newCertificates(c.TLS, o.Log, o.Now); err != nil {
		return nil, err
	}
	if c.Auth.On() {
		s.gate, err = auth.New(c.Auth, auth.Options{Key: filepath.Join(o.State, "token.key"), URL: c.URL, Log: o.Log, Now: o.Now, Addr: clientOf})
		if err != nil {
			return nil, err
		}
	}
	s.measured = s.newMeasured()
	if s.hooks, err = s.openHooks(ctx); err != nil {
		return nil, err
	}
	s.face, err = server.New(r, s.faceOptions())
	if err != nil {
		return nil, errors.Join(err, s.closeHooks(ctx))
	}
	s.main = s.httpServer(s.handler())
	if c.Metrics.Enabled && c.Metrics.Addr != "" {
		s.admin = s.httpServer(s.adminHandler())
	}
	return s, nil
}

func (s *Server) faceOptions() server.Options {
	o := server.Options{
		Observe: s.observe, ReadOnly: s.c.ReadOnly, Sparse: s.c.Sparse,
		MaxBlob: int64(s.c.Limits.Body), MaxManifest: int64(s.c.Limits.Manifest),
		MaxWriters: s.c.Limits.Uploads, Stall: s.c.Limits.Stall,
		Authorize: s.authorize, Name: s.o.Name,
	}
	if s.gate != nil {
		o.Visible = func(repo string, r *http.Request) bool { return s.gate.Sees(visitOf(r).caller, repo) }
	}
	if _, ok := s.registry.(registry.Adopter); !ok {
		o.Uploads = filepath.Join(s.o.State, "uploads")
	}
	return o
}

func (s *Server) httpServer(h http.Handler) *http.Server {
	l := s.c.Limits
	return &http.Server{
		Handler: h, MaxHeaderBytes: int(l.Header), ReadHeaderTimeout: l.HeaderTime, IdleTimeout: l.Idle,
		ErrorLog: slog.NewLogLogger(s.o.Log.Handler(), slog.LevelDebug), // handshakes that fail and the like: clients' doing
	}
}

// Run listens and serves until ctx ends, and then stops as Drain says. A nil error means that
// all requests could finish.
func (s *Server) Run(ctx context.Context) error {
	defer s.close()
	main, err := s.listen(ctx, s.c.Addr)
	if err != nil {
		return err
	}
	failed := make(chan error, 2)
	s.mainAddr.Store(main.Addr())
	if s.admin != nil {
		admin, err := s.listen(ctx, s.c.Metrics.Addr)
		if err != nil {
			main.Close()
			return err
		}
		s.adminAddr.Store(admin.Addr())
		s.wait.Go(func() { failed <- s.admin.Serve(admin) })
	}
	s.announce(main)
	s.wait.Go(func() { failed <- s.serveMain(main) })
	jobs, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	for _, j := range s.o.Jobs {
		s.wait.Go(func() { s.repeat(jobs, j) })
	}
	close(s.listening)
	select {
	case err := <-failed:
		stop()
		return errors.Join(fmt.Errorf("serve: %w", err), s.drain())
	case <-ctx.Done():
	}
	stop()
	return s.drain()
}

func (s *Server) listen(ctx context.Context, addr string) (net.Listener, error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("listen at %s: %w", addr, err)
	}
	return limitConnections(l, s.c.Limits.Connections), nil
}

func (s *Server) serveMain(l net.Listener) error {
	if s.tls == nil {
		return s.main.Serve(l)
	}
	s.main.TLSConfig = s.tls.config()
	return s.main.ServeTLS(l, "", "")
}

// announce says where the server is, and what is unwise about it.
func (s *Server) announce(l net.Listener) {
	scheme := "http"
	if s.tls != nil {
		scheme = "https"
	}
	s.o.Log.Info("serving", "url", scheme+"://"+l.Addr().String(), "addr", l.Addr().String(), "version", s.o.Version, "read_only", s.c.ReadOnly)
	if a, ok := l.Addr().(*net.TCPAddr); ok && !a.IP.IsLoopback() {
		if s.tls == nil {
			s.o.Log.Warn("everybody on the network can read what is sent here, passwords too: there is no TLS", "hint", "--tls-cert and --tls-key, or a proxy that has TLS")
		}
		if s.gate == nil && !s.c.ReadOnly {
			s.o.Log.Warn("everybody who reaches this address can push and delete", "hint", "--htpasswd, auth in the configuration, or --read-only")
		}
	}
}

// Addr is where the server listens, once it does.
func (s *Server) Addr() string {
	<-s.listening
	return s.mainAddr.Load().(net.Addr).String()
}

// AdminAddr is where metrics are, if that is an address of their own.
func (s *Server) AdminAddr() string {
	<-s.listening
	a, ok := s.adminAddr.Load().(net.Addr)
	if !ok {
		return ""
	}
	return a.String()
}

// drain refuses new connections and lets running requests end until the deadline; then they
// are cut off. Uploads cut off can go on after the next start.
func (s *Server) drain() error {
	s.draining.Store(true)
	s.o.Log.Info("stopping: running requests may end", "within", s.c.Limits.Drain.String())
	ctx, cancel := context.WithTimeout(context.Background(), s.c.Limits.Drain)
	defer cancel()
	err := s.main.Shutdown(ctx)
	if err != nil {
		err = errors.New("some requests did not end in time and were cut off")
		s.o.Log.Warn(err.Error())
		s.main.Close()
	}
	if s.admin != nil {
		s.admin.Close()
	}
	s.wait.Wait()
	err = errors.Join(err, s.closeHooks(ctx))
	s.o.Log.Info("stopped")
	return err
}

// close ends what New started.
func (s *Server) close() {
	s.face.Close()
}

// Close ends a server that was never run.
func (s *Server) Close(ctx context.Context) error {
	s.close()
	return s.closeHooks(ctx)
}

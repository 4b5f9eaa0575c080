// Package server shows any registry.Registry over HTTP, as the OCI distribution
// spec 1.1 says (https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md),
// whole: pull, push, content discovery, content management.
//
// A request is parsed into one Request, which holds all that its method and
// URL say (parse.go, and backwards construct.go: nothing else knows a URL). A table
// indexed by its Kind picks the handler. What a handler returns as an error becomes an
// error body in one place (errors.go).
//
// Content that arrives is a file until it is whole (session.go): sent in one request or many,
// hashed on the way, found again after a restart of the server. Then the registry
// adopts the file, or it is copied where the registry cannot do that. Repositories have no domain here:
// "library/app", as in the URL.
//
// Who may do what is decided by a hook, and told to another when it is done: this package
// knows neither users nor logs.
package server

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"time"

	"nacre/internal/registry"
)

// Server is an http.Handler for everything below /v2/.
type Server struct {
	r         registry.Registry
	o         Options
	sessions  *sessions
	manifests *manifestCache
	writers   chan struct{} // one for each request that sends content

	stop context.CancelFunc
	wait sync.WaitGroup
}

// New serves r. Close ends what it starts.
func New(r registry.Registry, o Options) (*Server, error) {
	o = o.filled()
	sessions, err := openSessions(r, o)
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(context.Background())
	s := &Server{r: r, o: o, sessions: sessions, manifests: newManifestCache(), writers: make(chan struct{}, o.MaxWriters), stop: stop}
	s.wait.Go(func() { s.sessions.sweepUntil(ctx) })
	return s, nil
}

// Close stops what runs beside requests. Unfinished uploads stay for the next Server. It does not
// wait for requests: http.Server's Shutdown does.
func (s *Server) Close() error {
	s.stop()
	s.wait.Wait()
	return nil
}

// handlers answer what Parse found, by Kind.
var handlers = [kinds]func(*Server, *exchange) error{
	Ping:           (*Server).ping,
	Catalog:        (*Server).catalog,
	ListTags:       (*Server).listTags,
	ListReferrers:  (*Server).listReferrers,
	GetManifest:    (*Server).getManifest,
	HeadManifest:   (*Server).headManifest,
	PutManifest:    (*Server).putManifest,
	DeleteManifest: (*Server).deleteManifest,
	GetBlob:        (*Server).getBlob,
	HeadBlob:       (*Server).getBlob,
	DeleteBlob:     (*Server).deleteBlob,
	StartUpload:    (*Server).startUpload,
	PostBlob:       (*Server).postBlob,
	MountBlob:      (*Server).mountBlob,
	StatUpload:     (*Server).statUpload,
	AppendUpload:   (*Server).appendUpload,
	FinishUpload:   (*Server).finishUpload,
	CancelUpload:   (*Server).cancelUpload,
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	x := newExchange(w, r, s.o.Stall)
	if err := s.serve(x); err != nil {
		x.refuse(err)
	}
	x.end()
	if s.o.Observe != nil {
		s.o.Observe(r, x.done())
	}
}

func (s *Server) serve(x *exchange) (err error) {
	if len(x.http.RequestURI) > s.o.MaxURL {
		return errURLTooLong("the URL has more than %d bytes", s.o.MaxURL)
	}
	if x.req, err = Parse(x.http.Method, x.http.URL); err != nil {
		return err
	}
	if s.o.Name != nil {
		x.req.Repo, x.req.From = s.o.Name(x.req.Repo), s.o.Name(x.req.From)
	}
	if s.o.Authorize != nil {
		if err := s.o.Authorize(&x.req, x.http); err != nil {
			return err
		}
	}
	if verb := x.req.Kind.Verb(); s.o.ReadOnly && (verb == VerbPush || verb == VerbDelete) {
		return registry.ErrReadOnly
	}
	return handlers[x.req.Kind](s, x)
}

// mayRead tells whether the sender of x may read from a repository other than that of x.
func (s *Server) mayRead(x *exchange, other Request) bool {
	return s.o.Authorize == nil || s.o.Authorize(&other, x.http) == nil
}

// write takes a place among those that send content; free gives it back.
func (s *Server) write() (free func(), err error) {
	select {
	case s.writers <- struct{}{}:
		return func() { <-s.writers }, nil
	default:
		return nil, TooManyRequests(time.Second, "%d uploads are being received already", cap(s.writers))
	}
}

// ping says that this is a registry.
func (s *Server) ping(x *exchange) error {
	x.header()["Content-Type"] = []string{"application/json"}
	return x.send(http.StatusOK, []byte("{}"))
}

// absent tells whether err means that a registry does not have what was asked for. Something
// that is no manifest is no manifest that is there.
func absent(err error) bool {
	return errors.Is(err, registry.ErrAbsent) || errors.Is(err, registry.ErrInvalid)
}

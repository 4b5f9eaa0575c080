package serve

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"path"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"nacre/internal/registry/server"
	"nacre/internal/serve/auth"
)

// visit is what is known of one request besides what it asks for.
type visit struct {
	client string // address without port
	caller auth.Caller
	denied error // why it is not known who the caller is
	asked  bool  // its rate was looked at
	reason string
}

type visitKey struct{}

// visitOf is the visit of a request that came through handler.
func visitOf(r *http.Request) *visit {
	v, ok := r.Context().Value(visitKey{}).(*visit)
	if !ok {
		return &visit{client: r.RemoteAddr}
	}
	return v
}

func clientOf(r *http.Request) string { return visitOf(r).client }

// handler is everything at the main address.
func (s *Server) handler() http.Handler {
	face := http.Handler(s.face)
	mux := http.NewServeMux()
	s.health(mux)
	if s.gate != nil && s.gate.ServesTokens() {
		mux.HandleFunc("/token", s.limited(s.counted("token", s.gate.Token)))
	}
	if s.c.Metrics.Enabled && s.c.Metrics.Addr == "" {
		mux.HandleFunc("GET /metrics", s.limited(s.authenticated(s.metrics)))
	}
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.Write([]byte("This is a registry of container images. Its API is below /v2/.\n"))
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		v := &visit{client: s.proxies.client(r)}
		r = r.WithContext(context.WithValue(r.Context(), visitKey{}, v))
		s.measured.running.Add(1)
		defer s.measured.running.Add(-1)
		defer s.recovered(r)
		// The mux would clean paths and redirect: the registry looks at them as they are.
		if r.URL.Path == "/v2" || strings.HasPrefix(r.URL.Path, "/v2/") {
			s.identify(v, r)
			face.ServeHTTP(w, r)
			return
		}
		// Nor does it redirect others: "//v2/" is no way to /v2/.
		if path.Clean(r.URL.Path) != r.URL.Path {
			http.NotFound(w, r)
			return
		}
		s.small(mux, w, r)
	})
}

// adminHandler is everything at the address of metrics.
func (s *Server) adminHandler() http.Handler {
	mux := http.NewServeMux()
	s.health(mux)
	mux.HandleFunc("GET /metrics", s.metrics)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { s.small(mux, w, r) })
}

// small answers requests whose bodies and answers are: they have to be done in a while.
func (s *Server) small(h http.Handler, w http.ResponseWriter, r *http.Request) {
	c := http.NewResponseController(w)
	until := time.Now().Add(s.c.Limits.Stall)
	c.SetReadDeadline(until)
	c.SetWriteDeadline(until)
	r.Body = http.MaxBytesReader(w, r.Body, 64<<10)
	h.ServeHTTP(w, r)
	c.SetReadDeadline(time.Time{})
	c.SetWriteDeadline(time.Time{})
}

// identify finds out who a request is from.
func (s *Server) identify(v *visit, r *http.Request) {
	if s.gate == nil {
		return
	}
	if wait := s.limit.failed(v.client); wait > 0 {
		v.denied = &auth.Refusal{Status: http.StatusTooManyRequests, Code: "TOOMANYREQUESTS", Message: "too many requests", After: wait}
		return
	}
	v.caller, v.denied = s.gate.Identify(r)
}

// authorize is the hook of package server. For a mount it is asked twice.
func (s *Server) authorize(req *server.Request, r *http.Request) error {
	v := visitOf(r)
	if !v.asked {
		v.asked = true
		if wait := s.limit.ask(v.client, v.caller.Name); wait > 0 {
			return server.TooManyRequests(wait, "too many requests; come back in %s", wait.Round(time.Millisecond))
		}
	}
	if s.gate == nil {
		return nil
	}
	err := v.denied
	if err == nil {
		err = s.check(v.caller, req, r)
	}
	return s.refusal(v, err)
}

func (s *Server) check(c auth.Caller, req *server.Request, r *http.Request) error {
	switch req.Kind.Verb() {
	case server.VerbPing:
		return s.gate.CheckPing(r, c)
	case server.VerbCatalog:
		return s.gate.CheckCatalog(r, c)
	case server.VerbPull:
		return s.gate.Check(r, c, auth.Pull, req.Repo)
	case server.VerbPush:
		return s.gate.Check(r, c, auth.Push, req.Repo)
	case server.VerbDelete:
		return s.gate.Check(r, c, auth.Delete, req.Repo)
	}
	return errors.New("a verb without a rule")
}

// refusal says in the words of package server what package auth said.
func (s *Server) refusal(v *visit, err error) error {
	var ref *auth.Refusal
	if !errors.As(err, &ref) {
		return err
	}
	v.reason = ref.Reason
	e := server.Errorf(server.Code(ref.Code), "%s", ref.Message)
	if ref.After > 0 {
		e = server.TooManyRequests(ref.After, "%s", ref.Message)
	}
	e.Status = ref.Status
	if ref.Challenge != "" {
		e.Header = http.Header{"Www-Authenticate": {ref.Challenge}}
	}
	return e
}

// recovered logs what went wrong in us, which ends this request alone.
func (s *Server) recovered(r *http.Request) {
	switch p := recover(); p {
	case nil:
	case http.ErrAbortHandler:
		panic(p)
	default:
		s.o.Log.Error("panic", "method", r.Method, "path", limitText(r.URL.Path), "value", fmt.Sprint(p), "stack", string(debug.Stack()))
		panic(http.ErrAbortHandler)
	}
}

// counted counts what package server does not.
func (s *Server) counted(kind string, h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		start, seen := time.Now(), &statusWriter{ResponseWriter: w, status: http.StatusOK}
		h(seen, r)
		s.measured.requests.Add(1, kind, strconv.Itoa(seen.status))
		s.measured.seconds.Observe(time.Since(start).Seconds(), kind)
	}
}

// statusWriter remembers the status of an answer.
type statusWriter struct {
	http.ResponseWriter
	status int
}

func (w *statusWriter) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}

// limited lets nobody ask for h too often.
func (s *Server) limited(h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if wait := s.limit.ask(clientOf(r), ""); wait > 0 {
			(&auth.Refusal{Status: http.StatusTooManyRequests, Code: "TOOMANYREQUESTS", Message: "too many requests", After: wait}).Write(w)
			return
		}
		h(w, r)
	}
}

// authenticated asks callers who they are, where that matters.
func (s *Server) authenticated(h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if s.gate == nil || s.c.Metrics.Anonymous {
			h(w, r)
			return
		}
		c, err := s.gate.Identify(r)
		if err == nil && c.Anonymous() {
			err = &auth.Refusal{Status: http.StatusUnauthorized, Code: "UNAUTHORIZED", Message: "authentication required", Challenge: `Basic realm="` + s.c.Auth.Realm + `"`}
		}
		var ref *auth.Refusal
		switch {
		case errors.As(err, &ref):
			ref.Write(w)
		case err != nil:
			http.Error(w, "internal error", http.StatusInternalServerError)
		default:
			h(w, r)
		}
	}
}

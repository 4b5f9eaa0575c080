package serve

import (
	"context"
	"net/http"
	"sync"
	"time"

	"nacre/internal/registry"
)

// health is asked by those who start and stop servers: alive means that it answers, ready
// that storage does too, and that it is not stopping.
func (s *Server) health(mux *http.ServeMux) {
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { say(w, http.StatusOK, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		switch {
		case s.draining.Load():
			say(w, http.StatusServiceUnavailable, "stopping")
		case s.isReady(r.Context()) != nil:
			say(w, http.StatusServiceUnavailable, "storage does not answer")
		default:
			say(w, http.StatusOK, "ok")
		}
	})
}

func say(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	w.Write([]byte(text + "\n"))
}

// readiness remembers the last answer of storage for a second: anybody may ask.
type readiness struct {
	mu  sync.Mutex
	at  time.Time
	err error
}

// readyTime is how long storage may take to answer.
const readyTime = 5 * time.Second

func (s *Server) isReady(ctx context.Context) error {
	r := &s.ready
	r.mu.Lock()
	defer r.mu.Unlock()
	if d := time.Since(r.at); !r.at.IsZero() && d < time.Second {
		return r.err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), readyTime)
	defer cancel()
	ask := s.o.Ready
	if ask == nil {
		ask = s.firstRepo
	}
	err := ask(ctx)
	if err != nil && r.err == nil {
		s.o.Log.Error("storage does not answer", "error", err.Error())
	}
	r.at, r.err = time.Now(), err
	return err
}

func (s *Server) firstRepo(ctx context.Context) error {
	for _, err := range registry.Repos(ctx, s.registry, "") {
		return err
	}
	return nil
}

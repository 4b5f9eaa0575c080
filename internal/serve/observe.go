package serve

import (
	"context"
	"log/slog"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"nacre/internal/registry/server"
	"nacre/internal/serve/metrics"
)

// measured is what is counted.
type measured struct {
	set      metrics.Set
	running  atomic.Int64
	requests *metrics.Counter
	seconds  *metrics.Histogram
	sent     *metrics.Counter
	received *metrics.Counter
	hooks    *metrics.Counter
	jobs     *metrics.Counter
}

func (s *Server) newMeasured() *measured {
	m := &measured{}
	m.set.NewGauges("nacre_build_info", "The version that runs.", "version", map[string]func() float64{s.o.Version: func() float64 { return 1 }})
	start := s.o.Now()
	m.set.NewGauge("nacre_start_time_seconds", "When the server was started, in seconds since 1970.", func() float64 { return float64(start.UnixMilli()) / 1000 })
	m.set.NewGauge("nacre_requests_running", "Requests that are being answered.", func() float64 { return float64(m.running.Load()) })
	m.requests = m.set.NewCounter("nacre_requests_total", "Requests answered, by what was asked for and the status.", "kind", "status")
	m.seconds = m.set.NewHistogram("nacre_request_seconds", "How long requests took.", []float64{.001, .005, .02, .1, .5, 2, 10, 60, 600}, "kind")
	m.sent = m.set.NewCounter("nacre_sent_bytes_total", "Bytes sent in answers.", "kind")
	m.received = m.set.NewCounter("nacre_received_bytes_total", "Bytes of content received.", "kind")
	m.hooks = m.set.NewCounter("nacre_webhook_events_total", "Attempts to deliver events: ok, failed, dead (given up) or dropped (the queue was full).", "endpoint", "result")
	m.jobs = m.set.NewCounter("nacre_jobs_total", "Jobs that ran, by how they ended.", "job", "result")
	m.set.NewGauges("nacre_webhook_queue", "Events that wait to be delivered.", "endpoint", s.queueLengths())
	return m
}

func (s *Server) queueLengths() map[string]func() float64 {
	all := map[string]func() float64{}
	for _, w := range s.c.Webhooks {
		all[w.Name] = func() float64 {
			n, err := s.hooks.Length(context.Background(), w.Name)
			if err != nil {
				return -1
			}
			return float64(n)
		}
	}
	return all
}

func (s *Server) metrics(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	s.measured.set.WriteTo(w)
}

// observe is the hook of package server: a request was answered.
func (s *Server) observe(r *http.Request, d server.Done) {
	kind, status := d.Request.Kind.String(), strconv.Itoa(d.Status)
	if d.Request.Kind == server.Ping && d.Err != nil && r.URL.Path != "/v2/" {
		kind = "other" // it could not be parsed
	}
	m := s.measured
	m.requests.Add(1, kind, status)
	m.seconds.Observe(d.Duration.Seconds(), kind)
	m.sent.Add(d.Sent, kind)
	m.received.Add(d.Received, kind)
	if s.c.Log.Access || d.Status >= 500 {
		s.logRequest(r, d, kind)
	}
	s.tell(r, d)
}

func (s *Server) logRequest(r *http.Request, d server.Done, kind string) {
	level := slog.LevelInfo
	if d.Status >= 500 {
		level = slog.LevelError
	}
	if !s.o.Log.Enabled(r.Context(), level) {
		return
	}
	v := visitOf(r)
	attrs := []slog.Attr{
		slog.String("id", d.ID), slog.String("client", v.client), slog.String("method", r.Method), slog.String("path", limitText(r.URL.Path)),
		slog.String("kind", kind), slog.Int("status", d.Status), slog.Int64("sent", d.Sent), slog.Int64("received", d.Received),
		slog.Float64("ms", float64(d.Duration.Round(10*time.Microsecond))/1e6),
	}
	for _, a := range []struct{ key, value string }{
		{"user", v.caller.Name}, {"agent", limitText(r.UserAgent())}, {"reason", v.reason},
	} {
		if a.value != "" {
			attrs = append(attrs, slog.String(a.key, a.value))
		}
	}
	// Asking who somebody is is how every client begins: no error to speak of.
	if d.Err != nil && d.Status != http.StatusUnauthorized {
		attrs = append(attrs, slog.String("error", d.Err.Error()))
	}
	s.o.Log.LogAttrs(r.Context(), level, "request", attrs...)
}

// limitText keeps a line of the log short whatever a client sends.
func limitText(s string) string {
	const most = 512
	if len(s) > most {
		return s[:most] + "..."
	}
	return s
}

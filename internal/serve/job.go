package serve

import (
	"context"
	"time"
)

// Job is something to be done now and then while the server runs: collection, retention.
type Job struct {
	Name string
	// Every is the time from the end of one run to the beginning of the next; the first run is
	// after the first such time.
	Every time.Duration
	// Run does it; what it says is logged. It ends soon when its context does, and what is left
	// is done by the next run.
	Run func(context.Context) (done []any, err error)
}

func (s *Server) repeat(ctx context.Context, j Job) {
	t := time.NewTimer(j.Every)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		start := time.Now()
		done, err := j.Run(ctx)
		log := s.o.Log.With("job", j.Name, "seconds", time.Since(start).Round(time.Millisecond).Seconds())
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			s.measured.jobs.Add(1, j.Name, "failed")
			log.Error("job failed", "error", err.Error())
		default:
			s.measured.jobs.Add(1, j.Name, "ok")
			log.Info("job done", done...)
		}
		t.Reset(j.Every)
	}
}

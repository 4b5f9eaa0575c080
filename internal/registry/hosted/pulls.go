package hosted

import (
	"context"
	"fmt"
	"sync"
	"time"

	"nacre/internal/registry"
	"nacre/internal/registry/store"
)

const (
	// flushEvery is how long pulls are gathered before they are written down: each time
	// all that was remembered of the database is looked up again.
	flushEvery = 5 * time.Second
	// pullPrecision is how exactly the last pull is known: a tag that is pulled all the time is
	// written this often.
	pullPrecision = time.Minute
)

// pulls are those still to be written down.
type pulls struct {
	mu     sync.Mutex
	fresh  map[store.Pull]time.Time
	timer  *time.Timer // runs while there are any
	closed bool
	last   bounded[tagKey, time.Time] // when each was written or gathered last
}

// pulled notes that a tag was resolved now.
func (r *Registry) pulled(repo, tag string) {
	if r.o.ReadOnly {
		return
	}
	now := r.o.Clock()
	p := &r.pulls
	if last, ok := p.last.get(tagKey{repo, tag}); ok && now.Sub(last) < pullPrecision && now.After(last) {
		return
	}
	in, err := r.names.repo(repo)
	if err != nil {
		return
	}
	p.last.put(tagKey{repo, tag}, now)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	if p.fresh == nil {
		p.fresh = map[store.Pull]time.Time{}
	}
	p.fresh[store.Pull{Repo: in, Tag: tag}] = now
	if p.timer == nil {
		p.timer = time.AfterFunc(flushEvery, func() {
			if err := r.Flush(context.Background()); err != nil {
				r.o.Background(err)
			}
		})
	}
}

// Flush writes down when tags were pulled. It happens by itself every few seconds.
func (r *Registry) Flush(ctx context.Context) error {
	p := &r.pulls
	p.mu.Lock()
	fresh := p.fresh
	p.fresh = nil
	if p.timer != nil {
		p.timer.Stop()
		p.timer = nil
	}
	p.mu.Unlock()
	if err := r.s.NotePulls(ctx, fresh); err != nil {
		return fmt.Errorf("note pulls: %w", err)
	}
	return nil
}

func (p *pulls) stop() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
}

// fixed is the refusal to take an immutable tag away.
func fixed(ref registry.Ref) error { return fmt.Errorf("%s: %w", ref, store.ErrFixed) }

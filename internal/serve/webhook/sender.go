package webhook

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"time"

	"nacre/internal/glob"
)

// Endpoint is who is told.
type Endpoint struct {
	Name         string
	URL          string
	Secret       []byte // empty: bodies are not signed
	Headers      map[string]string
	Repositories []string      // patterns; none: all
	Actions      []string      // none: all
	Timeout      time.Duration // of one attempt
	Attempts     int           // before an event is given up
	Backoff      time.Duration // before the second attempt; each further one waits twice as long
	Queue        int           // events at most
}

// maxBackoff is the longest pause between two attempts.
const maxBackoff = time.Hour

func (e Endpoint) wants(ev Event) bool {
	return (len(e.Actions) == 0 || slices.Contains(e.Actions, ev.Action)) &&
		(len(e.Repositories) == 0 || glob.Any(e.Repositories, ev.Target.Repository))
}

// backoff is the pause after so many attempts.
func (e Endpoint) backoff(attempts int) time.Duration {
	d := maxBackoff
	if attempts < 30 {
		d = min(e.Backoff<<(attempts-1), maxBackoff)
	}
	return d
}

// Options is what a Sender needs besides endpoints. Zero values work.
type Options struct {
	Log       *slog.Logger
	Now       func() time.Time
	Transport http.RoundTripper
	// Delivered is told of every attempt: result is "ok", "failed", "dead" or "dropped".
	Delivered func(endpoint, result string)
}

// Sender keeps events and delivers them.
type Sender struct {
	o         Options
	endpoints []Endpoint
	queue     *queue
	client    *http.Client
	wake      []chan struct{} // by endpoint

	stop  context.CancelFunc // no new attempts
	abort context.CancelFunc // the running ones end too
	wait  sync.WaitGroup
}

// Open takes over the queue at path, with what is still in it.
func Open(ctx context.Context, path string, endpoints []Endpoint, o Options) (*Sender, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Delivered == nil {
		o.Delivered = func(string, string) {}
	}
	q, err := openQueue(ctx, path)
	if err != nil {
		return nil, fmt.Errorf("open the queue of webhooks: %w", err)
	}
	s := &Sender{o: o, endpoints: endpoints, queue: q, client: &http.Client{
		Transport: o.Transport,
		// Elsewhere the secret headers would be somebody else's.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
	abort, cancelAbort := context.WithCancel(context.WithoutCancel(ctx))
	stop, cancelStop := context.WithCancel(abort)
	s.stop, s.abort = cancelStop, cancelAbort
	for range endpoints {
		s.wake = append(s.wake, make(chan struct{}, 1))
	}
	for i := range endpoints {
		s.wait.Go(func() { s.run(stop, abort, i) })
	}
	return s, nil
}

// Add keeps an event for all endpoints that want it. When it returns, the event is on disk.
// Endpoints whose queue is full miss it, which is logged and no error.
func (s *Sender) Add(ctx context.Context, ev Event) error {
	var body []byte
	var errs []error
	for i, e := range s.endpoints {
		if !e.wants(ev) {
			continue
		}
		if body == nil {
			if ev.ID == "" {
				ev.ID = newID()
			}
			var err error
			if body, err = json.Marshal(envelope{[]Event{ev}}); err != nil {
				return err
			}
		}
		err := s.queue.add(ctx, e.Name, body, e.Queue, s.o.Now())
		switch {
		case errors.Is(err, errFull):
			s.o.Delivered(e.Name, "dropped")
			s.o.Log.Error("webhook: the queue is full, an event is lost", "endpoint", e.Name, "event", ev.ID, "action", ev.Action, "repository", ev.Target.Repository)
		case err != nil:
			errs = append(errs, fmt.Errorf("webhook %s: %w", e.Name, err))
		default:
			select {
			case s.wake[i] <- struct{}{}:
			default: // it is awake already
			}
		}
	}
	return errors.Join(errs...)
}

// Wants tells whether any endpoint would be told of such an event.
func (s *Sender) Wants(action, repo string) bool {
	ev := Event{Action: action, Target: Target{Repository: repo}}
	return slices.ContainsFunc(s.endpoints, func(e Endpoint) bool { return e.wants(ev) })
}

// Length is how many events wait for an endpoint.
func (s *Sender) Length(ctx context.Context, endpoint string) (int, error) {
	return s.queue.length(ctx, endpoint)
}

// Close lets running attempts end until ctx does. What was not delivered is kept for the
// next Open.
func (s *Sender) Close(ctx context.Context) error {
	s.stop()
	cancel := context.AfterFunc(ctx, s.abort)
	s.wait.Wait()
	cancel()
	s.abort()
	return s.queue.close()
}

// run delivers to one endpoint, one event after the other.
func (s *Sender) run(stop, abort context.Context, i int) {
	e := s.endpoints[i]
	for stop.Err() == nil {
		p, ok, err := s.queue.next(abort, e.Name)
		pause := 24 * time.Hour
		switch {
		case err != nil:
			s.o.Log.Error("webhook: the queue cannot be read", "endpoint", e.Name, "error", err.Error())
			pause = 10 * time.Second
		case ok:
			// A clock that was set does not stop deliveries for longer than a pause may last.
			pause = min(p.due.Sub(s.o.Now()), e.backoff(max(p.attempts, 1)))
		}
		if !ok || pause > 0 {
			if !s.sleep(stop, s.wake[i], pause, ok) {
				return
			}
			continue
		}
		if err := s.attempt(abort, e, p); err != nil && abort.Err() == nil {
			s.o.Log.Error("webhook: the queue cannot be written", "endpoint", e.Name, "error", err.Error())
			s.sleep(stop, nil, 10*time.Second, true)
		}
	}
}

// sleep ends after d, or when woken unless the first event's time decides.
func (s *Sender) sleep(stop context.Context, wake <-chan struct{}, d time.Duration, decided bool) bool {
	if decided {
		wake = nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-stop.Done():
		return false
	case <-wake:
	case <-t.C:
	}
	return true
}

// attempt delivers an event, or notes when to try again. The error is that of the queue.
func (s *Sender) attempt(ctx context.Context, e Endpoint, p pending) error {
	err := s.post(ctx, e, p.body)
	if ctx.Err() != nil {
		return ctx.Err() // broken off: no failure of the endpoint
	}
	if err == nil {
		s.o.Delivered(e.Name, "ok")
		return s.queue.done(ctx, p.id)
	}
	p.attempts++
	if p.attempts >= e.Attempts {
		s.o.Delivered(e.Name, "dead")
		s.o.Log.Error("webhook: an event is given up", "endpoint", e.Name, "attempts", p.attempts, "error", err.Error(), "event", string(p.body))
		return s.queue.bury(ctx, p.id, err.Error(), s.o.Now())
	}
	pause := e.backoff(p.attempts)
	s.o.Delivered(e.Name, "failed")
	s.o.Log.Warn("webhook: an attempt failed", "endpoint", e.Name, "attempt", p.attempts, "again_in", pause.String(), "error", err.Error())
	return s.queue.postpone(ctx, p.id, p.attempts, s.o.Now().Add(pause))
}

func (s *Sender) post(ctx context.Context, e Endpoint, body []byte) error {
	ctx, cancel := context.WithTimeout(ctx, e.Timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, e.URL, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", MediaType)
	req.Header.Set("User-Agent", "nacre")
	for name, value := range e.Headers {
		req.Header.Set(name, value)
	}
	if len(e.Secret) > 0 {
		req.Header.Set(SignatureHeader, Sign(e.Secret, body))
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10)) // so that the connection can be used again
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return fmt.Errorf("answered %s", resp.Status)
	}
	return nil
}

// newID is a random UUID (RFC 9562, version 4).
func newID() string {
	var b [16]byte
	rand.Read(b[:])
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	h := hex.EncodeToString(b[:])
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}

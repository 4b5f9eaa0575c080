package webhook

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// receiver is an endpoint that keeps what it gets.
type receiver struct {
	*httptest.Server
	status atomic.Int64
	mu     sync.Mutex
	got    []*http.Request
	bodies [][]byte
	events chan Event
}

func receive(t testing.TB) *receiver {
	r := &receiver{events: make(chan Event, 1000)}
	r.status.Store(200)
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, err := io.ReadAll(req.Body)
		var e envelope
		if err == nil {
			err = json.Unmarshal(body, &e)
		}
		if err != nil || len(e.Events) != 1 {
			t.Errorf("body %q: %v", body, err)
			return
		}
		r.mu.Lock()
		r.got, r.bodies = append(r.got, req), append(r.bodies, body)
		r.mu.Unlock()
		status := int(r.status.Load())
		w.WriteHeader(status)
		if status == 200 {
			r.events <- e.Events[0]
		}
	}))
	t.Cleanup(r.Close)
	return r
}

// next waits for an event.
func (r *receiver) next(t testing.TB) Event {
	t.Helper()
	select {
	case e := <-r.events:
		return e
	case <-time.After(20 * time.Second):
		t.Fatal("no event arrives")
		return Event{}
	}
}

func (r *receiver) attempts() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.got)
}

func endpoint(name, url string) Endpoint {
	return Endpoint{Name: name, URL: url, Timeout: 5 * time.Second, Attempts: 3, Backoff: 10 * time.Millisecond, Queue: 100}
}

func openSender(t testing.TB, path string, o Options, e ...Endpoint) *Sender {
	t.Helper()
	s, err := Open(t.Context(), path, e, o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func push(repo, tag string) Event {
	return Event{Action: Push, Target: Target{Repository: repo, Tag: tag}, Timestamp: time.Unix(1, 0).UTC()}
}

func TestDelivery(t *testing.T) {
	all, some := receive(t), receive(t)
	a := endpoint("all", all.URL)
	a.Secret, a.Headers = []byte("s3cret"), map[string]string{"Authorization": "Bearer x"}
	b := endpoint("some", some.URL)
	b.Repositories, b.Actions = []string{"team/**"}, []string{Push}
	s := openSender(t, filepath.Join(t.TempDir(), "q.db"), Options{}, a, b)
	defer s.Close(t.Context())
	for _, e := range []Event{push("other", "1"), {Action: Delete, Target: Target{Repository: "team/a"}}, push("team/a", "2")} {
		if err := s.Add(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
	if e := some.next(t); e.Target.Repository != "team/a" || e.Target.Tag != "2" {
		t.Errorf("the filtered endpoint got %+v", e)
	}
	for i, want := range []string{"other", "team/a", "team/a"} {
		e := all.next(t)
		if e.Target.Repository != want || len(e.ID) != 36 {
			t.Errorf("event %d is %+v", i, e)
		}
	}
	if n := some.attempts(); n != 1 {
		t.Errorf("the filtered endpoint got %d events", n)
	}
	req, body := all.got[0], all.bodies[0]
	if req.Header.Get("Authorization") != "Bearer x" || req.Header.Get("Content-Type") != MediaType {
		t.Errorf("headers %v", req.Header)
	}
	if got := req.Header.Get(SignatureHeader); got != Sign([]byte("s3cret"), body) {
		t.Errorf("signature %q", got)
	}
	if !s.Wants(Push, "team/x") || openSender(t, filepath.Join(t.TempDir(), "q.db"), Options{}, b).Wants(Pull, "team/x") {
		t.Error("Wants is wrong")
	}
}

// TestRetry: an endpoint that fails gets its events later, in order, and others do not wait for it.
func TestRetry(t *testing.T) {
	bad, good := receive(t), receive(t)
	bad.status.Store(500)
	e := endpoint("bad", bad.URL)
	e.Attempts = 1000
	s := openSender(t, filepath.Join(t.TempDir(), "q.db"), Options{}, e, endpoint("good", good.URL))
	defer s.Close(t.Context())
	for i := range 5 {
		s.Add(t.Context(), push("a", fmt.Sprint(i)))
	}
	for range 5 {
		good.next(t)
	}
	for bad.attempts() < 3 {
		time.Sleep(time.Millisecond)
	}
	bad.status.Store(200)
	for i := range 5 {
		if e := bad.next(t); e.Target.Tag != fmt.Sprint(i) {
			t.Errorf("event %d is %s", i, e.Target.Tag)
		}
	}
}

func TestDead(t *testing.T) {
	r := receive(t)
	r.status.Store(302)
	var log bytes.Buffer
	results := make(chan string, 10)
	s := openSender(t, filepath.Join(t.TempDir(), "q.db"), Options{
		Log:       slog.New(slog.NewTextHandler(&log, nil)),
		Delivered: func(_, result string) { results <- result },
	}, endpoint("e", r.URL))
	s.Add(t.Context(), push("a", "lost"))
	for _, want := range []string{"failed", "failed", "dead"} {
		if got := <-results; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	r.status.Store(200)
	s.Add(t.Context(), push("a", "next"))
	if e := r.next(t); e.Target.Tag != "next" {
		t.Errorf("got %+v", e)
	}
	var n int
	if err := s.queue.db.QueryRow(`SELECT count(*) FROM dead WHERE reason LIKE '%302%'`).Scan(&n); err != nil || n != 1 {
		t.Errorf("%d dead, %v", n, err)
	}
	if err := s.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(log.String(), "given up") || !strings.Contains(log.String(), "lost") {
		t.Errorf("the log does not have the event: %s", &log)
	}
}

func TestBounded(t *testing.T) {
	r := receive(t)
	r.status.Store(500)
	e := endpoint("e", r.URL)
	e.Queue, e.Backoff = 3, time.Hour
	dropped := 0
	s := openSender(t, filepath.Join(t.TempDir(), "q.db"), Options{Delivered: func(_, result string) {
		if result == "dropped" {
			dropped++
		}
	}}, e)
	defer s.Close(t.Context())
	for range 5 {
		if err := s.Add(t.Context(), push("a", "")); err != nil {
			t.Error(err)
		}
	}
	if n, err := s.Length(t.Context(), "e"); n != 3 || err != nil || dropped != 2 {
		t.Errorf("%d wait, %d were dropped, %v", n, dropped, err)
	}
}

// TestStalled: Close does not wait for an endpoint that never answers, and keeps its event.
func TestStalled(t *testing.T) {
	path := filepath.Join(t.TempDir(), "q.db")
	entered, leave := make(chan struct{}), make(chan struct{})
	stalled := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		close(entered)
		<-leave
	}))
	defer stalled.Close()
	defer close(leave)
	s := openSender(t, path, Options{}, endpoint("e", stalled.URL))
	s.Add(t.Context(), push("a", "kept"))
	<-entered
	if _, err := Open(t.Context(), path, nil, Options{}); err == nil || !strings.Contains(err.Error(), "another server") {
		t.Errorf("a second server: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Close(ctx); err != nil {
		t.Fatal(err)
	}
	r := receive(t)
	s = openSender(t, path, Options{}, endpoint("e", r.URL))
	defer s.Close(t.Context())
	if e := r.next(t); e.Target.Tag != "kept" {
		t.Errorf("got %+v", e)
	}
}

const childPath = "NACRE_TEST_WEBHOOK_QUEUE"

// TestKilled kills a process that has added events, in the middle of adding more: those
// it has reported are delivered by the next.
func TestKilled(t *testing.T) {
	if path := os.Getenv(childPath); path != "" {
		e := endpoint("e", "http://127.0.0.1:1/") // nobody there
		e.Attempts, e.Queue, e.Backoff = 1000, 1_000_000, time.Millisecond
		s := openSender(t, path, Options{}, e)
		for i := 0; ; i++ {
			if err := s.Add(t.Context(), push("a", fmt.Sprint(i))); err != nil {
				t.Fatal(err)
			}
			fmt.Printf("added %d\n", i)
		}
	}
	path := filepath.Join(t.TempDir(), "q.db")
	cmd := exec.Command(os.Args[0], "-test.run=^TestKilled$")
	cmd.Env = append(os.Environ(), childPath+"="+path)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	added := 0
	for added < 50 {
		if _, err := fmt.Fscanf(out, "added %d\n", &added); err != nil {
			t.Fatal(err)
		}
	}
	cmd.Process.Kill()
	rest, _ := io.ReadAll(out)
	cmd.Wait()
	added += strings.Count(string(rest), "added")
	r := receive(t)
	s := openSender(t, path, Options{}, endpoint("e", r.URL))
	defer s.Close(t.Context())
	for i := range added + 1 {
		if e := r.next(t); e.Target.Tag != fmt.Sprint(i) {
			t.Fatalf("event %d is %s", i, e.Target.Tag)
		}
	}
}

func TestBackoff(t *testing.T) {
	e := Endpoint{Backoff: time.Second}
	for attempts, want := range map[int]time.Duration{1: time.Second, 2: 2 * time.Second, 5: 16 * time.Second, 12: 2048 * time.Second, 13: time.Hour, 1000: time.Hour} {
		if got := e.backoff(attempts); got != want {
			t.Errorf("after %d: %s, want %s", attempts, got, want)
		}
	}
}

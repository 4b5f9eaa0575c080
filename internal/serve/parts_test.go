package serve

import (
	"context"
	"errors"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"nacre/internal/registry"
)

func TestClient(t *testing.T) {
	p, err := newProxies([]string{"10.0.0.0/8", "::1"})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ remote, forwarded, want string }{
		{"1.2.3.4:5", "", "1.2.3.4"},
		{"1.2.3.4:5", "6.6.6.6", "1.2.3.4"}, // not by a proxy: anybody can write it
		{"10.0.0.1:5", "6.6.6.6", "6.6.6.6"},
		{"10.0.0.1:5", "7.7.7.7, 6.6.6.6", "6.6.6.6"},
		{"10.0.0.1:5", "6.6.6.6, 10.9.9.9", "6.6.6.6"},
		{"10.0.0.1:5", "nonsense", "10.0.0.1"},
		{"10.0.0.1:5", "", "10.0.0.1"},
		{"[::1]:5", "2001:db8::1", "2001:db8::1"},
		{"[::ffff:10.0.0.1]:5", "6.6.6.6", "6.6.6.6"},
		{"@", "6.6.6.6", "@"},
	} {
		r := &http.Request{RemoteAddr: c.remote, Header: http.Header{}}
		if c.forwarded != "" {
			r.Header.Set("X-Forwarded-For", c.forwarded)
		}
		if got := p.client(r); got != c.want {
			t.Errorf("%+v: %s", c, got)
		}
	}
}

func TestLimiter(t *testing.T) {
	now := time.Unix(1000, 0)
	l := newLimiter(10, 2, func() time.Time { return now })
	for i, want := range []bool{true, true, false} {
		if got := l.ask("2001:db8::1", "") == 0; got != want {
			t.Errorf("request %d: %v", i, got)
		}
	}
	if l.ask("2001:db8::2", "") == 0 {
		t.Error("an address of the same network is another client")
	}
	if l.failed("2001:db8::3") == 0 || l.failed("1.1.1.1") != 0 {
		t.Error("failed is wrong")
	}
	if l.ask("2001:db8::1", "alice") != 0 {
		t.Error("a user is measured by address")
	}
	now = now.Add(100 * time.Millisecond)
	if l.ask("2001:db8::1", "") != 0 {
		t.Error("not after the pause")
	}
	for i := range maxBuckets + 10 {
		l.ask("a"+strconv.Itoa(i), "")
	}
	if len(l.buckets) > maxBuckets {
		t.Errorf("%d buckets", len(l.buckets))
	}
	if newLimiter(0, 1, time.Now).ask("x", "") != 0 {
		t.Error("no limit limits")
	}
}

func TestJobs(t *testing.T) {
	runs := make(chan int, 10)
	n := 0
	s := run(t, filled(t), "", Options{Jobs: []Job{{Name: "gc", Every: time.Millisecond, Run: func(context.Context) ([]any, error) {
		n++
		runs <- n
		if n == 2 {
			return nil, errors.New("broken")
		}
		return []any{"removed", 5}, nil
	}}}})
	for range 3 {
		<-runs
	}
	if err := s.ended(t); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(s.log.String(), `"removed":5`) || len(s.log.lines(t, "job failed")) != 1 {
		t.Error(s.log)
	}
}

// listener is one at an address that others reach.
type listener struct{ net.Listener }

func (listener) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 5000} }

func TestAnnounce(t *testing.T) {
	s := run(t, filled(t), "", Options{})
	if len(s.log.lines(t, "serving")) != 1 || strings.Contains(s.log.String(), `"WARN"`) {
		t.Errorf("at a loopback address: %s", s.log)
	}
	s.announce(listener{})
	for _, want := range []string{"everybody on the network can read", "can push and delete"} {
		if !strings.Contains(s.log.String(), want) {
			t.Errorf("it does not say %q: %s", want, s.log)
		}
	}
}

// panicking is storage with a mistake in it.
type panicking struct{ registry.Registry }

func (panicking) Resolve(context.Context, registry.Ref) (registry.Descriptor, error) {
	panic("a mistake")
}

// TestPanic: a mistake of ours ends one request, and is logged.
func TestPanic(t *testing.T) {
	s := run(t, panicking{filled(t)}, "", Options{})
	if resp, err := http.Get(s.url + "/v2/a/manifests/1"); err == nil {
		t.Errorf("answered %s", resp.Status)
	}
	if status, _ := s.get(t, "/v2/", ""); status != 200 {
		t.Errorf("the next request: %d", status)
	}
	if l := s.log.lines(t, "panic"); len(l) != 1 || l[0]["value"] != "a mistake" {
		t.Errorf("the log: %s", s.log)
	}
}

package remote_test

import (
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"syscall"
	"testing"

	"nacre/internal/registry"
	"nacre/internal/registry/remote"
)

// TestRefused: a registry that was never there is given up soon, one that was is waited for: it
// may be restarting.
func TestRefused(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	server := &httptest.Server{Listener: l, Config: &http.Server{Handler: http.NotFoundHandler()}}

	ref := registry.Ref{Repo: addr + "/app", Tag: "1"}
	never, once := client(t, remote.Options{}), client(t, remote.Options{})
	pausesOfNever, pausesOfOnce := never.Slept(), once.Slept()

	server.Start()
	if _, err := once.Resolve(t.Context(), ref); !errors.Is(err, registry.ErrAbsent) {
		t.Fatal(err)
	}
	server.Close()

	for _, r := range []*remote.Registry{never, once} {
		if _, err := r.Resolve(t.Context(), ref); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("got %v", err)
		}
	}
	if n := len(pausesOfNever()); n > 1 {
		t.Errorf("%d pauses for a registry that never was there", n)
	}
	if n := len(pausesOfOnce()); n != remote.Attempts-1 {
		t.Errorf("%d pauses for one that may come back, want %d", n, remote.Attempts-1)
	}
}

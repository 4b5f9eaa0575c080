package main

import (
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"nacre/internal/registry/remote"
)

// TestRegistryHints: what to do about a registry that cannot be talked with names it.
func TestRegistryHints(t *testing.T) {
	refuse := func(status int) *httptest.Server {
		return httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(status) }))
	}
	unauthorized, denied, secure := refuse(401), refuse(403), refuse(200)
	unauthorized.Start()
	denied.Start()
	secure.Config.ErrorLog = log.New(io.Discard, "", 0)
	secure.StartTLS()
	for s, want := range map[*httptest.Server]string{
		unauthorized: "nacre login HOST",
		denied:       "nacre login HOST",
		secure:       `[host."HOST"] in registries.toml takes ca`,
	} {
		defer s.Close()
		host := s.Listener.Addr().String()
		err := remote.Verify(t.Context(), remote.Options{}, host, remote.Credential{Username: "ann", Password: "x"})
		if got := hint(err); !strings.Contains(got, strings.ReplaceAll(want, "HOST", host)) {
			t.Errorf("%v: hint %q, want %q", err, got, want)
		}
	}
	if got := registryHint(io.EOF); got != "" {
		t.Errorf("an error of something else: %q", got)
	}
}

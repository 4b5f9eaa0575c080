package store_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"nacre/internal/registry"
	"nacre/internal/registry/store"

	"github.com/opencontainers/go-digest"
)

// TestPushed: an image is known by the digest that a registry has it as.
func TestPushed(t *testing.T) {
	s := open(t)
	img := put(t, s, 1, []string{"app:1", "q.example/app:1", "q.example/app:2"}, made(t, s, nil, "pushed"))
	pushed := digest.FromString("the manifest with compressed layers")
	if err := s.Pushed(t.Context(), "q.example/app", img.Target.Digest, pushed); err != nil {
		t.Fatal(err)
	}
	got, err := s.Lookup(t.Context(), "app:1")
	want := fmt.Sprintf("app@%s q.example/app@%s", img.Target.Digest, pushed)
	if err != nil || strings.Join(familiar(got.Digests), " ") != want {
		t.Errorf("digests %q, %v; want %q", familiar(got.Digests), err, want)
	}
	if got, err := s.Lookup(t.Context(), "q.example/app@"+pushed.String()); err != nil || got.ID != img.ID {
		t.Errorf("by the pushed digest: %s, %v", got.ID, err)
	}
	for n, err := range s.Refs(t.Context()) {
		if err != nil || n.Ref.Digest != "" {
			t.Errorf("listed %s, %v", n.Ref, err)
		}
	}
	wantSound(t, s)
	if _, _, err := s.Remove(t.Context(), "q.example/app:1", store.RemoveOptions{}); err != nil {
		t.Fatal(err)
	}
	// With the last tag of a repository goes what was pushed there.
	untagged, _, err := s.Remove(t.Context(), "q.example/app:2", store.RemoveOptions{})
	if err != nil || len(untagged) != 2 || untagged[1].Digest != pushed {
		t.Errorf("untagged %q, %v", familiar(untagged), err)
	}
	for _, bad := range []error{
		s.Pushed(t.Context(), "a", digest.FromString("absent"), pushed),
		s.Pushed(t.Context(), "", img.Target.Digest, pushed),
		s.Pushed(t.Context(), "a", img.Target.Digest, "sha256:12"),
	} {
		if !errors.Is(bad, registry.ErrAbsent) && !errors.Is(bad, registry.ErrInvalid) {
			t.Errorf("error %v", bad)
		}
	}
}

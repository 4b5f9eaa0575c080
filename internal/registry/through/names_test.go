package through_test

import (
	"errors"
	"strings"
	"sync"
	"testing"

	"nacre/internal/registry"
	"nacre/internal/registry/registrytest"
	"nacre/internal/registry/remote"
	"nacre/internal/registry/server"
	"nacre/internal/registry/server/servertest"
)

// TestNames: copies cannot be written to, are listed by their names, and have no other.
func TestNames(t *testing.T) {
	w := open(t)
	img := w.push(t, "1", "one")
	w.push(t, "2", "two")
	w.pull(t, "1", img)
	w.settled(t, "1", img)
	registrytest.Put(t, w, registry.Ref{Repo: "own/app", Tag: "1"}, img)
	if _, err := w.Create(t.Context(), "docker.io/library/app", img.Desc()); !errors.Is(err, registry.ErrReadOnly) {
		t.Errorf("create: %v", err)
	}
	if err := w.Tag(t.Context(), registry.Ref{Repo: "docker.io/library/app", Tag: "3"}, img.Desc()); !errors.Is(err, registry.ErrReadOnly) {
		t.Errorf("tag: %v", err)
	}
	if _, err := w.Resolve(t.Context(), registry.Ref{Repo: "registry-1.docker.io/library/app", Tag: "1"}); !errors.Is(err, registry.ErrAbsent) {
		t.Errorf("the copy has another name: %v", err)
	}
	list := func(seq func(func(string, error) bool)) string {
		var all []string
		for v, err := range seq {
			if err != nil {
				t.Error(err)
			}
			all = append(all, v)
		}
		return strings.Join(all, " ")
	}
	if got := list(w.Repos(t.Context(), "")); got != "docker.io/library/app own/app" {
		t.Errorf("repositories: %s", got)
	}
	if got := list(w.Tags(t.Context(), "docker.io/library/app", "")); got != "1 2" {
		t.Errorf("tags: %s", got)
	}
	w.fail(500)
	if got := list(w.Tags(t.Context(), "docker.io/library/app", "")); got != "1" {
		t.Errorf("tags without the far registry: %s", got)
	}
	w.fault.Store(nil)
	if err := w.Untag(t.Context(), registry.Ref{Repo: "docker.io/library/app", Tag: "1"}); err != nil {
		t.Error(err)
	}
	w.pull(t, "1", img) // it is fetched again
}

// TestServed is the whole way: a server over it, and a client of that.
func TestServed(t *testing.T) {
	w := open(t)
	img := w.push(t, "1", "one")
	srv := servertest.Serve(t, w, server.Options{})
	client, err := remote.New(remote.Options{Credentials: remote.Anonymous{}})
	if err != nil {
		t.Fatal(err)
	}
	host := client.Host(strings.TrimPrefix(srv.URL, "http://"))
	var wg sync.WaitGroup
	for range 5 {
		wg.Go(func() {
			d, err := host.Resolve(t.Context(), registry.Ref{Repo: "docker.io/library/app", Tag: "1"})
			if err != nil || d.Digest != img.Desc().Digest {
				t.Errorf("%v %v", d, err)
				return
			}
			registrytest.Check(t, host, "docker.io/library/app", img)
		})
	}
	wg.Wait()
	w.settled(t, "1", img)
}

package store_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"nacre/internal/event"
	"nacre/internal/registry"
	"nacre/internal/registry/hosted"
	"nacre/internal/registry/registrytest"
	"nacre/internal/registry/store"

	"golang.org/x/sys/unix"
)

// TestDieWhilePushing is TestDieAtEveryPoint of what a registry server does.
func TestDieWhilePushing(t *testing.T) {
	dir := t.TempDir()
	mount(t, "tmpfs", dir, "tmpfs", 0, "size=64m")
	for n, ended := 1, false; !ended; n++ {
		root := filepath.Join(dir, strconv.Itoa(n))
		p := start(t, "push", root, strconv.Itoa(n))
		err := p.wait()
		ended = err == nil
		if !ended && (p.stderr.Len() > 0 || !strings.Contains(err.Error(), "killed")) {
			t.Fatalf("point %d: %v: %s", n, err, p.stderr.String())
		}
		at := "the end"
		said := map[string]string{} // the last that was said of each tag
		for _, line := range p.lines {
			what, rest, _ := strings.Cut(line, " ")
			if what == "at" {
				at = rest
			} else {
				said[what] = rest
			}
		}
		wantPushed(t, root, said, fmt.Sprintf("killed at point %d, %s", n, at))
		if p := start(t, "push", root, "0"); p.wait() != nil {
			t.Fatalf("killed at point %d, %s; then again: %s", n, at, p.stderr.String())
		}
		s := openAt(t, root, store.Options{})
		if _, err := s.Prune(t.Context(), store.PruneOptions{}); err != nil {
			t.Fatal(err)
		}
		if r := wantSound(t, s); r.Leftovers > 0 {
			t.Errorf("killed at point %d, %s: %d leftovers", n, at, r.Leftovers)
		}
		s.Close()
		if ended {
			t.Logf("%d points", n-1)
			if n < 40 {
				t.Errorf("only %d points: the story is not what it was", n)
			}
		}
		os.RemoveAll(root)
	}
}

// wantPushed fails the test unless the store is sound and has, whole, all that was acknowledged.
func wantPushed(t *testing.T, root string, said map[string]string, when string) {
	s := openAt(t, root, store.Options{})
	defer s.Close()
	for _, problem := range wantSound(t, s).Problems {
		t.Errorf("%s: %s", when, problem)
	}
	r := hosted.New(s, hosted.Options{})
	defer r.Close()
	for name, what := range said {
		if what == "going" {
			continue
		}
		repo, tag, _ := strings.Cut(name, ":")
		d, err := r.Resolve(t.Context(), registry.Ref{Repo: repo, Tag: tag})
		img := registrytest.Hello(what, gzipLayer)
		// The next push may have been done, and its acknowledgement not been read.
		if err == nil && d.Digest == registrytest.Hello(what+"'", gzipLayer).Desc().Digest {
			img = registrytest.Hello(what+"'", gzipLayer)
		}
		if err != nil || d.Digest != img.Desc().Digest {
			t.Errorf("%s: %s is %s, %v; want that of %s", when, name, d.Digest, err, what)
			continue
		}
		registrytest.Check(t, r, repo, img)
	}
}

// pushing pushes, moves tags, mounts, deletes and collects, saying what is done.
func pushing() error {
	ctx := context.Background()
	die, _ := strconv.Atoi(os.Args[2])
	s, err := store.Open(ctx, os.Args[1], store.Options{})
	if err != nil {
		return err
	}
	n := 0
	store.AtPoints(s, func(what string) {
		if n++; n == die {
			fmt.Println("at", what)
			unix.Kill(os.Getpid(), unix.SIGKILL)
			select {}
		}
	})
	var later time.Duration
	r := hosted.New(s, hosted.Options{Clock: func() time.Time { return time.Now().Add(later) }})
	push := func(repo, tag, name string) error {
		img := registrytest.Hello(name, gzipLayer)
		for _, b := range img.Blobs {
			if err := registrytest.Push(ctx, r, repo, b); err != nil {
				return err
			}
		}
		if err := r.Tag(ctx, registry.Ref{Repo: repo, Tag: tag}, img.Desc()); err != nil {
			return err
		}
		fmt.Printf("%s:%s %s\n", repo, tag, name)
		return nil
	}
	err = errors.Join(push("app", "1", "a"), push("app", "1", "a'"), push("team/b", "1", "b"))
	if err != nil {
		return err
	}
	b := registrytest.Hello("b", gzipLayer)
	for _, blob := range b.Blobs[:3] {
		if err := r.Mount(ctx, "c", "team/b", blob.Descriptor); err != nil {
			return err
		}
	}
	if err := push("c", "1", "b"); err != nil {
		return err
	}
	fmt.Println("app:1 going")
	if err := r.Untag(ctx, registry.Ref{Repo: "app", Tag: "1"}); err != nil {
		return err
	}
	fmt.Println("team/b:1 going")
	if err := r.Delete(ctx, "team/b", b.Desc().Digest); err != nil {
		return err
	}
	later = 48 * time.Hour
	if _, err := r.Collect(ctx, hosted.CollectOptions{}); err != nil {
		return err
	}
	if report, err := s.Check(ctx, false, event.Discard); err != nil || !report.Clean() {
		return fmt.Errorf("check: %v, %w", report.Problems, err)
	}
	return errors.Join(r.Close(), s.Close())
}

package hosted_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"nacre/internal/registry"
	"nacre/internal/registry/hosted"
	"nacre/internal/registry/registrytest"
	"nacre/internal/registry/store"
)

// crowd pushes, deletes and collects at the same time, through two stores that share a root as two
// processes do. Its clock only moves between pushes, by more than the grace: so whatever is not
// referred to may go at any moment, but for what a push that is going on was told.
type crowd struct {
	t      *testing.T
	clock  atomic.Int64
	moving sync.RWMutex // held by pushes
	r      [2]*hosted.Registry
	images []registrytest.Image
}

func TestConcurrent(t *testing.T) {
	c := &crowd{t: t}
	c.clock.Store(time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC).UnixNano())
	now := func() time.Time { return time.Unix(0, c.clock.Load()) }
	root := t.TempDir()
	for i := range c.r {
		s, err := store.Open(t.Context(), root, store.Options{Clock: now})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		c.r[i] = hosted.New(s, hosted.Options{Clock: now, Background: func(err error) { t.Errorf("in the background: %v", err) }})
		defer c.r[i].Close()
		if i == 1 {
			defer func() { wantSound(t, s) }()
		}
	}
	for i := range 5 {
		c.images = append(c.images, registrytest.Hello(fmt.Sprint("shared ", i), gzipLayer))
	}
	ctx, stop := context.WithCancel(t.Context())
	var collector, pushers sync.WaitGroup
	collector.Go(func() { c.collect(ctx) })
	for i := range 6 {
		pushers.Go(func() { c.push(i) })
	}
	pushers.Wait()
	stop()
	collector.Wait()
}

func (c *crowd) collect(ctx context.Context) {
	for i := 0; ctx.Err() == nil; i++ {
		c.moving.Lock()
		c.clock.Add(int64(48 * time.Hour))
		c.moving.Unlock()
		if _, err := c.r[i%2].Collect(ctx, hosted.CollectOptions{}); err != nil && ctx.Err() == nil {
			c.t.Errorf("collect: %v", err)
		}
	}
}

// push is what one client does in its own repository.
func (c *crowd) push(n int) {
	repo := fmt.Sprint("repo", n)
	rnd := rand.New(rand.NewPCG(uint64(n), 7))
	for range 25 {
		r := c.r[rnd.IntN(2)]
		img := c.images[rnd.IntN(len(c.images))]
		c.moving.RLock()
		if err := pushLazily(r, repo, fmt.Sprint("repo", rnd.IntN(6)), img); err != nil {
			c.t.Errorf("push to %s: %v", repo, err)
		}
		registrytest.Check(c.t, c.r[rnd.IntN(2)], repo, img)
		c.moving.RUnlock()
		var err error
		switch rnd.IntN(3) {
		case 0:
			err = r.Untag(context.Background(), ref(repo, "1"))
		case 1:
			err = r.Delete(context.Background(), repo, img.Desc().Digest)
		}
		if err != nil {
			c.t.Errorf("remove from %s: %v", repo, err)
		}
		if _, err := c.r[rnd.IntN(2)].Resolve(context.Background(), ref("nobody", "1")); !errors.Is(err, registry.ErrAbsent) {
			c.t.Error(err)
		}
	}
}

// pushLazily sends only what is not there and cannot be mounted, as clients do.
func pushLazily(r *hosted.Registry, repo, from string, img registrytest.Image) error {
	ctx := context.Background()
	last := len(img.Blobs) - 1
	for _, b := range img.Blobs[:last] {
		if ok, err := r.Has(ctx, repo, b.Descriptor); err != nil || ok {
			if err != nil {
				return err
			}
			continue
		}
		if err := r.Mount(ctx, repo, from, b.Descriptor); err == nil {
			continue
		} else if !errors.Is(err, registry.ErrAbsent) {
			return fmt.Errorf("mount: %w", err)
		}
		if err := registrytest.Push(ctx, r, repo, b); err != nil {
			return err
		}
	}
	if err := registrytest.Push(ctx, r, repo, img.Blobs[last]); err != nil {
		return err
	}
	return r.Tag(ctx, ref(repo, "1"), img.Desc())
}

// TestManyAtOnce pushes different and equal blobs at one time: their transactions are shared.
func TestManyAtOnce(t *testing.T) {
	f := open(t, hosted.Options{})
	now := time.Now()
	r := hosted.New(f.s, hosted.Options{Clock: func() time.Time { return now }})
	var wg sync.WaitGroup
	for i := range 64 {
		wg.Go(func() {
			b := registrytest.NewBlob("application/octet-stream", fmt.Append(nil, "blob ", i/2))
			if err := registrytest.Push(context.Background(), r, fmt.Sprint("repo", i%4), b); err != nil {
				t.Errorf("%d: %v", i, err)
			}
			// One that fails takes no other with it.
			wrong := b
			wrong.Size++
			if err := registrytest.Push(context.Background(), r, "x", wrong); err == nil {
				t.Error("a wrong size was accepted")
			}
		})
	}
	wg.Wait()
	for i := range 64 {
		b := registrytest.NewBlob("application/octet-stream", fmt.Append(nil, "blob ", i/2))
		registrytest.Check(t, r, fmt.Sprint("repo", i%4), registrytest.Image{Blobs: []registrytest.Blob{b}})
	}
	wantSound(t, f.s)
}

// TestSeenElsewhere: what another process changes is seen at once.
func TestSeenElsewhere(t *testing.T) {
	root := t.TempDir()
	a, b := openAt(t, root, hosted.Options{}), openAt(t, root, hosted.Options{})
	ctx := t.Context()
	one, two := registrytest.Hello("one", gzipLayer), registrytest.Hello("two", gzipLayer)
	for i, img := range []registrytest.Image{one, two, one, two} {
		a.push("app", "1", img)
		for range 3 { // the second time from memory
			d, err := b.r.Resolve(ctx, ref("app", "1"))
			if err != nil || d.Digest != img.Desc().Digest {
				t.Errorf("push %d: %s, %v", i, d.Digest, err)
			}
		}
		b.wantShown("app", img, len(img.Blobs))
	}
	if err := a.r.Untag(ctx, ref("app", "1")); err != nil {
		t.Fatal(err)
	}
	_, err := b.r.Resolve(ctx, ref("app", "1"))
	wantErr(t, "resolve of what another removed", err, registry.ErrAbsent)
	if err := a.r.Delete(ctx, "app", two.Desc().Digest); err != nil {
		t.Fatal(err)
	}
	_, err = b.r.Resolve(ctx, registry.Ref{Repo: "app", Digest: two.Desc().Digest})
	wantErr(t, "resolve of what another deleted", err, registry.ErrAbsent)
}

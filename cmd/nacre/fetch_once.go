package main

import (
	"context"
	"sync"

	"nacre/internal/registry"

	"github.com/opencontainers/go-digest"
)

// onceWriter has each blob uploaded by one copy at a time: of two images that are pulled at once and
// share a layer, the second waits for the first, and then finds it there. Every copy has one upload in each of its
// goroutines, so that none waits for itself.
type onceWriter struct {
	registry.Writer
	mu   sync.Mutex
	busy map[digest.Digest]chan struct{} // closed at the end of the upload
}

// Create implements registry.Writer.
func (w *onceWriter) Create(ctx context.Context, repo string, d registry.Descriptor) (registry.Upload, error) {
	done, err := w.turn(ctx, d.Digest)
	if err != nil {
		return nil, err
	}
	u, err := w.Writer.Create(ctx, repo, d)
	if err != nil {
		done()
		return nil, err
	}
	return &onceUpload{u, sync.OnceFunc(done)}, nil
}

// turn waits until nobody else uploads d.
func (w *onceWriter) turn(ctx context.Context, d digest.Digest) (done func(), err error) {
	for {
		w.mu.Lock()
		busy := w.busy[d]
		if busy == nil {
			mine := make(chan struct{})
			if w.busy == nil {
				w.busy = map[digest.Digest]chan struct{}{}
			}
			w.busy[d] = mine
			w.mu.Unlock()
			return func() {
				w.mu.Lock()
				delete(w.busy, d)
				w.mu.Unlock()
				close(mine)
			}, nil
		}
		w.mu.Unlock()
		select {
		case <-busy:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

type onceUpload struct {
	registry.Upload
	done func()
}

func (u *onceUpload) Commit() error {
	defer u.done()
	return u.Upload.Commit()
}

func (u *onceUpload) Cancel() error {
	defer u.done()
	return u.Upload.Cancel()
}

// Offset implements registry.Resumer.
func (u *onceUpload) Offset() int64 {
	if r, ok := u.Upload.(registry.Resumer); ok {
		return r.Offset()
	}
	return 0
}

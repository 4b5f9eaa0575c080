package remote

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"nacre/internal/registry"
)

// errGone is a rewind to where the content is kept no more.
var errGone = fmt.Errorf("%w: its beginning is not kept", registry.ErrBroken)

// window is between one who writes content and requests that send it. It
// keeps the last bytes, so that a request may begin again a little before where an
// earlier one broke off. It is a ring of fixed size.
type window struct {
	mu      sync.Mutex
	moved   sync.Cond
	ring    []byte
	backlog int64 // how much the writer may be ahead
	base    int64 // offset of the oldest byte kept
	sent    int64 // of the next to be sent
	end     int64 // of the next to be written
	reader  int   // number of the only reader that is served
	whole   bool  // nothing more will be written
	err     error // ends both
}

// newWindow keeps size bytes, of which backlog may wait to be sent, from offset on.
func newWindow(size, backlog, offset int64) *window {
	w := &window{ring: make([]byte, size), backlog: backlog, base: offset, sent: offset, end: offset}
	w.moved.L = &w.mu
	return w
}

// Write waits for room.
func (w *window) Write(p []byte) (n int, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for len(p) > 0 {
		for w.err == nil && w.end-w.sent >= w.backlog {
			w.moved.Wait()
		}
		if w.err != nil {
			return n, w.err
		}
		size := int64(len(w.ring))
		at := w.end % size
		m := copy(w.ring[at:], p[:min(int64(len(p)), w.backlog-(w.end-w.sent))])
		p, n, w.end = p[m:], n+m, w.end+int64(m)
		w.base = max(w.base, w.end-size)
		w.moved.Broadcast()
	}
	return n, nil
}

// finish tells that all was written.
func (w *window) finish() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.whole = true
	w.moved.Broadcast()
}

// fail ends writes and reads with err.
func (w *window) fail(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err == nil {
		w.err = err
	}
	w.moved.Broadcast()
}

// await waits until n bytes can be sent, or all that is left, and tells how many that is and
// whether they are the last.
func (w *window) await(ctx context.Context, n int64) (int64, bool, error) {
	stop := context.AfterFunc(ctx, func() { w.fail(context.Cause(ctx)) })
	defer stop()
	w.mu.Lock()
	defer w.mu.Unlock()
	for w.err == nil && !w.whole && w.end-w.sent < n {
		w.moved.Wait()
	}
	have := min(n, w.end-w.sent)
	return have, w.whole && w.sent+have == w.end, w.err
}

// from is a reader of at most limit bytes (-1: all) from offset on. A reader made
// before it reads nothing more. Errors: errGone.
func (w *window) from(offset, limit int64, dog *watchdog) (io.Reader, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if offset < w.base || offset > w.end {
		return nil, fmt.Errorf("%w: byte %d, kept are %d to %d", errGone, offset, w.base, w.end)
	}
	w.sent = offset
	w.reader++
	w.moved.Broadcast()
	return &windowReader{w: w, number: w.reader, left: limit, dog: dog}, nil
}

type windowReader struct {
	w      *window
	number int
	left   int64
	dog    *watchdog
}

func (r *windowReader) Read(p []byte) (int, error) {
	w := r.w
	if r.left == 0 {
		return 0, io.EOF
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for w.err == nil && r.number == w.reader && w.sent == w.end && !w.whole {
		r.dog.pause() // it is the writer's turn
		w.moved.Wait()
	}
	r.dog.feed()
	switch {
	case w.err != nil:
		return 0, w.err
	case r.number != w.reader:
		return 0, errors.New("another request goes on with this")
	case w.sent == w.end:
		return 0, io.EOF
	}
	size := int64(len(w.ring))
	at := w.sent % size
	n := min(int64(len(p)), w.end-w.sent, size-at)
	if r.left > 0 {
		n = min(n, r.left)
		r.left -= n
	}
	copy(p[:n], w.ring[at:at+n])
	w.sent += n
	w.moved.Broadcast()
	return int(n), nil
}

// position is the offset of the next byte to be sent.
func (w *window) position() int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.sent
}

// all tells whether the content ends at offset.
func (w *window) all(offset int64) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.whole && w.end == offset
}

// widen lets the writer be ahead by n, at most half of what is kept, and goes back to the beginning. It
// tells whether that is still there.
func (w *window) widen(n int64) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.base > 0 || 2*n > int64(len(w.ring)) {
		return false
	}
	w.backlog, w.sent = n, 0
	w.moved.Broadcast()
	return true
}

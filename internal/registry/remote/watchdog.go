package remote

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"
)

// errStalled is why a request ended in which nothing moved any more.
var errStalled = errors.New("nothing moved")

// watchdog ends a request in which nothing moves.
type watchdog struct {
	cancel  context.CancelCauseFunc
	mu      sync.Mutex
	timer   *time.Timer
	patient time.Duration
}

// watch returns a context that ends when the dog is not fed for so long.
func watch(ctx context.Context, patient time.Duration) (context.Context, *watchdog) {
	ctx, cancel := context.WithCancelCause(ctx)
	w := &watchdog{cancel: cancel, patient: patient}
	w.timer = time.AfterFunc(patient, func() { cancel(fmt.Errorf("%w for %v", errStalled, patient)) })
	return ctx, w
}

// feed tells that something moved.
func (w *watchdog) feed() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.timer.Reset(w.patient)
}

// pause waits without end, because it is our turn.
func (w *watchdog) pause() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.timer.Stop()
}

// answered pauses, and is as patient with the body as is said.
func (w *watchdog) answered(patient time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.patient = patient
	w.timer.Stop()
}

// stop ends the context.
func (w *watchdog) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.timer.Stop()
	w.cancel(context.Canceled)
}

// watched is the body of an answer whose reading feeds the dog. Between reads it is the
// reader's turn.
type watched struct {
	io.ReadCloser
	ctx context.Context
	dog *watchdog
}

func (w *watched) Read(p []byte) (int, error) {
	w.dog.feed()
	n, err := w.ReadCloser.Read(p)
	w.dog.pause()
	if err != nil && err != io.EOF {
		if cause := context.Cause(w.ctx); errors.Is(cause, errStalled) {
			err = cause
		}
	}
	return n, err
}

func (w *watched) Close() error {
	w.dog.stop()
	return w.ReadCloser.Close()
}

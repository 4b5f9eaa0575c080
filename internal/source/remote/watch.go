package remote

import (
	"context"
	"fmt"
	"time"
)

// watch cancels a request when the server is silent for too long.
type watch struct {
	ctx     context.Context
	cancel  context.CancelCauseFunc
	timer   *time.Timer
	silence time.Duration
}

func newWatch(ctx context.Context, silence time.Duration) *watch {
	if silence == 0 {
		silence = maxSilence
	}
	w := &watch{silence: silence}
	w.ctx, w.cancel = context.WithCancelCause(ctx)
	w.timer = time.AfterFunc(silence, func() { w.cancel(fmt.Errorf("%w for %v", ErrStalled, silence)) })
	return w
}

func (w *watch) alive() { w.timer.Reset(w.silence) }

func (w *watch) stop() {
	w.timer.Stop()
	w.cancel(nil)
}

// explain gives the reason of an error that the watch caused.
func (w *watch) explain(err error) error {
	if cause := context.Cause(w.ctx); err != nil && cause != nil {
		return cause
	}
	return err
}

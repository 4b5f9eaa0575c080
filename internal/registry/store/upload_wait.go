package store

import (
	"context"
	"errors"
	"os"
	"time"

	"nacre/internal/registry"
)

// uploadStall is how long an upload of another process may get nothing before we
// stop waiting for it and do the same work beside it.
const uploadStall = 30 * time.Second

func (s *Store) uploadLock(d registry.Descriptor) string {
	return s.path("locks", "upload-"+d.Digest.Encoded())
}

// awaitUpload waits for another process that is receiving the same content, so
// that two builds pulling one base do it once. It has no lock (locked is false) where the
// other got stuck, and where this process itself is receiving it: waiting for oneself could
// last for ever, as uploads may be begun and ended in any order. unlock may be nil.
func (s *Store) awaitUpload(ctx context.Context, d registry.Descriptor) (unlock func(), locked bool, err error) {
	path := s.uploadLock(d)
	s.mu.Lock()
	ours := s.uploads[d.Digest]
	if !ours {
		s.uploads[d.Digest] = true
	}
	s.mu.Unlock()
	if ours {
		return nil, false, nil
	}
	forget := func() {
		s.mu.Lock()
		delete(s.uploads, d.Digest)
		s.mu.Unlock()
	}
	stalled, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go s.watchStall(stalled, path, cancel)
	unlockFile, err := lockFile(stalled, path)
	if errors.Is(context.Cause(stalled), errStalled) {
		return forget, false, nil
	}
	if err != nil {
		forget()
		return nil, false, s.fail(err)
	}
	now := time.Now()
	os.Chtimes(path, now, now)
	return func() { unlockFile(); forget() }, true, nil
}

var errStalled = errors.New("the other upload got stuck")

// watchStall cancels the wait for a lock whose holder shows no sign of progress.
func (s *Store) watchStall(ctx context.Context, path string, cancel context.CancelCauseFunc) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if st, err := os.Stat(path); err == nil && time.Since(st.ModTime()) > s.stall {
				cancel(errStalled)
				return
			}
		}
	}
}

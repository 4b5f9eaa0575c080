package auth

import (
	"sync"
	"time"
)

// slow makes guessing slow: after some failures of one key (a user, an address) it asks for
// a pause, which doubles with each further one. An attempt counts as a failure from its
// beginning on, so that many at once gain nothing.
type slow struct {
	free       int
	pause, max time.Duration
	now        func() time.Time

	mu   sync.Mutex
	keys map[string]*failures
}

// maxKeys bounds the memory of slow: some 10 MB.
const maxKeys = 100_000

type failures struct {
	n     int
	last  time.Time
	until time.Time
}

// begin starts an attempt. Where a pause is due, it says how long, and the attempt has
// not begun.
func (s *slow) begin(key string) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	f := s.keys[key]
	if f != nil && now.Sub(f.last) > 2*s.max {
		f = nil // long forgiven; also what a clock set back leaves behind
	}
	if f == nil {
		s.makeRoom(now)
		f = &failures{}
		s.keys[key] = f
	}
	if wait := f.until.Sub(now); wait > 0 {
		return min(wait, s.max)
	}
	f.n++
	f.last = now
	if over := f.n - s.free; over >= 0 {
		pause := s.max
		if over < 20 {
			pause = min(s.pause<<over, s.max)
		}
		f.until = now.Add(pause)
	}
	return 0
}

// undo takes an attempt back that was none.
func (s *slow) undo(key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f := s.keys[key]; f != nil {
		if f.n--; f.n <= 0 {
			delete(s.keys, key)
		} else if f.n < s.free {
			f.until = time.Time{}
		}
	}
}

// forget makes a key as if it had never failed.
func (s *slow) forget(key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.keys, key)
}

func (s *slow) makeRoom(now time.Time) {
	if len(s.keys) < maxKeys {
		return
	}
	for k, f := range s.keys {
		if now.Sub(f.last) > 2*s.max {
			delete(s.keys, k)
		}
	}
	for k := range s.keys {
		if len(s.keys) < maxKeys {
			return
		}
		delete(s.keys, k)
	}
}

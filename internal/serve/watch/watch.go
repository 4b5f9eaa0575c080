// Package watch keeps what was read from files up to date: certificates, password files,
// keys. It looks when it is asked, at most once a second, and keeps the old value where the new
// files cannot be read: half written, or wrong.
package watch

import (
	"os"
	"slices"
	"sync"
	"syscall"
	"time"
)

// Every is how often files are looked at, at most.
const Every = time.Second

// Value is what was last read from some files. It is for concurrent use.
type Value[T any] struct {
	load  func() (T, error)
	warn  func(error)
	now   func() time.Time
	paths []string

	mu      sync.Mutex
	value   T
	checked time.Time
	state   []state
}

// state is what tells a file from its former self.
type state struct {
	size             int64
	inode            uint64
	modified, change time.Time
	missing          bool
}

// New reads the files with load, and again when one of paths has changed. Later errors go to
// warn, once for each change. now nil is the system's clock.
func New[T any](load func() (T, error), warn func(error), now func() time.Time, paths ...string) (*Value[T], error) {
	if now == nil {
		now = time.Now
	}
	v := &Value[T]{load: load, warn: warn, now: now, paths: paths}
	v.checked, v.state = now(), v.look() // before reading: a change in between is seen later
	var err error
	v.value, err = load()
	return v, err
}

// Get is the newest value that could be read.
func (v *Value[T]) Get() T {
	v.mu.Lock()
	defer v.mu.Unlock()
	now := v.now()
	if d := now.Sub(v.checked); d >= 0 && d < Every {
		return v.value
	}
	v.checked = now
	state := v.look()
	if slices.Equal(state, v.state) {
		return v.value
	}
	v.state = state
	value, err := v.load()
	if err != nil {
		v.warn(err)
		return v.value
	}
	v.value = value
	return v.value
}

func (v *Value[T]) look() []state {
	all := make([]state, len(v.paths))
	for i, p := range v.paths {
		info, err := os.Stat(p)
		if err != nil {
			all[i].missing = true
			continue
		}
		all[i] = state{size: info.Size(), modified: info.ModTime()}
		if sys, ok := info.Sys().(*syscall.Stat_t); ok {
			all[i].inode, all[i].change = sys.Ino, time.Unix(sys.Ctim.Unix())
		}
	}
	return all
}

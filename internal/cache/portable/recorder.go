package portable

import (
	"context"
	"slices"
	"strings"
	"sync"

	"nacre/internal/cache"

	"github.com/opencontainers/go-digest"
)

// Recorder is a cache that remembers which of its records a build used or made.
type Recorder struct {
	cache.Cache

	mu   sync.Mutex
	used map[cache.Key]used
}

type used struct {
	rec cache.Record // zero for what was only read
	out cache.Output
}

// NewRecorder watches the use of c.
func NewRecorder(c cache.Cache) *Recorder {
	return &Recorder{Cache: c, used: map[cache.Key]used{}}
}

// Get implements cache.Cache.
func (r *Recorder) Get(ctx context.Context, key cache.Key) (cache.Output, bool, error) {
	out, ok, err := r.Cache.Get(ctx, key)
	if ok && err == nil {
		r.note(key, used{out: out})
	}
	return out, ok, err
}

// Put implements cache.Cache.
func (r *Recorder) Put(ctx context.Context, rec cache.Record, out cache.Output) error {
	err := r.Cache.Put(ctx, rec, out)
	if err == nil {
		r.note(rec.Key, used{rec, out})
	}
	return err
}

func (r *Recorder) note(key cache.Key, u used) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if old, ok := r.used[key]; !ok || len(old.rec.Fields) == 0 {
		r.used[key] = u
	}
}

// Entries returns what a build used and made, in order of slot and key. A step found by its
// first key brings its second along, which was not looked at: elsewhere it may be the one that hits.
// layers, where it is not nil, leaves out entries of other layers.
func (r *Recorder) Entries(ctx context.Context, layers []digest.Digest) ([]cache.Entry, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := map[cache.Key]cache.Entry{}
	slots := map[string]bool{}
	diffIDs := map[digest.Digest]bool{}
	for key, u := range r.used {
		if layers != nil && !slices.Contains(layers, u.out.DiffID) {
			continue
		}
		diffIDs[u.out.DiffID] = true
		if len(u.rec.Fields) > 0 {
			all[key] = cache.Entry{Record: u.rec, Output: u.out}
			slots[u.rec.Slot] = true
		}
	}
	kept, err := r.recall(ctx, diffIDs)
	if err != nil {
		return nil, err
	}
	for _, e := range kept {
		if _, ok := r.used[e.Key]; ok {
			slots[e.Slot] = true
		}
	}
	for _, e := range kept {
		if _, ok := all[e.Key]; !ok && slots[e.Slot] {
			all[e.Key] = e
		}
	}
	return sorted(all), nil
}

func (r *Recorder) recall(ctx context.Context, diffIDs map[digest.Digest]bool) ([]cache.Entry, error) {
	c, ok := r.Cache.(cache.Recaller)
	if !ok {
		return nil, nil
	}
	var list []cache.Entry
	for d := range diffIDs {
		kept, err := c.Recall(ctx, d)
		if err != nil {
			return nil, err
		}
		list = append(list, kept...)
	}
	return list, nil
}

func sorted(all map[cache.Key]cache.Entry) []cache.Entry {
	list := make([]cache.Entry, 0, len(all))
	for _, e := range all {
		list = append(list, e)
	}
	slices.SortFunc(list, func(a, b cache.Entry) int {
		if c := strings.Compare(a.Slot, b.Slot); c != 0 {
			return c
		}
		return slices.Compare(a.Key[:], b.Key[:])
	})
	return list
}

package explain

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"sync"

	"nacre/internal/cache"
	"nacre/internal/cache/note"
)

// Source is where earlier records are: a cache.Cache.
type Source interface {
	Earlier(ctx context.Context, prefix string, n int) ([]cache.Record, error)
	Note(ctx context.Context, key cache.Key) ([]byte, bool, error)
}

// Slot is the cache.Record.Slot of the nth step of a stage, of a build at a place: a context
// and a Dockerfile.
func Slot(place, stage string, n int) string {
	return place + "\x00" + stage + "\x00" + strconv.Itoa(n)
}

// stageOf is the stage in a slot.
func stageOf(slot string) string {
	slot = slot[:max(strings.LastIndexByte(slot, 0), 0)]
	return slot[strings.LastIndexByte(slot, 0)+1:]
}

const (
	// near is how many records of one place are looked at: some hundred builds of a long Dockerfile.
	near = 4096
	// far is how many of all places are, where the place has none.
	far = 8192
	// ties is how many records that are equally near have their files compared.
	ties = 4
)

// History is what builds before this one left. It reads nothing before it is asked. Safe for
// concurrent use.
type History struct {
	Source Source
	Place  string
	Steps  []string // the Identity of each step of this build

	hereOnce, allOnce sync.Once
	hereList, allList []earlier
	hereErr, allErr   error
	mu                sync.Mutex
	byKey             map[string]cache.Record // by the key as text
	notes             map[cache.Key]note.Note
}

// earlier is a record with what it is compared by.
type earlier struct {
	rec      cache.Record
	parts    parts
	identity string
}

// here is the records of this place, the latest first.
func (h *History) here(ctx context.Context) ([]earlier, error) {
	h.hereOnce.Do(func() { h.hereList, h.hereErr = h.load(ctx, h.Place+"\x00", near) })
	return h.hereList, h.hereErr
}

// all is the records of all places.
func (h *History) all(ctx context.Context) ([]earlier, error) {
	h.allOnce.Do(func() { h.allList, h.allErr = h.load(ctx, "", far) })
	return h.allList, h.allErr
}

func (h *History) load(ctx context.Context, prefix string, n int) ([]earlier, error) {
	list, err := h.Source.Earlier(ctx, prefix, n)
	if err != nil {
		return nil, err
	}
	out := make([]earlier, len(list))
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.byKey == nil {
		h.byKey = map[string]cache.Record{}
	}
	for i, rec := range list {
		p := take(rec, nil)
		out[i] = earlier{rec, p, identity(p.own)}
		h.byKey[rec.Key.String()] = rec
	}
	return out, nil
}

// keyed is the record that a field of another names.
func (h *History) keyed(key string) (cache.Record, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	rec, ok := h.byKey[key]
	return rec, ok
}

// note is what was left beside a record; empty where nothing was.
func (h *History) note(ctx context.Context, key cache.Key) note.Note {
	h.mu.Lock()
	n, ok := h.notes[key]
	h.mu.Unlock()
	if ok {
		return n
	}
	if data, ok, err := h.Source.Note(ctx, key); ok && err == nil && data != nil {
		n, _ = note.Decode(data) // of another version: it explains nothing
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.notes == nil {
		h.notes = map[cache.Key]note.Note{}
	}
	h.notes[key] = n
	return n
}

// nearest finds the earlier record that s is to be compared with: of the same instruction
// in the same stage of this place, wherever it stood in it; else what stood last in its place, and stands nowhere
// now; else of the same instruction anywhere. Of several it is the one that has most in common
// with s, and then the latest.
func (h *History) nearest(ctx context.Context, s *Step) (found earlier, ok bool, err error) {
	now := take(s.Record, s.Scope)
	id := identity(now.own)
	same := func(e earlier) bool { return e.parts.kind == now.kind && e.identity == id }
	here, err := h.here(ctx)
	if err != nil {
		return found, false, err
	}
	if found, ok = h.closest(ctx, s, here, same); ok {
		return found, true, nil
	}
	there := func(e earlier) bool { return e.parts.kind == now.kind && e.rec.Slot == s.Record.Slot }
	last := slices.IndexFunc(here, there)
	replaced := func(e earlier) bool { return there(e) && e.identity == here[last].identity }
	if last < 0 || !alike(here[last].parts.op, now.op) || slices.Contains(h.Steps, here[last].identity) {
		replaced = func(earlier) bool { return false }
	}
	if found, ok = h.closest(ctx, s, here, replaced); ok {
		return found, true, nil
	}
	all, err := h.all(ctx)
	if err != nil {
		return found, false, err
	}
	found, ok = h.closest(ctx, s, all, same)
	return found, ok, nil
}

// alike tells whether one operation may have been written for the other.
func alike(a, b string) bool {
	file := func(op string) bool { return op == "copy" || op == "add" }
	return a == b || file(a) && file(b)
}

// closest is the record that has most in common with s of those that take in.
func (h *History) closest(ctx context.Context, s *Step, list []earlier, take func(earlier) bool) (earlier, bool) {
	var best []earlier
	var top score
	for _, e := range list {
		if !take(e) {
			continue
		}
		switch sc := rate(s.Record, e.rec); {
		case len(best) == 0 || top.less(sc):
			best, top = append(best[:0], e), sc
		case sc == top && len(best) < ties:
			best = append(best, e)
		}
	}
	if len(best) == 0 {
		return earlier{}, false
	}
	if len(best) == 1 || len(s.Contexts) == 0 {
		return best[0], true
	}
	least, at := -1, 0
	for i, e := range best {
		if n, ok := h.distance(ctx, s, e.rec); ok && (least < 0 || n < least) {
			least, at = n, i
		}
	}
	return best[at], true
}

// distance is how many files differ.
func (h *History) distance(ctx context.Context, s *Step, rec cache.Record) (sum int, ok bool) {
	trees := h.note(ctx, rec.Key).Trees
	if len(trees) != len(s.Contexts) {
		return 0, false
	}
	for i, c := range s.Contexts {
		if !trees[i].Complete() {
			return 0, false
		}
		_, n := note.Compare(trees[i], c.Tree())
		sum += n
	}
	return sum, true
}

// score is how much two records have in common.
type score struct {
	stage  bool // the name of the stage
	fields int  // how many fields are in both, less those that only the earlier one has
	slot   bool
}

func (a score) less(b score) bool {
	if a.stage != b.stage {
		return b.stage
	}
	if a.fields != b.fields {
		return a.fields < b.fields
	}
	return !a.slot && b.slot
}

func rate(now, before cache.Record) score {
	sc := score{stage: stageOf(now.Slot) == stageOf(before.Slot), slot: now.Slot == before.Slot}
	count := make(map[cache.Field]int, len(now.Fields))
	for _, f := range now.Fields {
		count[f]++
	}
	var gone []cache.Field
	for _, f := range before.Fields {
		if count[f] > 0 {
			count[f]--
			sc.fields++
		} else {
			gone = append(gone, f)
		}
	}
	other := map[string]int{} // what now has another value of
	for f, n := range count {
		other[label(f)] += n
	}
	for _, f := range gone {
		if other[label(f)]--; other[label(f)] < 0 {
			sc.fields--
		}
	}
	return sc
}

// label is what a field has a value of.
func label(f cache.Field) string {
	if f.Name == "env" {
		name, _, _ := strings.Cut(f.Value, "=")
		return "env " + name
	}
	return f.Name
}

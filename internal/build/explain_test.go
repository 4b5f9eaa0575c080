package build

import (
	"context"
	"strings"
	"sync"
	"testing"

	"nacre/internal/cache"
	"nacre/internal/event"
)

// countedCache counts what explanations ask, and the notes that are written.
type countedCache struct {
	cache.Cache
	mu           sync.Mutex
	asked, noted int
}

func (c *countedCache) Earlier(ctx context.Context, prefix string, n int) ([]cache.Record, error) {
	c.mu.Lock()
	c.asked++
	c.mu.Unlock()
	return c.Cache.Earlier(ctx, prefix, n)
}

func (c *countedCache) Note(ctx context.Context, key cache.Key) ([]byte, bool, error) {
	c.mu.Lock()
	c.asked++
	c.mu.Unlock()
	return c.Cache.Note(ctx, key)
}

func (c *countedCache) Nearest(ctx context.Context, slot string) (cache.Record, bool, error) {
	c.mu.Lock()
	c.asked++
	c.mu.Unlock()
	return c.Cache.Nearest(ctx, slot)
}

func (c *countedCache) Put(ctx context.Context, rec cache.Record, out cache.Output) error {
	c.mu.Lock()
	if rec.Note != nil {
		c.noted++
	}
	c.mu.Unlock()
	return c.Cache.Put(ctx, rec, out)
}

// TestExplainingCostsNothing: where all steps hit, and where nobody asks why one did not, earlier records are not
// looked at; notes are written by misses alone.
func TestExplainingCostsNothing(t *testing.T) {
	b := newBench(t, map[string]string{"a": "1", "Dockerfile": "FROM scratch\nCOPY a /a\nCOPY a /b\n"})
	for _, c := range []struct {
		title   string
		a       string
		explain bool
		asks    bool
		notes   int
	}{
		{"first", "1", false, false, 2},
		{"hits", "1", false, false, 0},
		{"hits, explained", "1", true, false, 0},
		{"misses", "2", false, false, 2},
		{"misses, explained", "3", true, true, 2},
	} {
		b.write(map[string]string{"a": c.a})
		counted := &countedCache{Cache: b.store.Cache()}
		var mu sync.Mutex
		var whys []string
		sink := func(e event.Event) {
			if d, ok := e.(event.Done); ok && d.Why != "" {
				mu.Lock()
				defer mu.Unlock()
				whys = append(whys, d.Why)
			}
		}
		if _, err := (Builder{Store: b.store, Cache: counted, Sink: sink}).Build(t.Context(), Options{Context: b.dir, Explain: c.explain}); err != nil {
			t.Fatal(err)
		}
		if (counted.asked > 0) != c.asks || counted.noted != c.notes {
			t.Errorf("%s: asked %d times, wrote %d notes", c.title, counted.asked, counted.noted)
		}
		if want := 0; c.asks {
			want = 2
			if len(whys) != want || !strings.HasPrefix(whys[0], "a changed: sha256:") {
				t.Errorf("%s: %q", c.title, whys)
			}
		} else if len(whys) != want {
			t.Errorf("%s: %q", c.title, whys)
		}
	}
}

// Package cachetest proves that a cache keeps the contract of package cache.
package cachetest

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"nacre/internal/cache"
)

// Subject is a cache under test, with the store its outputs are in.
type Subject struct {
	Cache cache.Cache
	// Layer makes a layer, told apart from others by name, and returns the output
	// that stands for it.
	Layer func(t testing.TB, name string) cache.Output
	// Drop removes a layer from the store, whatever the cache has of it.
	Drop func(t testing.TB, out cache.Output)
}

// Conform checks what open returns, always a new empty cache.
func Conform(t *testing.T, open func(testing.TB) Subject) {
	for _, c := range []struct {
		name string
		run  func(*testing.T, Subject)
	}{
		{"miss", checkMiss},
		{"hit", checkHit},
		{"put again", checkAgain},
		{"absent layer", checkAbsentLayer},
		{"dropped layer", checkDroppedLayer},
		{"foreign key", checkForeignKey},
		{"nearest", checkNearest},
		{"earlier", checkEarlier},
		{"note", checkNote},
		{"any bytes", checkBytes},
		{"concurrent", checkConcurrent},
	} {
		t.Run(c.name, func(t *testing.T) { c.run(t, open(t)) })
	}
}

// Record is a record of a slot with fields, which alternate name and value.
func Record(slot string, fields ...string) cache.Record {
	h := cache.NewHash("test/1", slot)
	for i := 0; i < len(fields); i += 2 {
		h.Add(fields[i], fields[i+1])
	}
	return h.Sum()
}

func checkMiss(t *testing.T, s Subject) {
	if out, ok, err := s.Cache.Get(t.Context(), Record("slot").Key); ok || err != nil {
		t.Errorf("empty cache: %+v, %v, %v", out, ok, err)
	}
	if rec, ok, err := s.Cache.Nearest(t.Context(), "slot"); ok || err != nil {
		t.Errorf("nearest in an empty cache: %+v, %v, %v", rec, ok, err)
	}
}

func checkHit(t *testing.T, s Subject) {
	want := s.Layer(t, "a")
	want.Created = time.Date(2026, 2, 3, 4, 5, 6, 123456789, time.UTC)
	want.Size = 1 << 40
	put(t, s, Record("slot", "name", "a"), want)
	wantGet(t, s, Record("slot", "name", "a"), want)
	wantGet(t, s, Record("another slot", "name", "a"), want) // the slot is no part of the key
	wantMiss(t, s, Record("slot", "name", "b"))
}

func checkAgain(t *testing.T, s Subject) {
	a, b := s.Layer(t, "a"), s.Layer(t, "b")
	rec := Record("slot", "name", "x")
	put(t, s, rec, a)
	put(t, s, rec, b)
	wantGet(t, s, rec, b)
}

func checkAbsentLayer(t *testing.T, s Subject) {
	out := s.Layer(t, "a")
	s.Drop(t, out)
	if err := s.Cache.Put(t.Context(), Record("slot"), out); err == nil {
		t.Error("an output without a layer was kept")
	}
	wantMiss(t, s, Record("slot"))
}

func checkDroppedLayer(t *testing.T, s Subject) {
	a, b := s.Layer(t, "a"), s.Layer(t, "b")
	put(t, s, Record("slot", "name", "a"), a)
	put(t, s, Record("slot", "name", "b"), b)
	s.Drop(t, a)
	wantMiss(t, s, Record("slot", "name", "a"))
	wantGet(t, s, Record("slot", "name", "b"), b)
	put(t, s, Record("slot", "name", "a"), s.Layer(t, "a"))
	wantGet(t, s, Record("slot", "name", "a"), a)
}

// checkForeignKey: a key that is not that of the fields would explain nothing and
// could be anything.
func checkForeignKey(t *testing.T, s Subject) {
	rec := Record("slot", "name", "a")
	rec.Fields[1].Value = "b"
	if err := s.Cache.Put(t.Context(), rec, s.Layer(t, "a")); err == nil {
		t.Error("a record was kept whose key is not that of its fields")
	}
}

func checkNearest(t *testing.T, s Subject) {
	out := s.Layer(t, "a")
	for _, v := range []string{"1", "2", "3"} {
		put(t, s, Record("slot", "v", v), out)
	}
	put(t, s, Record("other", "v", "9"), out)
	wantNearest(t, s, "slot", Record("slot", "v", "3"))
	put(t, s, Record("slot", "v", "1"), out) // again: the latest now
	wantNearest(t, s, "slot", Record("slot", "v", "1"))
	wantNearest(t, s, "other", Record("other", "v", "9"))
	if _, ok, err := s.Cache.Nearest(t.Context(), "sl"); ok || err != nil {
		t.Errorf("nearest of a slot without records: %v, %v", ok, err)
	}
}

func checkEarlier(t *testing.T, s Subject) {
	out := s.Layer(t, "a")
	put := func(slot, v string) cache.Record {
		rec := Record(slot, "v", v, "slot", slot)
		put(t, s, rec, out)
		return rec
	}
	one, two, other, one2, under := put("at\x001", "a"), put("at\x002", "a"), put("elsewhere", "a"), put("at\x001", "b"), put("a%", "a")
	for _, c := range []struct {
		prefix string
		n      int
		want   []cache.Record
	}{
		{"at\x00", 10, []cache.Record{one2, two, one}},
		{"at\x00", 2, []cache.Record{one2, two}},
		{"at\x001", 10, []cache.Record{one2, one}},
		{"at", 10, []cache.Record{one2, two, one}},
		{"", 5, []cache.Record{under, one2, other, two, one}},
		{"%", 10, nil},
		{"_t", 10, nil},
		{"b", 10, nil},
	} {
		list, err := s.Cache.Earlier(t.Context(), c.prefix, c.n)
		same := slices.EqualFunc(list, c.want, func(a, b cache.Record) bool {
			return a.Key == b.Key && a.Slot == b.Slot && slices.Equal(a.Fields, b.Fields)
		})
		if err != nil || !same {
			t.Errorf("earlier than %q, %d: %v, %v; want %v", c.prefix, c.n, list, err, c.want)
		}
	}
}

func checkNote(t *testing.T, s Subject) {
	out := s.Layer(t, "a")
	plain, noted := Record("slot", "v", "plain"), Record("slot", "v", "noted")
	bare := noted.Key
	noted.Note = []byte("a note \x00\xff")
	if noted.Key != bare || !noted.Valid() {
		t.Error("a note is part of the key")
	}
	put(t, s, plain, out)
	put(t, s, noted, out)
	if data, ok, err := s.Cache.Note(t.Context(), noted.Key); err != nil || !ok || string(data) != "a note \x00\xff" {
		t.Errorf("note: %q, %v, %v", data, ok, err)
	}
	for _, key := range []cache.Key{plain.Key, Record("slot", "v", "none").Key} {
		if data, ok, err := s.Cache.Note(t.Context(), key); err != nil || ok || data != nil {
			t.Errorf("no note: %q, %v, %v", data, ok, err)
		}
	}
	noted.Note = []byte("again")
	put(t, s, noted, out)
	if data, _, _ := s.Cache.Note(t.Context(), noted.Key); string(data) != "again" {
		t.Errorf("note put again: %q", data)
	}
}

func checkBytes(t *testing.T, s Subject) {
	out := s.Layer(t, "a")
	rec := Record("slot \x00\xff", "", "", "name\n", "a\x00\xff\n=3:x", "big", strings.Repeat("long ", 1<<16), "name\n", "twice")
	put(t, s, rec, out)
	wantGet(t, s, rec, out)
	wantNearest(t, s, rec.Slot, rec)
}

func checkConcurrent(t *testing.T, s Subject) {
	out := s.Layer(t, "a")
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			rec := Record("slot", "i", fmt.Sprint(i%4))
			if err := s.Cache.Put(t.Context(), rec, out); err != nil {
				t.Errorf("put: %v", err)
			}
			if _, ok, err := s.Cache.Get(t.Context(), rec.Key); !ok || err != nil {
				t.Errorf("get: %v, %v", ok, err)
			}
			if _, ok, err := s.Cache.Nearest(t.Context(), "slot"); !ok || err != nil {
				t.Errorf("nearest: %v, %v", ok, err)
			}
		})
	}
	wg.Wait()
}

func put(t *testing.T, s Subject, rec cache.Record, out cache.Output) {
	t.Helper()
	if err := s.Cache.Put(t.Context(), rec, out); err != nil {
		t.Fatalf("put: %v", err)
	}
}

func wantGet(t *testing.T, s Subject, rec cache.Record, want cache.Output) {
	t.Helper()
	got, ok, err := s.Cache.Get(t.Context(), rec.Key)
	if err != nil || !ok || got.DiffID != want.DiffID || got.Content != want.Content || got.Size != want.Size || !got.Created.Equal(want.Created) {
		t.Errorf("get: %+v, %v, %v; want %+v", got, ok, err, want)
	}
}

func wantMiss(t *testing.T, s Subject, rec cache.Record) {
	t.Helper()
	if out, ok, err := s.Cache.Get(t.Context(), rec.Key); ok || err != nil {
		t.Errorf("get: %+v, %v, %v; want a miss", out, ok, err)
	}
}

func wantNearest(t *testing.T, s Subject, slot string, want cache.Record) {
	t.Helper()
	got, ok, err := s.Cache.Nearest(t.Context(), slot)
	if err != nil || !ok || got.Key != want.Key || got.Slot != want.Slot || !slices.Equal(got.Fields, want.Fields) {
		t.Errorf("nearest of %q: %.200v, %v, %v; want %.200v", slot, got, ok, err, want)
	}
}

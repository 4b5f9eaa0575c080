package store_test

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"nacre/internal/cache"
	"nacre/internal/registry/store"
)

// TestNotesAreBounded: the notes of a slot take no more than 8 MiB, the latest stays, and records stay without theirs.
func TestNotesAreBounded(t *testing.T) {
	s := open(t)
	out := output(made(t, s, nil, "a"))
	var recs []cache.Record
	for i := range 7 {
		rec := record("slot", fmt.Sprint(i))
		rec.Note = bytes.Repeat([]byte{byte(i)}, 3<<20)
		if i == 6 {
			rec.Note = bytes.Repeat([]byte{byte(i)}, 9<<20)
		}
		other := record("another", fmt.Sprint("other ", i))
		other.Note = []byte("small")
		for _, r := range []cache.Record{rec, other} {
			if err := s.Cache().Put(t.Context(), r, out); err != nil {
				t.Fatal(err)
			}
		}
		recs = append(recs, rec)
		if i == 5 {
			wantNotes(t, s, recs[4:], true)
			wantNotes(t, s, recs[:4], false)
		}
	}
	wantNotes(t, s, recs[6:], true)
	wantNotes(t, s, recs[:6], false)
	for i := range recs {
		if _, ok, err := s.Cache().Note(t.Context(), record("another", fmt.Sprint("other ", i)).Key); !ok || err != nil {
			t.Errorf("note %d of another slot: %v, %v", i, ok, err)
		}
		if _, ok, err := s.Cache().Get(t.Context(), recs[i].Key); !ok || err != nil {
			t.Errorf("record %d: %v, %v", i, ok, err)
		}
	}
	wantSound(t, s)
}

func wantNotes(t *testing.T, s *store.Store, recs []cache.Record, want bool) {
	t.Helper()
	for _, rec := range recs {
		if data, ok, err := s.Cache().Note(t.Context(), rec.Key); ok != want || err != nil || want && !bytes.Equal(data, rec.Note) {
			t.Errorf("note of %v: %d bytes, %v, %v", rec.Fields, len(data), ok, err)
		}
	}
}

// TestPrunedRecords: a note outlives its record without its data, and tells that there was one.
func TestPrunedRecords(t *testing.T) {
	s := open(t)
	out := output(made(t, s, nil, "a"))
	rec, bare := record("slot", "noted"), record("slot", "bare")
	rec.Note = []byte("note")
	for _, r := range []cache.Record{rec, bare} {
		if err := s.Cache().Put(t.Context(), r, out); err != nil {
			t.Fatal(err)
		}
	}
	if r, err := dropCache(t.Context(), s, time.Time{}); err != nil || r.Records != 2 {
		t.Fatalf("%+v, %v", r, err)
	}
	if data, ok, err := s.Cache().Note(t.Context(), rec.Key); !ok || data != nil || err != nil {
		t.Errorf("after pruning: %q, %v, %v", data, ok, err)
	}
	if _, ok, err := s.Cache().Note(t.Context(), bare.Key); ok || err != nil {
		t.Errorf("a record without a note: %v, %v", ok, err)
	}
	if err := s.Cache().Put(t.Context(), rec, output(made(t, s, nil, "a"))); err != nil {
		t.Fatal(err)
	}
	wantNotes(t, s, []cache.Record{rec}, true)
}

package cache_test

import (
	"bytes"
	"testing"

	"nacre/internal/cache"
	"nacre/internal/cache/cachetest"
)

func record(fields ...string) cache.Record { return cachetest.Record("slot", fields...) }

func TestKeys(t *testing.T) {
	// Pairs that a careless hash would take for the same.
	all := []cache.Record{
		record(), record("", ""), record("a", "b"), record("ab", ""), record("", "ab"), record("a", ""), record("a", "", "", "b"),
		record("a", "b", "c", "d"), record("c", "d", "a", "b"), record("a", "b=1:c\n"), record("a=1:b\n", ""), record("a", "b", "a", "b"),
		record("a", "b\n1:c=1:d"),
	}
	for i, a := range all {
		for j, b := range all {
			if (a.Key == b.Key) != (i == j) {
				t.Errorf("%q and %q: same key %v", a.Fields, b.Fields, i != j)
			}
		}
		if !a.Valid() {
			t.Errorf("%q: key is not valid", a.Fields)
		}
	}
	if cache.NewHash("x/1", "s").Sum().Key == cache.NewHash("x/2", "s").Sum().Key {
		t.Error("kinds share a key")
	}
	if cache.NewHash("x/1", "s").Sum().Key != cache.NewHash("x/1", "t").Sum().Key {
		t.Error("the slot is part of the key")
	}
}

// TestKeyIsStable: keys outlive a release, or every cache is lost with it.
func TestKeyIsStable(t *testing.T) {
	const want = "6f8733b0ab666cebec3a5a75d6181ebe"
	h := cache.NewHash("run/1", "slot")
	h.Add("args", "make\x00all")
	h.Add("env", "A=b")
	if got := h.Sum().Key.String(); got[:32] != want {
		t.Errorf("key %s, want %s...", got, want)
	}
}

func TestSumThenAdd(t *testing.T) {
	h := cache.NewHash("x/1", "s")
	h.Add("a", "1")
	first := h.Sum()
	h.Add("b", "2")
	if second := h.Sum(); len(first.Fields) != 2 || len(second.Fields) != 3 || first.Key == second.Key {
		t.Errorf("%v, then %v", first, second)
	}
}

// FuzzDecode: whatever decodes encodes to the same bytes.
func FuzzDecode(f *testing.F) {
	f.Add([]byte(""))
	f.Add([]byte("4:kind=5:run/1\n"))
	f.Add([]byte("1:a=1:b\n0:=0:\n"))
	f.Add([]byte("01:a=1:b\n"))
	f.Add([]byte("1:a=9223372036854775807:b\n"))
	f.Add([]byte("-1:=0:\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := cache.Decode("slot", data)
		if err == nil && (!bytes.Equal(r.Encode(), data) || !r.Valid()) {
			t.Errorf("%q decodes to %q", data, r.Fields)
		}
	})
}

package cache_test

import (
	"bytes"
	"slices"
	"strings"
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

func TestWhy(t *testing.T) {
	hex := func(c string) string { return "sha256:" + strings.Repeat(c, 64) }
	long := strings.Repeat("0123456789", 20)
	for _, c := range []struct {
		title       string
		now, before cache.Record
		want        string
	}{
		{"same", record("a", "1"), record("a", "1"), ""},
		{"none before", record("a", "1"), cache.Record{}, ""},
		{"value", record("args", "make all"), record("args", "make"), "args changed: make → make all"},
		{"first of several", record("a", "1", "b", "2", "c", "3"), record("a", "1", "b", "x", "c", "y"), "b changed: x → 2"},
		{"digest", record("parent", hex("a")), record("parent", hex("b")), "parent changed: sha256:bbbbbbbbbbbb → sha256:aaaaaaaaaaaa"},
		{"empty", record("user", ""), record("user", "root"), `user changed: root → ""`},
		{"control bytes", record("args", "a\nb"), record("args", "\x1b[31m"), `args changed: "\x1b[31m" → "a\nb"`},
		{"new", record("a", "1", "env HOME", "/root"), record("a", "1"), "new env HOME: /root"},
		{"new in the middle", record("a", "1", "b", "2", "c", "3"), record("a", "1", "c", "3"), "new b: 2"},
		{"gone", record("a", "1"), record("a", "1", "b", "2"), "b is gone: it was 2"},
		{"gone in the middle", record("a", "1", "c", "3"), record("a", "1", "b", "2", "c", "3"), "b is gone: it was 2"},
		{"repeated name", record("env", "A=1", "env", "B=3"), record("env", "A=1", "env", "B=2"), "env changed: B=2 → B=3"},
		{"one more of a name", record("env", "A=1", "env", "B=2"), record("env", "A=1"), "new env: B=2"},
		{"moved", record("b", "2", "a", "1"), record("a", "1", "b", "2"), "b moved: it came after a"},
		{"long, differing late", record("args", long+"x end"), record("args", long+"y end"),
			"args changed: …0123456789y end → …0123456789x end at byte 200"},
		{"long, differing early", record("args", "x"+long), record("args", "y"+long),
			"args changed: y" + long[:59] + "… (201 bytes) → x" + long[:59] + "… (201 bytes)"},
	} {
		if got := cache.Why(c.now, c.before); got != c.want {
			t.Errorf("%s: %q, want %q", c.title, got, c.want)
		}
	}
}

func FuzzWhy(f *testing.F) {
	f.Add([]byte("1:a=1:b\n"), []byte("1:a=1:c\n"))
	f.Add([]byte("1:a=70:"+strings.Repeat("é", 35)+"\n"), []byte("1:a=72:"+strings.Repeat("é", 36)+"\n"))
	f.Add([]byte("1:a=1:b\n1:b=0:\n"), []byte("1:b=0:\n1:a=1:b\n"))
	f.Fuzz(func(t *testing.T, a, b []byte) {
		x, err := cache.Decode("slot", a)
		y, yerr := cache.Decode("slot", b)
		if err != nil || yerr != nil {
			return
		}
		why := cache.Why(x, y)
		if strings.ContainsAny(why, "\n\r\x1b\x00") {
			t.Errorf("more than a line: %q", why)
		}
		if same := slices.Equal(x.Fields, y.Fields) || len(y.Fields) == 0; same != (why == "") {
			t.Errorf("%q and %q: %q", x.Fields, y.Fields, why)
		}
	})
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

package explain

import (
	"slices"
	"strings"
	"testing"

	"nacre/internal/cache"
)

func list(pairs ...string) (l []item) {
	for i := 0; i < len(pairs); i += 2 {
		l = append(l, item{name: pairs[i], value: pairs[i+1]})
	}
	return l
}

func TestWhy(t *testing.T) {
	hex := func(c string) string { return "sha256:" + strings.Repeat(c, 64) }
	long := strings.Repeat("0123456789", 20)
	secret := func(v string) []item { return []item{{"variable API_TOKEN", v, true}} }
	for _, c := range []struct {
		title       string
		now, before []item
		want        string
	}{
		{"same", list("a", "1"), list("a", "1"), ""},
		{"value", list("args", "make all"), list("args", "make"), "args changed: make → make all"},
		{"first of several", list("a", "1", "b", "2", "c", "3"), list("a", "1", "b", "x", "c", "y"), "b changed: x → 2"},
		{"digest", list("parent", hex("a")), list("parent", hex("b")), "parent changed: sha256:bbbbbbbbbbbb → sha256:aaaaaaaaaaaa"},
		{"empty", list("user", ""), list("user", "root"), `user changed: root → ""`},
		{"control bytes", list("args", "a\nb"), list("args", "\x1b[31m"), `args changed: "\x1b[31m" → "a\nb"`},
		{"new", list("a", "1", "env HOME", "/root"), list("a", "1"), "env HOME is new: /root"},
		{"new in the middle", list("a", "1", "b", "2", "c", "3"), list("a", "1", "c", "3"), "b is new: 2"},
		{"gone", list("a", "1"), list("a", "1", "b", "2"), "b is gone: it was 2"},
		{"gone in the middle", list("a", "1", "c", "3"), list("a", "1", "b", "2", "c", "3"), "b is gone: it was 2"},
		{"repeated name", list("env", "A=1", "env", "B=3"), list("env", "A=1", "env", "B=2"), "env changed: B=2 → B=3"},
		{"one more of a name", list("env", "A=1", "env", "B=2"), list("env", "A=1"), "env is new: B=2"},
		{"moved", list("b", "2", "a", "1"), list("a", "1", "b", "2"), "b moved: it came after a"},
		{"secret", secret("x"), secret("y"), "variable API_TOKEN changed"},
		{"new secret", secret("x"), nil, "variable API_TOKEN is new"},
		{"secret gone", nil, secret("x"), "variable API_TOKEN is gone"},
		{"long, differing late", list("args", long+"x end"), list("args", long+"y end"),
			"args changed: …0123456789y end → …0123456789x end at byte 200"},
		{"long, differing early", list("args", "x"+long), list("args", "y"+long),
			"args changed: y" + long[:59] + "… (201 bytes) → x" + long[:59] + "… (201 bytes)"},
	} {
		if got := why(c.now, c.before); got != c.want {
			t.Errorf("%s: %q, want %q", c.title, got, c.want)
		}
	}
}

// FuzzWhy: whatever records say, what differs is one line, and there is one where something differs.
func FuzzWhy(f *testing.F) {
	f.Add([]byte("1:a=1:b\n"), []byte("1:a=1:c\n"))
	f.Add([]byte("1:a=70:"+strings.Repeat("é", 35)+"\n"), []byte("1:a=72:"+strings.Repeat("é", 36)+"\n"))
	f.Add([]byte("1:a=1:b\n1:b=0:\n"), []byte("1:b=0:\n1:a=1:b\n"))
	f.Add([]byte("2:op=3:run\n3:arg=1:a\n3:arg=2:-c\n3:arg=1:x\n3:env=3:A=1\n5:mount=4:bind\n6:target=2:/x\n"), []byte("2:op=3:run\n3:arg=1:a\n"))
	f.Fuzz(func(t *testing.T, a, b []byte) {
		x, err := cache.Decode("slot", a)
		y, yerr := cache.Decode("slot", b)
		if err != nil || yerr != nil {
			return
		}
		now, before := take(x, []string{"A"}), take(y, nil)
		line := why(now.own, before.own)
		if strings.ContainsAny(line, "\n\r\x1b\x00") {
			t.Errorf("more than a line: %q", line)
		}
		if same := slices.Equal(now.own, before.own); same != (line == "") {
			t.Errorf("%q and %q: %q", x.Fields, y.Fields, line)
		}
	})
}

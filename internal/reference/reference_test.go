package reference_test

import (
	"math/rand/v2"
	"strings"
	"testing"

	theirs "github.com/distribution/reference"
	"nacre/internal/reference"
)

var samples = []string{
	"", "nginx", "nginx:1.27", "me/app", "docker.io/nginx", "index.docker.io/me/app", "index.docker.io/app", "localhost/app", "localhost:5000/app",
	"[::1]:5000/app:x", "[::1]/app", "[]/app", "[::1/app", "[::1]x/app", "[::1]:/app", "::1/app", "[fe80::1%25eth0]/a",
	"ghcr.io/a/b/c:v1.2-rc_3", "docker.io/library/a/b", "docker.io/a.b/c", "UPPER", "UPPER/a", "Up/A", "a.B/c", "a.b/C", "a:B", "a/b:C", "A.b:5/c@x",
	"a//b", "/a", "a/", "a:", "a:b:c", "a@", "a@sha256:12", "a b", "a:-x", "a:.x", "a:_x", "../a", "a/../b", ":latest", "a_b.c/d", "a__b/c", "a___b/c", "a-_b",
	"a---b", "-a", "a-", "a.", ".a", "a..b", "a._b", "a.b-/c", "-a.b/c", "a.-b/c", "a..b/c", "a.b:0/c", "a.b:/c", "a.b:x/c", "a.b:1:2/c", "a.b@c/d", "a\x00b", "a\n", "é", "a.é/b", "K/a", "a:\u212a", "a/\xff", "\xff.b/a",
	"a:" + strings.Repeat("b", 128), "a:" + strings.Repeat("b", 129), strings.Repeat("a", 247), strings.Repeat("a", 248), strings.Repeat("a", 256), "x.y/" + strings.Repeat("a", 255), "x.y/" + strings.Repeat("a", 256),
	strings.Repeat("ab", 32), strings.Repeat("AB", 32), strings.Repeat("ab", 32) + "/a", strings.Repeat("ab", 32) + "\n",
	"a@sha256:" + strings.Repeat("ab", 32), "a:b@sha256:" + strings.Repeat("ab", 32), "a@sha256:" + strings.Repeat("AB", 32), "a@SHA256:" + strings.Repeat("AB", 32), "a@sha512:" + strings.Repeat("ab", 64),
	"a@md5:" + strings.Repeat("ab", 16), "a@md5:" + strings.Repeat("a", 31), "a@x+y.z:" + strings.Repeat("ab", 16), "a@x+:" + strings.Repeat("ab", 16), "a@+x:" + strings.Repeat("ab", 16), "a@x.2:" + strings.Repeat("ab", 16), "a@x2:" + strings.Repeat("ab", 16), "a@x--y:" + strings.Repeat("ab", 16), "a@:" + strings.Repeat("ab", 16),
	"x.y@sha256:" + strings.Repeat("ab", 32) + "/a", "X/y@sha256:" + strings.Repeat("ab", 32), "a@sha256:" + strings.Repeat("ab", 32) + "@b", "a@b:c",
}

// TestSame: we read what distribution/reference reads, and to the same parts, here samples and
// names made of their pieces.
func TestSame(t *testing.T) {
	for _, s := range samples {
		same(t, s)
	}
	r := rand.New(rand.NewPCG(1, 2))
	pieces := []string{"a", "b9", "A", "localhost", "docker.io", "index.docker.io", "library", "/", "/", ":", ":5000", ".", "-", "--", "_", "__", "[::1]", "[", "]", "@", "@sha256:" + strings.Repeat("0f", 32), "latest", " ", "é", "\u212a", "\xff", strings.Repeat("ab", 32), strings.Repeat("c", 100)}
	valid := 0
	for range 20000 {
		var s strings.Builder
		for range 1 + r.IntN(8) {
			s.WriteString(pieces[r.IntN(len(pieces))])
		}
		if same(t, s.String()) {
			valid++
		}
	}
	if valid < 1000 {
		t.Errorf("%d of the names are valid: too few to compare much", valid)
	}
}

// FuzzSame is TestSame with names of others' making.
func FuzzSame(f *testing.F) {
	for _, s := range samples {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) { same(t, s) })
}

// same compares all we have with what distribution/reference has of a name, and tells
// whether both take it for one.
func same(t *testing.T, s string) bool {
	t.Helper()
	sameName(t, s)
	n, err := reference.Parse(s)
	want, werr := theirs.ParseNormalizedNamed(s)
	if err != nil || werr != nil {
		if (err == nil) != (werr == nil) || err.Error() != werr.Error() {
			t.Errorf("%q: %v; want %v", s, err, werr)
		}
		return false
	}
	w := reference.Named{Domain: theirs.Domain(want), Path: theirs.Path(want)}
	if tagged, ok := want.(theirs.Tagged); ok {
		w.Tag = tagged.Tag()
	}
	if digested, ok := want.(theirs.Digested); ok {
		w.Digest = digested.Digest()
	}
	if n != w {
		t.Errorf("%q is %+v; want %+v", s, n, w)
	}
	for _, c := range []struct{ what, got, want string }{
		{"name", n.Name(), want.Name()},
		{"string", n.String(), want.String()},
		{"familiar name", n.FamiliarName(), theirs.FamiliarName(want)},
		{"familiar", n.Familiar(), theirs.FamiliarString(want)},
		{"tagged", n.Tagged().String(), theirs.TagNameOnly(want).String()},
	} {
		if c.got != c.want {
			t.Errorf("%s of %q is %q; want %q", c.what, s, c.got, c.want)
		}
	}
	if n.NameOnly() != theirs.IsNameOnly(want) {
		t.Errorf("%q: name only is %v", s, n.NameOnly())
	}
	return true
}

// sameName compares what both take for a name that has all its parts.
func sameName(t *testing.T, s string) {
	t.Helper()
	n, err := reference.ParseName(s)
	want, werr := theirs.WithName(s)
	switch {
	case (err == nil) != (werr == nil) || err != nil && err.Error() != werr.Error():
		t.Errorf("name %q: %v; want %v", s, err, werr)
	case err == nil && (n.Name() != want.Name() || n.Domain != theirs.Domain(want) || n.Path != theirs.Path(want)):
		t.Errorf("name %q is %+v; want %q and %q", s, n, theirs.Domain(want), theirs.Path(want))
	}
}

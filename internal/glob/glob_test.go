package glob

import (
	"strings"
	"testing"
)

func TestMatch(t *testing.T) {
	for _, c := range []struct {
		pattern, name string
		want          bool
	}{
		{"**", "a", true}, {"**", "a/b/c", true}, {"**", "", true},
		{"*", "a", true}, {"*", "a/b", false},
		{"a", "a", true}, {"a", "ab", false}, {"a", "a/b", false},
		{"team/**", "team/a", true}, {"team/**", "team/a/b", true}, {"team/**", "team", false},
		{"team/**", "teams/a", false}, {"team/*", "team/a/b", false}, {"team/*", "team", false},
		{"**/base", "x/y/base", true}, {"**/base", "x/base/y", false}, {"**/base", "base", false},
		{"a/**/z", "a/b/c/z", true}, {"a/**/z", "a/b/c", false},
		{"**/a/**", "x/a/y", true}, {"**/a/**", "x/b/y", false},
		{"v?", "v1", true}, {"v?", "v", false}, {"v?", "v/", false}, {"v*", "v", true}, {"v*.*", "v1.2", true}, {"v*.*", "v12", false},
		{"*a*b", "xaxxb", true}, {"*a*b", "xaxbx", false}, {"**a", "b/ca", true},
		{"ab", "a", false}, {"*", "", true}, {"*", "app", true}, {"*", "team/app", false}, {"**", "team/app", true}, {"*/app", "team/app", true},
		{"**/app", "a/b/app", true}, {"v?", "v12", false}, {"v*-rc*", "v1.2-rc1", true}, {"*a*a*a*", "aaa", true}, {"*a*a*a*", "aa", false},
		{"***", "a/b", true}, {"[a]", "a", false}, {"team/*", "team/app", true},
		{"", "", true}, {"", "a", false}, {"**", strings.Repeat("a", 1000), true}, {"a*", strings.Repeat("a", 1000), true},
	} {
		if got := Match(c.pattern, c.name); got != c.want {
			t.Errorf("%q of %q: %v", c.pattern, c.name, got)
		}
	}
}

// TestHard would not end within a lifetime if every star were tried with every other.
func TestHard(t *testing.T) {
	if Match(strings.Repeat("*a", 60)+"b", strings.Repeat("a", 250)) || Match(strings.Repeat("**/a/", 40)+"b", strings.Repeat("a/", 120)+"a") {
		t.Error("matches")
	}
	if !Any([]string{"x", "y*"}, "yes") || Any(nil, "yes") {
		t.Error("Any is wrong")
	}
}

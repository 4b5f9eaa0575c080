package dockerfile_test

import (
	"fmt"
	"path"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"nacre/internal/dockerfile"
)

func TestParseIgnore(t *testing.T) {
	got, err := dockerfile.ParseIgnore(strings.NewReader("\ufeff# comment\n\n /a/../b/ \n! /c\n!\n #d\n"))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"b", "!c", "!", "#d"}, got); diff != "" {
		t.Error(diff)
	}
	for _, text := range []string{strings.Repeat("a\n", 600_000), strings.Repeat("a\n", 10_001), strings.Repeat("a", 100_000)} {
		if _, err := dockerfile.ParseIgnore(strings.NewReader(text)); err == nil {
			t.Errorf("%d bytes, %d lines: no error", len(text), strings.Count(text, "\n"))
		}
	}
}

func TestMatcherErrors(t *testing.T) {
	for _, p := range []string{"!", "[", "a[", "![", "[a-", `x\`} {
		_, err := dockerfile.NewMatcher([]string{"fine", "", p})
		if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("%q", p)) {
			t.Errorf("%q: %v", p, err)
		}
	}
}

// TestMatcher walks a tree as a build context is walked, and compares what is
// left, and which directories need not be read.
func TestMatcher(t *testing.T) {
	tree := []string{"a", "a/b", "a/b/c.go", "a/b/c.md", "a/README.md", "node_modules", "node_modules/x", "node_modules/x/keep.js", "top.md", "z"}
	isDir := map[string]bool{"a": true, "a/b": true, "node_modules": true, "node_modules/x": true}
	for _, c := range []struct {
		patterns      string
		kept, skipped string // skipped: ignored directories not read
	}{
		{"", "a a/b a/b/c.go a/b/c.md a/README.md node_modules node_modules/x node_modules/x/keep.js top.md z", ""},
		{"*.md", "a a/b a/b/c.go a/b/c.md a/README.md node_modules node_modules/x node_modules/x/keep.js z", ""},
		{"**/*.md !top.md", "a a/b a/b/c.go node_modules node_modules/x node_modules/x/keep.js top.md z", ""},
		{"node_modules", "a a/b a/b/c.go a/b/c.md a/README.md top.md z", "node_modules"},
		{"node_modules !a", "a a/b a/b/c.go a/b/c.md a/README.md top.md z", "node_modules"},
		{"node_modules !node_modules/x/keep.js", "a a/b a/b/c.go a/b/c.md a/README.md node_modules/x/keep.js top.md z", ""},
		{"* !a/b", "a/b a/b/c.go a/b/c.md", "node_modules"},
		{"* !**/*.go", "a/b/c.go", ""},
		{"* !a/*/c.go", "a/b/c.go", "node_modules"},
		{"** !z z", "", "a node_modules"},
		{"a/b !a/b/c.go a/b/c*", "a a/README.md node_modules node_modules/x node_modules/x/keep.js top.md z", ""},
	} {
		m, err := dockerfile.NewMatcher(strings.Fields(c.patterns))
		if err != nil {
			t.Fatal(err)
		}
		var kept, skipped []string
		info := map[string]dockerfile.Match{".": {}}
		for _, name := range tree {
			parent, ok := info[path.Dir(name)]
			if !ok {
				continue
			}
			ignored, match, err := m.MatchesUsingParentResults(name, parent)
			if err != nil {
				t.Fatal(err)
			}
			if alone, err := m.Ignored(name); err != nil || alone != ignored {
				t.Errorf("%q: %s: ignored is %v with its parents' results, %v without (%v)", c.patterns, name, ignored, alone, err)
			}
			if !ignored {
				kept = append(kept, name)
			}
			if isDir[name] && ignored && m.SkipDir(name) {
				skipped = append(skipped, name)
			} else if isDir[name] {
				info[name] = match
			}
		}
		if got := strings.Join(kept, " "); got != c.kept {
			t.Errorf("%q: kept %s\nwant %s", c.patterns, got, c.kept)
		}
		if got := strings.Join(skipped, " "); got != c.skipped {
			t.Errorf("%q: skipped %q, want %q", c.patterns, got, c.skipped)
		}
	}
}

// TestMatcherConcurrently is for the race detector.
func TestMatcherConcurrently(t *testing.T) {
	m, err := dockerfile.NewMatcher([]string{"*.x", "!a*.x", "**/y"})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 100 {
				name := fmt.Sprintf("%c%d.x", 'a'+i%2, j)
				if ignored, err := m.Ignored(name); err != nil || ignored != (i%2 == 1) {
					t.Errorf("%s: %v, %v", name, ignored, err)
				}
			}
		})
	}
	wg.Wait()
}

// FuzzIgnore: patterns that are taken match anything without an error, and a directory
// skipped has nothing in it that is kept.
func FuzzIgnore(f *testing.F) {
	f.Add("*.md\n!README.md\n", "a/README.md")
	f.Add("**\n!a/*/c", "a/b/c")
	f.Add("a/b\n![ab]/\\*\n", "a/b/c/d")
	f.Fuzz(func(t *testing.T, text, name string) {
		patterns, err := dockerfile.ParseIgnore(strings.NewReader(text))
		if err != nil {
			return
		}
		m, err := dockerfile.NewMatcher(patterns)
		if err != nil {
			return
		}
		name = path.Clean("/" + name)[1:]
		if name == "" {
			return
		}
		var match dockerfile.Match
		skipped := ""
		parts := strings.Split(name, "/")
		for i := range parts {
			p := strings.Join(parts[:i+1], "/")
			ignored, next, err := m.MatchesUsingParentResults(p, match)
			if err != nil {
				t.Fatalf("%q: %q: %v", patterns, p, err)
			}
			if skipped != "" && !ignored {
				t.Fatalf("%q: %q is kept, though %q can be skipped", patterns, p, skipped)
			}
			if skipped == "" && ignored && m.SkipDir(p) {
				skipped = p
			}
			match = next
		}
	})
}

package main

import (
	"context"
	"flag"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/moby/patternmatcher/ignorefile"
	"github.com/tonistiigi/fsutil"
)

var nacre = flag.String("nacre", "../bin/nacre", "the program to test")

// ignoreSeeds are .dockerignore files that people write, and that builders once differed about.
var ignoreSeeds = []string{
	"",
	"**\n!a/b",
	"*\n!a",
	"*\n!a/b\n!a/b/d",
	"**/a\n!**/b",
	"**/b\n!**/a",
	"a\n!*/b*",
	"*\ntest*\n!c*\na\n!*/b*",
	"a/\n!**/c.txt",
	"**\n!a/c.txt",
	"**\n!b/a/c.txt",
	"*\n!a\na/b\n!a/b/d",
	"a\n!a/b/**",
	"a\n!a/*",
	"a/*\n!a/*/c.txt",
	"a/**\n!a/b",
	"!a\na/b",
	"/a\n!/a/b/",
	"[ab]\n!?/b",
	"**/*.txt\n!a/c.txt",
}

// TestIgnore compares what is left of a context with what BuildKit's own walk leaves.
func TestIgnore(t *testing.T) {
	program, err := filepath.Abs(*nacre)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(program); err != nil {
		t.Fatalf("%v (make build makes it; -nacre names another)", err)
	}
	scratch := t.TempDir()
	b := builder{nacre: program, root: filepath.Join(scratch, "root"), scratch: scratch}
	dir := filepath.Join(scratch, "context")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	makeTree(t, dir, 4)
	for i, text := range append(ignoreSeeds, randomIgnores(60)...) {
		name := filepath.Join(scratch, fmt.Sprint(i))
		if err := os.WriteFile(name, []byte("FROM scratch\nCOPY . /all/\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name+".dockerignore", []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		want := walk(t, dir, text)
		if out, err := b.run(t.Context(), "build", "-q", "-t", "case", "-f", name, dir); err != nil {
			t.Errorf("%q: %v\n%s", text, err, out)
			continue
		}
		_, files, err := b.image(t.Context(), "case")
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, name := range slices.Sorted(maps.Keys(files)) {
			if name = strings.TrimPrefix(name, "all/"); name != "all" {
				got = append(got, name)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("%q leaves\n%s\nwhere BuildKit has\n%s", text, strings.Join(got, " "), strings.Join(want, " "))
		}
	}
}

// makeTree makes directories a and b in each other, depth deep, with two files in each.
func makeTree(t *testing.T, dir string, depth int) {
	t.Helper()
	for _, name := range []string{"c.txt", "d"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(name), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if depth == 0 {
		return
	}
	for _, name := range []string{"a", "b"} {
		sub := filepath.Join(dir, name)
		if err := os.Mkdir(sub, 0o755); err != nil {
			t.Fatal(err)
		}
		makeTree(t, sub, depth-1)
	}
}

// randomIgnores makes patterns of the names in makeTree, the same ones every time.
func randomIgnores(n int) []string {
	r := rand.New(rand.NewPCG(1, 2))
	elements := []string{"a", "b", "a", "b", "*", "**", "c.txt", "*.txt", "d", "?", "[a-c]", "."}
	files := make([]string, n)
	for i := range files {
		var lines []string
		for range 1 + r.IntN(5) {
			var parts []string
			for range 1 + r.IntN(4) {
				parts = append(parts, elements[r.IntN(len(elements))])
			}
			line := strings.Join(parts, "/")
			if r.IntN(2) == 0 {
				line = "!" + line
			}
			lines = append(lines, line)
		}
		files[i] = strings.Join(lines, "\n") + "\n"
	}
	return files
}

// walk lists what fsutil leaves of dir.
func walk(t *testing.T, dir, ignore string) []string {
	t.Helper()
	patterns, err := ignorefile.ReadAll(strings.NewReader(ignore))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	err = fsutil.Walk(context.Background(), dir, &fsutil.FilterOpt{ExcludePatterns: patterns}, func(name string, _ fs.FileInfo, err error) error {
		names = append(names, name)
		return err
	})
	if err != nil {
		t.Fatalf("%q: %v", ignore, err)
	}
	slices.Sort(names)
	return names
}

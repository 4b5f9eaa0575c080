package source

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"nacre/internal/dockerfile"
)

// ramDir is a directory in memory where there is one: a hundred thousand files
// are slow to make and to remove on a busy disk.
func ramDir(tb testing.TB) string {
	dir, err := os.MkdirTemp("/dev/shm", "source-test-")
	if err != nil {
		return tb.TempDir()
	}
	tb.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// manyFiles makes files below root in directories of a hundred, of size bytes each and
// all different.
func manyFiles(tb testing.TB, root string, files, size int) string {
	tb.Helper()
	buf := make([]byte, size)
	dir := ""
	for i := range files {
		if i%100 == 0 {
			dir = filepath.Join(root, fmt.Sprintf("d%02d", i/100%25), fmt.Sprintf("e%04d", i/100))
			if err := os.MkdirAll(dir, 0o755); err != nil {
				tb.Fatal(err)
			}
		}
		copy(buf, fmt.Sprintf("file %d\n", i))
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("file-%05d.txt", i)), buf, 0o644); err != nil {
			tb.Fatal(err)
		}
	}
	return root
}

// BenchmarkContext is a build context of 50,000 files, 400 MB: goals are 0.45 s cold, 0.12 s warm
// on two cores.
func BenchmarkContext(b *testing.B) {
	root := manyFiles(b, b.TempDir(), 50_000, 8<<10)
	cache := filepath.Join(b.TempDir(), "cache")
	run := func(b *testing.B, cache string) {
		tree, err := OpenDir(b.Context(), root, DirOptions{StatCache: cache})
		if err != nil {
			b.Fatal(err)
		}
		if _, err := tree.Sum(b.Context(), []string{"."}, nil); err != nil {
			b.Fatal(err)
		}
		if err := tree.Close(); err != nil {
			b.Fatal(err)
		}
	}
	b.Run("cold", func(b *testing.B) {
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			os.Remove(fmt.Sprint(cache, i))
			run(b, fmt.Sprint(cache, i))
		}
	})
	b.Run("warm", func(b *testing.B) {
		run(b, cache)
		run(b, cache) // what was too young the first time is remembered now
		b.ReportAllocs()
		for b.Loop() {
			run(b, cache)
		}
	})
	b.Run("ignore", func(b *testing.B) {
		m, err := dockerfile.NewMatcher([]string{".git", "node_modules", "**/*.md", "dist/**", "*.log", "!README.md"})
		if err != nil {
			b.Fatal(err)
		}
		for b.Loop() {
			tree, err := OpenDir(b.Context(), root, DirOptions{Ignore: m})
			if err != nil {
				b.Fatal(err)
			}
			tree.Close()
		}
	})
	b.Run("walk", func(b *testing.B) {
		for b.Loop() {
			tree, err := OpenDir(b.Context(), root, DirOptions{})
			if err != nil {
				b.Fatal(err)
			}
			tree.Close()
		}
	})
}

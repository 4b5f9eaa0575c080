package store_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"nacre/internal/cache"
	"nacre/internal/registry/store"
)

// BenchmarkOpenGetClose is what a command pays that finds one step in the cache: at
// best, and with a log that is about to be emptied.
func BenchmarkOpenGetClose(b *testing.B) {
	for _, more := range []int{0, 50} {
		b.Run(fmt.Sprintf("log of %d writes", more), func(b *testing.B) { openGetClose(b, more) })
	}
}

func openGetClose(b *testing.B, more int) {
	root := b.TempDir()
	s := openAt(b, root, store.Options{})
	info := made(b, s, nil, "a")
	for i := range more {
		made(b, s, nil, fmt.Sprint(i))
	}
	rec := record("slot", "a")
	if err := s.Cache().Put(b.Context(), rec, output(info)); err != nil {
		b.Fatal(err)
	}
	s.Close()
	if st, err := os.Stat(filepath.Join(root, "nacre.db-wal")); err == nil {
		b.ReportMetric(float64(st.Size()/4096), "pages")
	}
	for b.Loop() {
		s, err := store.Open(b.Context(), root, store.Options{})
		if err != nil {
			b.Fatal(err)
		}
		if _, ok, err := s.Cache().Get(b.Context(), rec.Key); err != nil || !ok {
			b.Fatal(ok, err)
		}
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkCachedBuild is what a build pays the store that finds ten steps in the
// cache and puts the image that is there already.
func BenchmarkCachedBuild(b *testing.B) {
	root := b.TempDir()
	s := openAt(b, root, store.Options{})
	var recs []cache.Record
	info := made(b, s, nil, "a")
	for i := range 10 {
		recs = append(recs, record("slot", fmt.Sprint(i)))
		if err := s.Cache().Put(b.Context(), recs[i], output(info)); err != nil {
			b.Fatal(err)
		}
	}
	img := assemble(b, config(0, info), info)
	put(b, s, 0, []string{"a"}, info)
	s.Close()
	for b.Loop() {
		s, err := store.Open(b.Context(), root, store.Options{})
		if err != nil {
			b.Fatal(err)
		}
		l, err := s.Lease(b.Context())
		if err != nil {
			b.Fatal(err)
		}
		for _, rec := range recs {
			out, ok, err := s.Cache().Get(b.Context(), rec.Key)
			if err != nil || !ok {
				b.Fatal(ok, err)
			}
			if err := l.Layer(b.Context(), out.DiffID); err != nil {
				b.Fatal(err)
			}
		}
		if _, err := s.PutImage(b.Context(), l, img, refs("a")); err != nil {
			b.Fatal(err)
		}
		if err := l.Release(); err != nil {
			b.Fatal(err)
		}
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkImages lists 10,000 images of two names each.
func BenchmarkImages(b *testing.B) {
	s := open(b)
	store.AddImages(b, s, 10_000)
	for b.Loop() {
		n := 0
		for _, err := range s.Images(b.Context()) {
			if err != nil {
				b.Fatal(err)
			}
			n++
		}
		if n != 10_000 {
			b.Fatal(n)
		}
	}
}

// BenchmarkLookup finds one of 10,000 images by name.
func BenchmarkLookup(b *testing.B) {
	s := open(b)
	store.AddImages(b, s, 10_000)
	for b.Loop() {
		if _, err := s.Lookup(b.Context(), "example.com/app:7777"); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkMakeLayer(b *testing.B) {
	s := open(b)
	l, err := s.Lease(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	for i := 0; b.Loop(); i++ {
		made(b, s, l, fmt.Sprint(i))
	}
}

package hosted_test

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

	"nacre/internal/registry"
	"nacre/internal/registry/hosted"
	"nacre/internal/registry/registrytest"
)

// stocked is a registry with 1000 tags.
func stocked(b *testing.B) *fixture {
	f := open(b, hosted.Options{})
	img := registrytest.Hello("bench", gzipLayer)
	f.push("app", "latest", img)
	for i := range 1000 {
		if err := f.r.Tag(b.Context(), ref("app", fmt.Sprint("v", i)), img.Desc()); err != nil {
			b.Fatal(err)
		}
	}
	return f
}

// BenchmarkResolve is what this package takes for GET of a manifest by tag.
func BenchmarkResolve(b *testing.B) {
	f := stocked(b)
	ctx := context.Background()
	for b.Loop() {
		d, err := f.r.Resolve(ctx, ref("app", "v500"))
		if err != nil {
			b.Fatal(err)
		}
		if _, err := f.r.Resolve(ctx, registry.Ref{Repo: "app", Digest: d.Digest}); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkResolveCold is the same after every write to the database.
func BenchmarkResolveCold(b *testing.B) {
	f := stocked(b)
	ctx := context.Background()
	d := registrytest.Hello("bench", gzipLayer).Desc()
	for i := 0; b.Loop(); i++ {
		b.StopTimer()
		if err := f.r.Tag(ctx, ref("app", "other"), d); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
		if _, err := f.r.Resolve(ctx, ref("app", "v500")); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkOpen opens and reads a blob of 10 KB.
func BenchmarkOpen(b *testing.B) {
	f := stocked(b)
	ctx := context.Background()
	blob := registrytest.NewBlob("application/octet-stream", make([]byte, 10_000))
	if err := registrytest.Push(ctx, f.r, "app", blob); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		rc, err := f.r.Open(ctx, "app", blob.Descriptor)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, rc.(registry.Raw).Raw()); err != nil {
			b.Fatal(err)
		}
		rc.Close()
	}
}

// BenchmarkTags lists 1000 tags.
func BenchmarkTags(b *testing.B) {
	f := stocked(b)
	for b.Loop() {
		n := 0
		for _, err := range f.r.Tags(context.Background(), "app", "") {
			if err != nil {
				b.Fatal(err)
			}
			n++
		}
		if n != 1001 {
			b.Fatal(n)
		}
	}
}

// BenchmarkAdopt takes over files of 10 KB, one after the other and many at a time.
func BenchmarkAdopt(b *testing.B) {
	for _, parallel := range []int{1, 16} {
		b.Run(fmt.Sprint(parallel), func(b *testing.B) {
			f := open(b, hosted.Options{})
			r := hosted.New(f.s, hosted.Options{})
			var n int
			for b.Loop() {
				done := make(chan error)
				for range parallel {
					n++
					blob := registrytest.NewBlob("application/octet-stream", fmt.Appendf(make([]byte, 10_000), "%d", n))
					path := filepath.Join(r.Incoming(), fmt.Sprint(n))
					if err := os.WriteFile(path, blob.Data, 0o600); err != nil {
						b.Fatal(err)
					}
					go func() { done <- r.Adopt(context.Background(), "app", blob.Descriptor, path) }()
				}
				for range parallel {
					if err := <-done; err != nil {
						b.Fatal(err)
					}
				}
			}
			b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(n), "µs/blob")
		})
	}
}

package rootfs

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"nacre/internal/layer"
)

// BenchmarkAttach reports the best time and that of its
// processor too: on a busy machine the mean says little.
func BenchmarkAttach(b *testing.B) {
	for _, n := range []int{1, 3, 10, 127, 400} {
		for _, f := range forms[:2] {
			b.Run(fmt.Sprintf("%s/%d", f.name, n), func(b *testing.B) {
				s := newSource(b, f.userXattr)
				var ids []digest.Digest
				for i := range n {
					ids = append(ids, s.add(file(fmt.Sprint("f", i), "x")))
				}
				m := s.prepare(f.form, false, ids...)
				root := filepath.Join(b.TempDir(), "root")
				if err := os.Mkdir(root, 0o700); err != nil {
					b.Fatal(err)
				}
				err := apart(func() error {
					best := time.Hour
					var cpu time.Duration
					defer func() { b.ReportMetric(float64(cpu.Microseconds())/float64(b.N), "cpu-µs/op") }()
					defer func() { b.ReportMetric(float64(best.Microseconds()), "best-µs/op") }()
					for b.Loop() {
						start, used := time.Now(), threadTime()
						if err := m.Attach(root); err != nil {
							return err
						}
						cpu += threadTime() - used
						best = min(best, time.Since(start))
						b.StopTimer()
						if err := unix.Unmount(root, 0); err != nil {
							return err
						}
						b.StartTimer()
					}
					return nil
				})
				if err != nil {
					b.Fatal(err)
				}
			})
		}
	}
}

func threadTime() time.Duration {
	var ts unix.Timespec
	unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ts)
	return time.Duration(ts.Nano())
}

// BenchmarkChanges reads 20,000 files in 200 directories, without their content.
func BenchmarkChanges(b *testing.B) {
	s := newSource(b, false)
	id := s.add(dir("d"), file("d/f", ""))
	m := s.prepare(Index, false, id)
	for i := range 200 {
		dir := filepath.Join(m.Upper, fmt.Sprintf("d%d/lib/node_modules/package", i))
		if err := os.MkdirAll(dir, 0o755); err != nil {
			b.Fatal(err)
		}
		for j := range 100 {
			if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("file%d.js", j)), []byte("content"), 0o644); err != nil {
				b.Fatal(err)
			}
		}
	}
	f := s.merged(id)
	best := time.Hour
	var cpu time.Duration
	for b.Loop() {
		runtime.LockOSThread()
		start, used, n := time.Now(), threadTime(), 0
		for _, err := range Changes(context.Background(), m, f, ChangesOptions{}) {
			if err != nil {
				b.Fatal(err)
			}
			n++
		}
		cpu += threadTime() - used
		best = min(best, time.Since(start))
		runtime.UnlockOSThread()
		if n != 200*104 {
			b.Fatalf("%d entries", n)
		}
	}
	b.ReportMetric(float64(cpu.Microseconds())/float64(b.N), "cpu-µs/op")
	b.ReportMetric(float64(best.Microseconds()), "best-µs/op")
}

// BenchmarkPrepare is a chain as an image has it: a large base and what was copied on it.
func BenchmarkPrepare(b *testing.B) {
	s := newSource(b, false)
	var base []layer.File
	for i := range 600 {
		d := fmt.Sprintf("usr/share/d%d", i)
		base = append(base, dir(d))
		for j := range 10 {
			base = append(base, file(fmt.Sprintf("%s/f%d", d, j), "x"))
		}
	}
	ids := []digest.Digest{s.add(parents(append(base, dir("."))...)...), s.add(file("usr/share/d1/f1", "y")), s.add(parents(file("app/main", ""))...)}
	for b.Loop() {
		b.StopTimer()
		scratch := s.scratch()
		b.StartTimer()
		if _, err := Prepare(context.Background(), s, Index, ids, scratch, false); err != nil {
			b.Fatal(err)
		}
	}
}

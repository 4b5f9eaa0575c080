package rootfs

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
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

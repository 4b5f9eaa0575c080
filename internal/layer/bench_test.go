package layer

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// benchTree makes 50,000 files of 8 KiB on average, 400 MB, once for all benchmarks.
var benchTree = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("/var/tmp", "nacre-bench-")
	if err != nil {
		return "", err
	}
	random := rand.New(rand.NewPCG(1, 2))
	buf := make([]byte, 16<<10)
	for i := range 50_000 {
		sub := filepath.Join(dir, fmt.Sprintf("d%03d", i/100))
		if i%100 == 0 {
			if err := os.Mkdir(sub, 0o755); err != nil {
				return "", err
			}
		}
		for j := 0; j < len(buf); j += 8 {
			*(*[8]byte)(buf[j:]) = [8]byte(fmt.Append(nil, random.Uint64())[:8])
		}
		if err := os.WriteFile(filepath.Join(sub, fmt.Sprintf("f%02d", i%100)), buf[:random.IntN(len(buf))], 0o644); err != nil {
			return "", err
		}
	}
	return dir, nil
})

func TestMain(m *testing.M) {
	code := m.Run()
	if benchMade {
		dir, _ := benchTree()
		os.RemoveAll(dir)
	}
	os.Exit(code)
}

var benchMade bool

// benchFiles yields the tree as a walk would.
func benchFiles(b *testing.B) []File {
	benchMade = true
	dir, err := benchTree()
	if err != nil {
		b.Fatal(err)
	}
	var files []File
	for i := range 50_000 {
		if i%100 == 0 {
			files = append(files, folder(fmt.Sprintf("d%03d", i/100)))
		}
		name := fmt.Sprintf("d%03d/f%02d", i/100, i%100)
		path := filepath.Join(dir, name)
		st, err := os.Stat(path)
		if err != nil {
			b.Fatal(err)
		}
		files = append(files, File{
			Entry: Entry{Name: name, Mode: unix.S_IFREG | 0o644, Size: st.Size(), ModTime: st.ModTime()},
			Open:  func() (io.ReadCloser, error) { return os.Open(path) },
		})
	}
	return files
}

func BenchmarkWrite(b *testing.B) {
	files := benchFiles(b)
	since := rusage(b)
	for b.Loop() {
		dir := workDir(b)
		info, err := Write(b.Context(), dir, each(files))
		if err != nil {
			b.Fatal(err)
		}
		b.SetBytes(info.Size)
		b.StopTimer()
		os.RemoveAll(dir)
		b.StartTimer()
	}
	reportPeak(b, since)
}

// reportPeak reports the most memory the process had at any time, and the
// processor time of each round, which tells more than the clock on a busy machine.
func reportPeak(b *testing.B, since unix.Rusage) {
	now := rusage(b)
	b.ReportMetric(float64(now.Maxrss)/1024, "peak-MiB")
	used := now.Utime.Nano() + now.Stime.Nano() - since.Utime.Nano() - since.Stime.Nano()
	b.ReportMetric(float64(used)/1e6/float64(b.N), "cpu-ms/op")
}

func rusage(b *testing.B) (ru unix.Rusage) {
	if err := unix.Getrusage(unix.RUSAGE_SELF, &ru); err != nil {
		b.Fatal(err)
	}
	return ru
}

func benchLayer(b *testing.B) string {
	dir := workDir(b)
	if _, err := Write(b.Context(), dir, each(benchFiles(b))); err != nil {
		b.Fatal(err)
	}
	runtime.GC()
	return dir
}

func BenchmarkIngestPlain(b *testing.B) {
	src := filepath.Join(benchLayer(b), tarFile)
	for b.Loop() {
		dir := workDir(b)
		f, err := os.Open(src)
		if err != nil {
			b.Fatal(err)
		}
		info, err := Ingest(b.Context(), dir, f, IngestOptions{})
		if err != nil {
			b.Fatal(err)
		}
		b.SetBytes(info.Size)
		b.StopTimer()
		f.Close()
		os.RemoveAll(dir)
		b.StartTimer()
	}
}

// BenchmarkIndex writes the index alone, of 50,000 files.
func BenchmarkIndex(b *testing.B) {
	t := newTree()
	for _, f := range benchFiles(b) {
		n, err := newInode(&f.Entry)
		if err != nil {
			b.Fatal(err)
		}
		if err := t.add(f.Name, n); err != nil {
			b.Fatal(err)
		}
	}
	path := filepath.Join(workDir(b), "i")
	for b.Loop() {
		t.walk(func(_ string, n *inode) error { n.place = place{}; return nil })
		p, err := t.layOut(true)
		if err != nil {
			b.Fatal(err)
		}
		if err := p.writeFile(path, bytes.NewReader(nil)); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkOpenLstat(b *testing.B) {
	dir := benchLayer(b)
	for b.Loop() {
		l, err := Open(dir)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := l.Lstat("d250/f50"); err != nil {
			b.Fatal(err)
		}
		l.Close()
	}
}

func BenchmarkAll(b *testing.B) {
	l := open(b, benchLayer(b))
	for b.Loop() {
		for _, err := range l.All() {
			if err != nil {
				b.Fatal(err)
			}
		}
	}
}

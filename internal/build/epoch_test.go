package build

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

// TestEpochTimes: with SOURCE_DATE_EPOCH images are the same to the byte, so that times count that
// end up in layers: those before it. Without, no time makes a step run.
func TestEpochTimes(t *testing.T) {
	b := newBench(t, map[string]string{"f": "x"}).withBusybox()
	const text = "FROM busybox AS one\nCOPY f /f\nRUN touch -d @1000 /made\nFROM busybox\nCOPY --from=one /f /made /\n"
	const later = "FROM busybox AS one\nCOPY f /f\nRUN touch -d @2000 /made\nFROM busybox\nCOPY --from=one /f /made /\n"
	touch := func(seconds int64) {
		at := time.Unix(seconds, 0)
		if err := os.Chtimes(filepath.Join(b.dir, "f"), at, at); err != nil {
			t.Fatal(err)
		}
	}
	modified := func(o outcome, name string, want int64) {
		t.Helper()
		info, err := b.root(o).Lstat(name)
		if err != nil || info.ModTime().Unix() != want {
			t.Errorf("%s: %v, %v, want %d", name, info.ModTime().Unix(), err, want)
		}
	}
	touch(1000)
	b.build(text)
	touch(2000)
	b.build(text).expectRan(t)
	b.build(later).expectRan(t, "RUN touch -d @2000 /made") // what comes after it hits

	stamp := "1000000000"
	b.opts.BuildArgs = map[string]*string{"SOURCE_DATE_EPOCH": &stamp}
	modified(b.build(text), "f", 2000)
	touch(3000)
	modified(b.build(text), "f", 3000)
	touch(1500000000)
	modified(b.build(text), "f", 1000000000)
	touch(1600000000)
	b.build(text).expectRan(t)
	modified(b.build(later), "made", 2000)
}

// TestEpochCacheOrigin: a cache that begins with files of a stage goes on, whatever times these have.
func TestEpochCacheOrigin(t *testing.T) {
	b := newBench(t, map[string]string{"f": "x"}).withBusybox()
	for i, stamp := range []string{"1000000000", "1100000000"} {
		b.opts.BuildArgs = map[string]*string{"SOURCE_DATE_EPOCH": &stamp}
		out := b.build("FROM scratch AS seed\nCOPY f /seed/f\nFROM busybox\nRUN --mount=type=cache,target=/c,from=seed,source=/seed echo x >> /c/n; wc -l < /c/n > /n\n")
		if got, want := b.read(out, "n"), []string{"1\n", "2\n"}[i]; got != want {
			t.Errorf("build %d: n is %q, want %q", i, got, want)
		}
	}
}

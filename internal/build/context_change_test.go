package build

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"nacre/internal/event"
	"nacre/internal/source"
)

// TestReplacedDuringBuild: a file that is replaced again and again comes whole, one version or the other, or the
// build says that it changed. Both versions have the same size, and often the same time.
func TestReplacedDuringBuild(t *testing.T) {
	b := newBench(t, map[string]string{"f": strings.Repeat("a", 300_000), "g": "x"})
	path := filepath.Join(b.dir, "f")
	now := time.Now()
	end := make(chan struct{})
	var wg sync.WaitGroup
	var swaps atomic.Int64
	wg.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-end:
				return
			default:
			}
			next := path + ".next"
			if err := os.WriteFile(next, []byte(strings.Repeat(string(rune('a'+i%26)), 300_000)), 0o644); err != nil {
				t.Error(err)
				return
			}
			os.Chtimes(next, now, now)
			if err := os.Rename(next, path); err != nil {
				t.Error(err)
				return
			}
			swaps.Add(1)
		}
	})
	whole, changed := 0, 0
	// Until both were seen, and some more: how often they come depends on the machine.
	for i := 0; i < 40 || i < 400 && (whole == 0 || changed == 0); i++ {
		for before := swaps.Load(); swaps.Load() == before; {
			time.Sleep(100 * time.Microsecond)
		}
		out, err := b.try("FROM scratch\nCOPY f /f\nCOPY g /g\n")
		if err != nil {
			if !errors.Is(err, source.ErrChanged) || !strings.HasPrefix(err.Error(), "Dockerfile:2: ") {
				t.Fatalf("got %v", err)
			}
			changed++
			continue
		}
		got := b.read(out, "f")
		if len(got) != 300_000 || strings.Trim(got, got[:1]) != "" {
			t.Fatalf("a mixture of %d bytes", len(got))
		}
		whole++
	}
	close(end)
	wg.Wait()
	t.Logf("%d times whole, %d times refused, replaced %d times", whole, changed, swaps.Load())
	if whole+changed < 40 || swaps.Load() < 40 {
		t.Error("nothing was replaced while it was built")
	}
}

// TestSameSizeSameTime: an edit that leaves size and mtime as they were is seen by the next build, whether it is in
// place or by another file of that name.
func TestSameSizeSameTime(t *testing.T) {
	b := newBench(t, map[string]string{"f": "version 1", "g": "x"})
	path := filepath.Join(b.dir, "f")
	old := time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)
	os.Chtimes(path, old, old)
	const df = "FROM scratch\nCOPY f /f\n"
	b.build(df)
	b.build(df).expectRan(t)
	for i, change := range []func(data string) error{
		func(data string) error { return os.WriteFile(path, []byte(data), 0o644) },
		func(data string) error {
			if err := os.WriteFile(path+"~", []byte(data), 0o644); err != nil {
				return err
			}
			os.Chtimes(path+"~", old, old)
			return os.Rename(path+"~", path)
		},
	} {
		want := "version " + string(rune('2'+i))
		if err := change(want); err != nil {
			t.Fatal(err)
		}
		os.Chtimes(path, old, old)
		out := b.build(df)
		if got := b.read(out, "f"); got != want {
			t.Errorf("change %d: got %q", i, got)
		}
	}
}

// TestHashingIsTold: where it takes long, a step tells how far it is.
func TestHashingIsTold(t *testing.T) {
	files := map[string]string{}
	for _, name := range []string{"a", "b", "c", "d"} {
		files[name] = strings.Repeat(name, 40<<20)
	}
	b := newBench(t, files)
	var now atomic.Int64
	var mu sync.Mutex
	var started, done int
	var files0, content event.Progress
	_, err := Builder{Store: b.store, Cache: b.store.Cache(),
		// A clock on which everything takes its time.
		Clock: func() time.Time { return time.Unix(0, now.Add(int64(200*time.Millisecond))) },
		Sink: func(e event.Event) {
			mu.Lock()
			defer mu.Unlock()
			switch e := e.(type) {
			case event.Started:
				if e.Step.Name == "[internal] hash build context" {
					started = e.Step.ID
				}
			case event.Done:
				if e.ID == started && started != 0 {
					done++
				}
			case event.Progress:
				if e.ID == started && e.Item == "files" {
					files0 = e
				} else if e.ID == started {
					content = e
				}
			}
		}}.Build(t.Context(), Options{Context: b.dir, Data: []byte("FROM scratch\nCOPY . /\n")})
	if err != nil {
		t.Fatal(err)
	}
	if started == 0 || done != 1 || files0.Current != 4 || files0.Total != 4 || content.Current != 160<<20 || content.Total != 160<<20 {
		t.Errorf("started %d, done %d, told %+v and %+v", started, done, files0, content)
	}
}

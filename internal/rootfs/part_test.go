package rootfs

import (
	"context"
	"errors"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// What is unpacked of a root is what the root shows, the whole of it or one directory.
func TestUnpackPart(t *testing.T) {
	s := newSource(t, false)
	ids := awkward(s)
	for n := 1; n <= len(ids); n++ {
		f := s.merged(ids[:n]...)
		want, err := snapshotFS(f)
		if err != nil {
			t.Fatal(err)
		}
		to := t.TempDir()
		if err := UnpackPart(context.Background(), f, ".", to, UnpackOptions{}); err != nil {
			t.Fatal(err)
		}
		got, err := snapshotDir(to)
		if err != nil {
			t.Fatal(err)
		}
		same(t, "the whole", got, want)
	}
	f := s.merged(
		s.add(parents(owned(mode(dir("a/b"), 0o750), 7, 8), file("a/b/f", "below"), file("a/b/gone", ""), file("a/out", "x"))...),
		s.add(parents(whiteout("a/b/gone"), file("a/b/g", "above"), hard("a/b/h", "a/b/g"), hard("a/link", "a/b/g"), symlink("a/b/l", "../out"))...),
	)
	to := t.TempDir()
	if err := UnpackPart(context.Background(), f, "a/b", to, UnpackOptions{}); err != nil {
		t.Fatal(err)
	}
	all, err := snapshotFS(f)
	if err != nil {
		t.Fatal(err)
	}
	want := snapshot{}
	for name, text := range all {
		if rest, ok := strings.CutPrefix(name, "a/b/"); ok {
			want[rest] = strings.ReplaceAll(text, `="a/b/`, `="`)
		}
	}
	got, err := snapshotDir(to)
	if err != nil {
		t.Fatal(err)
	}
	delete(got, ".")
	same(t, "a directory", got, want)
	if err := UnpackPart(context.Background(), f, "a/out", t.TempDir(), UnpackOptions{}); !errors.Is(err, unix.ENOTDIR) {
		t.Errorf("of a file: %v", err)
	}
}

package rootfs

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
)

// checkConsumed makes the layer want of m once more, consuming what it reads: it must be the same,
// and no file be left but those that were left out or have several names.
func checkConsumed(t *testing.T, s *source, m Mount, base []digest.Digest, want digest.Digest) {
	t.Helper()
	fds := count(t, "/proc/self/fd")
	got, err := s.write(Changes(context.Background(), m, s.merged(base...), ChangesOptions{Skip: skipped, Consume: true}))
	if err != nil {
		t.Fatal(err)
	}
	if got != want {
		t.Errorf("consumed, it is layer %s instead of %s", got, want)
	}
	if now := count(t, "/proc/self/fd"); now != fds {
		t.Errorf("%d descriptors open, were %d", now, fds)
	}
	var left []string
	err = filepath.WalkDir(m.Upper, func(path string, d fs.DirEntry, err error) error {
		if err != nil && strings.Contains(err.Error(), unix.ENAMETOOLONG.Error()) {
			return fs.SkipDir
		}
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		name, _ := filepath.Rel(m.Upper, path)
		_, err = unix.Lgetxattr(path, overlayPrefix(m.UserXattr)+"whiteout", nil)
		if info.Sys().(*syscall.Stat_t).Nlink == 1 && !slices.Contains(skipped, name) && err != nil {
			left = append(left, name)
		}
		return nil
	})
	if err != nil || len(left) > 0 {
		t.Errorf("left: %q, %v", left, err)
	}
}

// TestConsumeGone: a file that is removed behind the walk's back is an error, not an empty file.
func TestConsumeGone(t *testing.T) {
	s := newSource(t, false)
	m := s.prepare(Index, false)
	for _, name := range []string{"a", "b"} {
		if err := os.WriteFile(filepath.Join(m.Upper, name), []byte(name), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for f, err := range Changes(context.Background(), m, nil, ChangesOptions{Consume: true}) {
		if err != nil {
			t.Fatal(err)
		}
		os.Remove(filepath.Join(m.Upper, f.Name))
		if r, err := f.Open(); err == nil {
			r.Close()
			t.Errorf("%s was opened", f.Name)
		}
	}
}

package rootfs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
)

// TestChangesAlone: without layers there is no overlay, and its marks are only files.
func TestChangesAlone(t *testing.T) {
	s := newSource(t, false)
	m := s.prepare(Index, false)
	var want snapshot
	mounted(t, m, func(r string) error {
		at := root(r)
		err := all(at.write("f", "f"), os.Link(at.p("f"), at.p("g")), os.Mkdir(at.p("d"), 0o700), at.write("d/x", ""),
			unix.Mknod(at.p("zero"), unix.S_IFCHR, 0), unix.Lsetxattr(at.p("d"), "trusted.overlay.opaque", []byte("y"), 0))
		if err == nil {
			want, err = snapshotDir(r)
		}
		return err
	})
	c := changesCase{unlike: []string{"zero", `trusted.overlay.opaque="y"`}}
	var changed []string
	id, err := s.write(listed(Changes(context.Background(), m, nil, ChangesOptions{}), &changed))
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"d/", "d/x", "f", "g"}; !slices.Equal(changed, want) {
		t.Errorf("changed %q, want %q", changed, want)
	}
	c.compare(t, Index, s, []digest.Digest{id}, want)
}

// TestChangesEnds: a walk that is broken off leaves nothing open and yields no more.
func TestChangesEnds(t *testing.T) {
	s := newSource(t, false)
	m := s.prepare(Index, false, s.add(dir("d")))
	for i := range 3 {
		if err := os.MkdirAll(fmt.Sprintf("%s/d%d/%s", m.Upper, i, strings.Repeat("s/", 200)), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	fds := count(t, "/proc/self/fd")
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	n := 0
	var last error
	for _, err := range Changes(ctx, m, nil, ChangesOptions{}) {
		if n++; n == 200 {
			cancel()
		}
		last = err
	}
	if !errors.Is(last, context.Canceled) || n != 201 {
		t.Errorf("after cancel: %d files, %v", n, last)
	}
	n = 0
	for range Changes(context.Background(), m, nil, ChangesOptions{}) {
		if n++; n == 250 {
			break
		}
	}
	for _, err := range Changes(context.Background(), Mount{Upper: "/absent", Work: "/absent"}, nil, ChangesOptions{}) {
		last = err
	}
	if !errors.Is(last, os.ErrNotExist) {
		t.Errorf("absent upper: %v", last)
	}
	if now := count(t, "/proc/self/fd"); now != fds {
		t.Errorf("%d descriptors open, were %d", now, fds)
	}
}

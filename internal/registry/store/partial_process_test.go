package store_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"nacre/internal/image"
	"nacre/internal/registry"
	"nacre/internal/registry/layout"
	"nacre/internal/registry/registrytest"
	"nacre/internal/registry/store"

	"golang.org/x/sys/unix"
)

// TestResumeKilled kills a process in the middle of uploads, again and again: each goes on after
// what the one before had.
func TestResumeKilled(t *testing.T) {
	dir, img := writeLayout(t, large("killed", 4))
	root := t.TempDir()
	rounds := 0
	for last := int64(0); ; rounds++ {
		p := start(t, "fetch", root, dir, "slow")
		for deadline := time.Now().Add(20 * time.Second); size(t, root) < last+200_000 && p.running(); {
			if time.Now().After(deadline) {
				t.Fatal("it does not get on")
			}
			time.Sleep(time.Millisecond)
		}
		if !p.running() {
			if err := p.wait(); err != nil {
				t.Fatalf("%v: %s", err, p.stderr.String())
			}
			break
		}
		p.cmd.Process.Kill()
		p.wait()
		last = size(t, root)
	}
	if rounds < 5 {
		t.Errorf("killed %d times only", rounds)
	}
	s := openAt(t, root, store.Options{})
	registrytest.Check(t, s, "", img)
	wantSound(t, s)
	_, sent := reads(t, dir)
	var whole int64
	for _, b := range img.Blobs[:4] {
		whole += b.Size
	}
	// What was read and not written yet when a process was killed is read again, and the little
	// that was not worth keeping.
	if limit := whole + int64(rounds)*4*(64<<10); sent > limit {
		t.Errorf("%d bytes were sent of %d in %d rounds", sent, whole, rounds)
	}
	t.Logf("%d bytes sent of %d in %d rounds", sent, whole, rounds)
}

// TestTwoProcessesFetchOnce: processes that copy the same image read each layer once.
func TestTwoProcessesFetchOnce(t *testing.T) {
	dir, img := writeLayout(t, large("shared", 4))
	root := t.TempDir()
	var procs []*process
	for range 3 {
		procs = append(procs, start(t, "fetch", root, dir, "slow"))
	}
	for _, p := range procs {
		if err := p.wait(); err != nil {
			t.Errorf("%v: %s", err, p.stderr.String())
		}
	}
	if opens, _ := reads(t, dir); opens != 4 {
		t.Errorf("layers were opened %d times, want each of 4 once", opens)
	}
	registrytest.Check(t, openAt(t, root, store.Options{}), "", img)
}

// TestStalledProcess: who waits for a process that does not get on does the work beside it, and both end well.
func TestStalledProcess(t *testing.T) {
	dir, img := writeLayout(t, large("stalled", 1))
	root := t.TempDir()
	p := start(t, "fetch", root, dir, "slow")
	for deadline := time.Now().Add(20 * time.Second); size(t, root) < 100_000; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) || !p.running() {
			t.Fatal("it does not begin")
		}
	}
	p.cmd.Process.Signal(unix.SIGSTOP)
	defer p.cmd.Process.Kill()
	s := openAt(t, root, store.Options{})
	store.SetStall(s, 500*time.Millisecond)
	l, err := layout.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	ref := registrytest.Ref("fetched")
	if _, err := registry.Copy(t.Context(), s, ref, l, ref, registry.CopyOptions{}); err != nil {
		t.Fatal(err)
	}
	registrytest.Check(t, s, "", img)
	p.cmd.Process.Signal(unix.SIGCONT)
	if err := p.wait(); err != nil {
		t.Errorf("%v: %s", err, p.stderr.String())
	}
	registrytest.Check(t, s, "", img)
	if left := partials(t, s); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
	wantSound(t, s)
}

// size is how much has arrived: in partial/ and whole.
func size(t *testing.T, root string) (n int64) {
	t.Helper()
	for _, dir := range []string{"partial", "blobs/sha256"} {
		entries, _ := os.ReadDir(filepath.Join(root, dir))
		for _, e := range entries {
			if st, err := e.Info(); err == nil {
				n += st.Size()
			}
		}
	}
	return n
}

func (p *process) running() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

func writeLayout(t *testing.T, img registrytest.Image) (string, registrytest.Image) {
	t.Helper()
	dir := t.TempDir()
	l, err := layout.Create(dir)
	if err != nil {
		t.Fatal(err)
	}
	registrytest.Put(t, l, registrytest.Ref("fetched"), img)
	return dir, img
}

// fetch is a worker that copies the image of a layout, noting in the layout's folder what it reads.
func fetch() error {
	ctx := context.Background()
	l, err := layout.Open(os.Args[2])
	if err != nil {
		return err
	}
	s, err := store.Open(ctx, os.Args[1], store.Options{})
	if err != nil {
		return err
	}
	log, err := os.OpenFile(filepath.Join(os.Args[2], "reads"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	ref := registrytest.Ref("fetched")
	_, err = registry.Copy(ctx, s, ref, slowReader{l, log}, ref, registry.CopyOptions{})
	return errors.Join(err, s.Close())
}

// slowReader reads layers like a network does, and notes how much of them.
type slowReader struct {
	registry.Reader
	log *os.File
}

func (r slowReader) Open(ctx context.Context, repo string, d registry.Descriptor) (io.ReadCloser, error) {
	if !image.IsLayer(d.MediaType) {
		return r.Reader.Open(ctx, repo, d)
	}
	return r.OpenAt(ctx, repo, d, 0)
}

func (r slowReader) OpenAt(ctx context.Context, repo string, d registry.Descriptor, offset int64) (io.ReadCloser, error) {
	rc, err := r.Reader.Open(ctx, repo, d)
	if err != nil {
		return nil, err
	}
	if _, err := io.CopyN(io.Discard, rc, offset); err != nil {
		return nil, err
	}
	fmt.Fprintln(r.log, "open", offset)
	return slowStream{rc, r.log}, nil
}

type slowStream struct {
	io.ReadCloser
	log *os.File
}

func (s slowStream) Read(p []byte) (int, error) {
	time.Sleep(5 * time.Millisecond)
	n, err := s.ReadCloser.Read(p[:min(len(p), 32<<10)])
	fmt.Fprintln(s.log, "read", n)
	return n, err
}

// reads tells how often fetch workers opened a layer, and how many bytes they read.
func reads(t *testing.T, dir string) (opens int, bytes int64) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, "reads"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		var what string
		var n int64
		if _, err := fmt.Sscan(line, &what, &n); err != nil {
			t.Fatal(err)
		}
		if what == "open" {
			opens++
		} else {
			bytes += n
		}
	}
	return opens, bytes
}

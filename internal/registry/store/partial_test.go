package store_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
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

// randomText is n bytes that do not compress, told apart by seed.
func randomText(seed string, n int) string {
	data := make([]byte, n)
	rand.NewChaCha8(sha256.Sum256([]byte(seed))).Read(data)
	return string(data)
}

// large is an image whose layers are worth being resumed.
func large(name string, layers int) registrytest.Image {
	var tars [][]byte
	for i := range layers {
		tars = append(tars, registrytest.Tar("file", randomText(fmt.Sprint(name, i), 1<<20)))
	}
	return registrytest.NewImage(image.DefaultPlatform(), tars, gzipLayer)
}

// begin uploads the first n bytes of b, and resumes where it can.
func begin(t *testing.T, s *store.Store, b registrytest.Blob, n int) (registry.Upload, int64) {
	t.Helper()
	u, err := s.Create(t.Context(), "", b.Descriptor)
	if err != nil {
		t.Fatal(err)
	}
	off := u.(registry.Resumer).Offset()
	if int64(n) > off {
		if _, err := u.Write(b.Data[off:n]); err != nil {
			t.Fatal(err)
		}
	}
	return u, off
}

func partials(t *testing.T, s *store.Store) []string {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(s.Root(), "partial"))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// TestResume: what arrived before an upload was given up, or the store closed, is not sent again.
func TestResume(t *testing.T) {
	img := large("resume", 1)
	layer := img.Blobs[0]
	other := registrytest.NewBlob("application/vnd.example.model", []byte(randomText("model", 1<<20)))
	for name, b := range map[string]registrytest.Blob{"layer": layer, "other": other} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			s := openAt(t, root, store.Options{})
			u, _ := begin(t, s, b, 300_000)
			if err := u.Cancel(); err != nil {
				t.Fatal(err)
			}
			u, off := begin(t, s, b, 600_000)
			if off != 300_000 {
				t.Errorf("resumed at %d, want 300000", off)
			}
			u.Cancel()
			s.Close()
			s = openAt(t, root, store.Options{})
			u, off = begin(t, s, b, len(b.Data))
			if off != 600_000 {
				t.Errorf("resumed at %d, want 600000", off)
			}
			if err := u.Commit(); err != nil {
				t.Fatal(err)
			}
			if got, err := registrytest.Get(t.Context(), s, "", b.Descriptor); err != nil || !bytes.Equal(got, b.Data) {
				t.Errorf("%d bytes, %v", len(got), err)
			}
			if left := partials(t, s); len(left) > 0 {
				t.Errorf("left: %q", left)
			}
			if u, err := s.Create(t.Context(), "", b.Descriptor); err != nil {
				t.Error(err)
			} else if off := u.(registry.Resumer).Offset(); off != b.Size || u.Commit() != nil {
				t.Errorf("what is there is sent again from %d", off)
			}
			wantSound(t, s)
		})
	}
}

// TestResumeUnasked: who does not ask for the offset begins at 0, and is right.
func TestResumeUnasked(t *testing.T) {
	s, b := open(t), large("unasked", 1).Blobs[0]
	u, _ := begin(t, s, b, 300_000)
	u.Cancel()
	if err := registrytest.Push(t.Context(), s, "", b); err != nil {
		t.Fatal(err)
	}
	if got, err := registrytest.Get(t.Context(), s, "", b.Descriptor); err != nil || !bytes.Equal(got, b.Data) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	if left := partials(t, s); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
}

// TestResumeDamaged: what is left of an upload is believed only by its digest.
func TestResumeDamaged(t *testing.T) {
	b := large("damaged", 1).Blobs[0]
	for name, damage := range map[string]func([]byte) []byte{
		"flipped": func(p []byte) []byte { p[len(p)/2] ^= 1; return p },
		"zeroed":  func(p []byte) []byte { clear(p[len(p)/2:]); return p },
		"other":   func(p []byte) []byte { return []byte(randomText("other", len(p))) },
		"whole":   func([]byte) []byte { return []byte(randomText("whole", len(b.Data))) },
		"longer":  func([]byte) []byte { return []byte(randomText("whole", len(b.Data)+1)) },
		"tiny":    func([]byte) []byte { return []byte{0} },
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t)
			u, _ := begin(t, s, b, 300_000)
			u.Cancel()
			path := filepath.Join(s.Root(), "partial", b.Digest.Encoded())
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, damage(data), 0o600); err != nil {
				t.Fatal(err)
			}
			u, off := begin(t, s, b, len(b.Data))
			if err := u.Commit(); (off > 0) != errors.Is(err, registry.ErrDigest) {
				t.Errorf("resumed at %d: %v", off, err)
			}
			u, again := begin(t, s, b, len(b.Data))
			if err := u.Commit(); again != 0 && off > 0 || err != nil {
				t.Errorf("resumed at %d after damage, %v", again, err)
			}
			wantSound(t, s)
		})
	}
}

// TestPartialsAreBounded: what nobody came back for goes, at once by prune.
func TestPartialsAreBounded(t *testing.T) {
	root := t.TempDir()
	s := openAt(t, root, store.Options{})
	img := large("bounded", 3)
	for _, b := range img.Blobs[:2] {
		u, _ := begin(t, s, b, 300_000)
		u.Cancel()
	}
	small, _ := begin(t, s, img.Blobs[2], 1000)
	small.Cancel()
	if left := partials(t, s); len(left) != 2 {
		t.Errorf("kept %q, want the two that are worth it", left)
	}
	if u, err := s.Usage(t.Context(), false); err != nil || u.Temp.Reclaimable < 600_000 {
		t.Errorf("usage %+v, %v", u.Temp, err)
	}
	old := time.Now().Add(-8 * 24 * time.Hour)
	if err := os.Chtimes(filepath.Join(root, "partial", img.Blobs[0].Digest.Encoded()), old, old); err != nil {
		t.Fatal(err)
	}
	s.Close()
	s = openAt(t, root, store.Options{})
	going, _ := begin(t, s, img.Blobs[2], 500_000)
	if left := partials(t, s); len(left) != 2 || strings.Contains(fmt.Sprint(left), img.Blobs[0].Digest.Encoded()) {
		t.Errorf("kept %q, want what is not old, and what goes on", left)
	}
	if _, err := s.Prune(t.Context(), store.PruneOptions{}); err != nil {
		t.Fatal(err)
	}
	if left := partials(t, s); len(left) != 1 || left[0] != img.Blobs[2].Digest.Encoded() {
		t.Errorf("after prune %q, want what goes on", left)
	}
	if _, err := going.Write(img.Blobs[2].Data[500_000:]); err != nil {
		t.Fatal(err)
	}
	if err := going.Commit(); err != nil {
		t.Errorf("an upload that went on during prune: %v", err)
	}
}

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

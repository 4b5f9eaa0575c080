package store_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"nacre/internal/image"
	"nacre/internal/registry"
	"nacre/internal/registry/registrytest"
	"nacre/internal/registry/store"
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

package store_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"nacre/internal/event"
	"nacre/internal/image"
	"nacre/internal/layer"
	"nacre/internal/registry"
	"nacre/internal/registry/registrytest"
	"nacre/internal/registry/store"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
)

// TestDieAtEveryPoint has a worker do a bit of everything and kill itself, the
// n-th time it is at a point where something is half done, for every n.
func TestDieAtEveryPoint(t *testing.T) {
	dir := t.TempDir()
	mount(t, "tmpfs", dir, "tmpfs", 0, "size=64m") // there is much to sync, and no power to lose
	for n, ended := 1, false; !ended; n++ {
		root := filepath.Join(dir, strconv.Itoa(n))
		p := start(t, "story", root, strconv.Itoa(n))
		err := p.wait()
		ended = err == nil
		if !ended && (p.stderr.Len() > 0 || !strings.Contains(err.Error(), "killed")) {
			t.Fatalf("point %d: %v: %s", n, err, p.stderr.String())
		}
		at := "the end"
		said := map[string]string{} // the last that was said of each name
		for _, line := range p.lines {
			what, rest, _ := strings.Cut(line, " ")
			if what == "at" {
				at = rest
			} else {
				said[what] = rest
			}
		}
		s := openAt(t, root, store.Options{})
		for _, problem := range wantSound(t, s).Problems {
			t.Errorf("killed at point %d, %s: %s", n, at, problem)
		}
		for name, digest := range said {
			img, err := s.Lookup(t.Context(), name)
			if digest == "removing" {
				continue
			}
			if err != nil || img.Target.Digest.String() != digest {
				t.Errorf("killed at point %d, %s: %s is %s, %v; want %s", n, at, name, img.Target.Digest, err, digest)
			} else if err := usable(t.Context(), s, img); err != nil {
				t.Errorf("killed at point %d, %s: %s: %v", n, at, name, err)
			}
		}
		// The same again succeeds, and leaves nothing of the first attempt.
		s.Close()
		if p := start(t, "story", root, "0"); p.wait() != nil {
			t.Fatalf("killed at point %d, %s; then again: %s", n, at, p.stderr.String())
		}
		s = openAt(t, root, store.Options{})
		if _, err := s.Prune(t.Context(), store.PruneOptions{}); err != nil {
			t.Fatal(err)
		}
		if r := wantSound(t, s); r.Leftovers > 0 {
			t.Errorf("killed at point %d, %s: %d leftovers", n, at, r.Leftovers)
		}
		s.Close()
		if ended {
			t.Logf("%d points", n-1)
			if n < 50 {
				t.Errorf("only %d points: the story is not what it was", n)
			}
		}
		os.RemoveAll(root)
	}
}

// story builds, pulls, retags, unpacks, removes, checks and prunes, saying what is done.
func story() error {
	ctx := context.Background()
	die, _ := strconv.Atoi(os.Args[2])
	s, err := store.Open(ctx, os.Args[1], store.Options{})
	if err != nil {
		return err
	}
	n := 0
	store.AtPoints(s, func(what string) {
		if n++; n == die {
			fmt.Println("at", what)
			unix.Kill(os.Getpid(), unix.SIGKILL)
			select {}
		}
	})
	l, err := s.Lease(ctx)
	if err != nil {
		return err
	}
	var layers []layer.Info
	for _, name := range []string{"a", "b"} {
		info, err := s.MakeLayer(ctx, l, func(dir string) (layer.Info, error) {
			return layer.Ingest(ctx, dir, bytes.NewReader(registrytest.Tar(name, "story")), layer.IngestOptions{})
		})
		if err != nil {
			return err
		}
		layers = append(layers, info)
		if err := s.Cache().Put(ctx, record("slot", name), output(info)); err != nil {
			return err
		}
	}
	for i := range 2 { // the second takes the first one's name
		a, err := image.Assemble(config(i, layers[i]), []image.Layer{{DiffID: layers[i].DiffID, Size: layers[i].Size}})
		if err != nil {
			return err
		}
		img, err := s.PutImage(ctx, l, store.NewImage{Config: a.Config, Manifest: a.Manifest}, refs("built", fmt.Sprint("built:", i)))
		if err != nil {
			return err
		}
		fmt.Println(fmt.Sprint("built:", i), img.Target.Digest)
	}
	if err := remake(ctx, s, l, layers[1].DiffID); err != nil {
		return err
	}
	if err := l.Release(); err != nil {
		return err
	}
	img := registrytest.Hello("pulled", gzipLayer)
	for _, b := range img.Blobs {
		if err := registrytest.Push(ctx, s, "", b); err != nil {
			return err
		}
	}
	for _, name := range []string{"pulled", "again"} {
		if err := s.Tag(ctx, registrytest.Ref(name), img.Desc()); err != nil {
			return err
		}
		fmt.Println(name, img.Desc().Digest)
	}
	if _, err := s.Tree(ctx, layers[0].DiffID); err != nil {
		return err
	}
	fmt.Println("built:0 removing")
	if _, _, err := s.Remove(ctx, "built:0", store.RemoveOptions{}); err != nil {
		return err
	}
	fmt.Println("again removing")
	if err := s.Untag(ctx, registrytest.Ref("again")); err != nil {
		return err
	}
	fmt.Println("pulled removing")
	if _, _, err := s.Remove(ctx, "pulled", store.RemoveOptions{}); err != nil {
		return err
	}
	if err := registrytest.Push(ctx, s, "", img.Blobs[0]); err != nil { // and left
		return err
	}
	if _, err := s.Check(ctx, true, event.Discard); err != nil {
		return err
	}
	if _, err := dropCache(ctx, s, time.Time{}); err != nil {
		return err
	}
	if _, err := s.Lookup(ctx, "again"); err == nil {
		return fmt.Errorf("again: %w", registry.ErrInvalid)
	}
	return s.Close()
}

// remake compresses the layer of built:1 and remakes its manifest.
func remake(ctx context.Context, s *store.Store, l *store.Lease, diffID digest.Digest) error {
	f, _, err := s.MakeForm(ctx, l, diffID, "test", gzipLayer, gzipForm(s, diffID))
	if err != nil {
		return err
	}
	src, err := s.Resolve(ctx, registrytest.Ref("built:1"))
	if err != nil {
		return err
	}
	config, manifest, err := remadeOf(ctx, s, src, f)
	if err != nil {
		return err
	}
	_, err = s.KeepRemade(ctx, src.Digest, "test", config, manifest)
	return err
}

package store_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"nacre/internal/event"
	"nacre/internal/image"
	"nacre/internal/layer"
	"nacre/internal/registry"
	"nacre/internal/registry/registrytest"
	"nacre/internal/registry/store"
)

// Tests start this binary again as workers: other processes that use the same store.

func TestMain(m *testing.M) {
	switch os.Getenv("STORE_TEST_WORKER") {
	case "":
		os.Exit(m.Run())
	case "busy":
		exit(busy())
	case "push":
		exit(pushing())
	case "story":
		exit(story())
	case "fetch":
		exit(fetch())
	case "open":
		s, err := store.Open(context.Background(), os.Args[1], store.Options{})
		if err == nil {
			err = s.Close()
		}
		exit(err)
	}
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// worker does whatever commands do, at random. After each image that it was told is
// kept it prints the name and digest.
type worker struct {
	ctx  context.Context
	s    *store.Store
	rand *rand.Rand
	name string
	kept []store.Image
}

// busy runs a worker: arguments are the root, a seed and for how many milliseconds.
func busy() error {
	seed, _ := strconv.ParseUint(os.Args[2], 10, 64)
	ms, _ := strconv.Atoi(os.Args[3])
	w := &worker{ctx: context.Background(), rand: rand.New(rand.NewPCG(seed, 1)), name: "w" + os.Args[2]}
	end := time.Now().Add(time.Duration(ms) * time.Millisecond)
	for time.Now().Before(end) { // as many commands as there is time for
		var err error
		if w.s, err = store.Open(w.ctx, os.Args[1], store.Options{}); err != nil {
			return err
		}
		for range 1 + w.rand.IntN(8) {
			if err := w.step(); err != nil {
				return fmt.Errorf("%s: %w", w.name, err)
			}
		}
		if err := w.s.Close(); err != nil {
			return fmt.Errorf("%s: close: %w", w.name, err)
		}
	}
	return nil
}

func (w *worker) step() error {
	op := []struct {
		name string
		run  func() error
	}{
		{"build", w.build}, {"build", w.build}, {"build", w.build}, {"pull", w.pull}, {"pull", w.pull},
		{"use", w.use}, {"use", w.use}, {"remove", w.remove}, {"remove", w.remove}, {"tag", w.tag}, {"cache", w.cache}, {"prune", w.prune},
	}[w.rand.IntN(12)]
	if err := op.run(); err != nil {
		return fmt.Errorf("%s: %w", op.name, err)
	}
	return nil
}

func (w *worker) layer(l *store.Lease) (layer.Info, error) {
	return w.s.MakeLayer(w.ctx, l, func(dir string) (layer.Info, error) {
		tar := registrytest.Tar("file", fmt.Sprint("layer ", w.rand.IntN(12)), "big", string(make([]byte, 20_000)))
		return layer.Ingest(w.ctx, dir, bytes.NewReader(tar), layer.IngestOptions{})
	})
}

// build makes an image of a few layers under a name of its own, which nobody
// else removes, and under a name all workers use.
func (w *worker) build() error {
	l, err := w.s.Lease(w.ctx)
	if err != nil {
		return err
	}
	defer l.Release()
	var layers []image.Layer
	var infos []layer.Info
	for range 1 + w.rand.IntN(3) {
		info, err := w.layer(l)
		if err != nil {
			return err
		}
		infos = append(infos, info)
		layers = append(layers, image.Layer{DiffID: info.DiffID, Size: info.Size})
		if err := w.s.Cache().Put(w.ctx, record("slot", info.DiffID.String()), output(info)); err != nil {
			return err
		}
	}
	a, err := image.Assemble(config(w.rand.IntN(1000), infos...), layers)
	if err != nil {
		return err
	}
	own := fmt.Sprintf("%s:%d", w.name, w.rand.Uint32())
	img, err := w.s.PutImage(w.ctx, l, store.NewImage{Config: a.Config, Manifest: a.Manifest},
		refs(own, fmt.Sprintf("common:%d", w.rand.IntN(6))))
	if err != nil {
		return err
	}
	w.kept = append(w.kept, img)
	fmt.Println(own, img.Target.Digest)
	return nil
}

func (w *worker) pull() error {
	n := w.rand.IntN(6)
	img := registrytest.Hello(fmt.Sprint("pulled ", n), gzipLayer)
	ref := registrytest.Ref(fmt.Sprintf("pulled:%d", n))
	for _, b := range img.Blobs {
		if ok, err := w.s.Has(w.ctx, ref.Repo, b.Descriptor); err != nil {
			return err
		} else if ok {
			continue
		}
		if err := registrytest.Push(w.ctx, w.s, ref.Repo, b); err != nil {
			return err
		}
	}
	return w.s.Tag(w.ctx, ref, img.Desc())
}

// use holds an image, as run does, and then everything of it must be readable.
func (w *worker) use() error {
	name := fmt.Sprintf("common:%d", w.rand.IntN(6))
	if w.rand.IntN(2) == 0 {
		name = fmt.Sprintf("pulled:%d", w.rand.IntN(6))
	}
	img, err := w.s.Lookup(w.ctx, name)
	if errors.Is(err, registry.ErrAbsent) {
		return nil
	}
	if err != nil {
		return err
	}
	l, err := w.s.LeaseFor(w.ctx, "container "+w.name)
	if err != nil {
		return err
	}
	defer l.Release()
	if err := l.Image(w.ctx, img); errors.Is(err, registry.ErrAbsent) {
		return nil
	} else if err != nil {
		return err
	}
	return usable(w.ctx, w.s, img)
}

func usable(ctx context.Context, s *store.Store, img store.Image) error {
	m, _, err := s.Manifest(ctx, img, nil)
	if err != nil {
		return err
	}
	cfg, _, err := s.Config(ctx, m.Config)
	if err != nil {
		return err
	}
	for i, d := range cfg.RootFS.DiffIDs {
		if _, err := s.Layer(ctx, d); err != nil {
			return err
		}
		rc, err := s.Open(ctx, "", m.Layers[i])
		if err != nil {
			return err
		}
		_, err = io.Copy(io.Discard, rc)
		rc.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

func (w *worker) remove() error {
	name := fmt.Sprintf("common:%d", w.rand.IntN(6))
	if w.rand.IntN(2) == 0 {
		name = fmt.Sprintf("pulled:%d", w.rand.IntN(6))
	}
	_, _, err := w.s.Remove(w.ctx, name, store.RemoveOptions{Force: w.rand.IntN(2) == 0})
	if errors.Is(err, registry.ErrAbsent) || errors.Is(err, store.ErrInUse) {
		return nil
	}
	return err
}

func (w *worker) tag() error {
	img, err := w.s.Lookup(w.ctx, fmt.Sprintf("pulled:%d", w.rand.IntN(6)))
	if err == nil {
		err = w.s.Tag(w.ctx, registrytest.Ref(fmt.Sprintf("common:%d", w.rand.IntN(6))), img.Target)
	}
	if errors.Is(err, registry.ErrAbsent) { // it went between the two
		return nil
	}
	return err
}

func (w *worker) cache() error {
	l, err := w.s.Lease(w.ctx)
	if err != nil {
		return err
	}
	defer l.Release()
	info, err := w.layer(l)
	if err != nil {
		return err
	}
	rec := record("slot", info.DiffID.String())
	if err := w.s.Cache().Put(w.ctx, rec, output(info)); err != nil {
		return err
	}
	out, ok, err := w.s.Cache().Get(w.ctx, rec.Key)
	if err != nil {
		return err
	}
	if ok && out.DiffID != info.DiffID {
		return fmt.Errorf("got %s, put %s", out.DiffID, info.DiffID)
	}
	return nil
}

func (w *worker) prune() error {
	if w.rand.IntN(2) == 0 {
		_, err := w.s.Check(w.ctx, false, event.Discard)
		return err
	}
	if _, err := w.s.Prune(w.ctx, store.PruneOptions{Images: store.PruneDangling}); err != nil {
		return err
	}
	_, err := dropCache(w.ctx, w.s, time.Time{})
	return err
}

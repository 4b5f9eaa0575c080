package store_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"nacre/internal/layer"
	"nacre/internal/registry/registrytest"
	"nacre/internal/registry/store"

	"github.com/opencontainers/go-digest"
)

// TestUsageByFiles compares sizes shared and unique with what another program counts: the manifests are read as JSON from
// the folders of the store, and du adds up the files they lead to.
func TestUsageByFiles(t *testing.T) {
	ctx, root := t.Context(), t.TempDir()
	s, err := store.Open(ctx, root, store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	var layers []layer.Info
	for i := range 6 {
		info, err := makeLayer(t, s, nil, fmt.Sprint("f", i), strings.Repeat(fmt.Sprint("layer ", i, " "), 1000*(i+1)))
		if err != nil {
			t.Fatal(err)
		}
		layers = append(layers, info)
	}
	for i, use := range [][]int{{0}, {0, 1}, {0, 1, 2}, {3}, {4, 5}, {}} {
		var of []layer.Info
		for _, n := range use {
			of = append(of, layers[n])
		}
		put(t, s, i+1, []string{fmt.Sprint("image", i)}, of...)
	}
	registrytest.Put(t, s, registrytest.Ref("pulled"), registrytest.Hello("pulled", gzipLayer)) // with its compressed form
	u, err := s.Usage(ctx, true)
	if err != nil {
		t.Fatal(err)
	}
	users := map[string]int{}
	paths := map[digest.Digest][]string{}
	for _, i := range u.ImageList {
		paths[i.Image.Target.Digest] = filesOf(t, root, i.Image.Target.Digest)
		for _, p := range paths[i.Image.Target.Digest] {
			users[p]++
		}
	}
	if len(paths) != 7 {
		t.Fatalf("%d images, want 7", len(paths))
	}
	var sum int64
	for p := range users {
		sum += du(t, p)
	}
	if sum != u.Images.Size {
		t.Errorf("all images take %d, du says %d", u.Images.Size, sum)
	}
	for _, i := range u.ImageList {
		var shared, unique int64
		for _, p := range paths[i.Image.Target.Digest] {
			if users[p] > 1 {
				shared += du(t, p)
			} else {
				unique += du(t, p)
			}
		}
		if i.Shared != shared || i.Unique != unique {
			t.Errorf("%s: shared %d and unique %d, du says %d and %d", i.Image.Names, i.Shared, i.Unique, shared, unique)
		}
	}
}

// filesOf lists the blobs and folders of layers that the manifest d leads to.
func filesOf(t *testing.T, root string, d digest.Digest) []string {
	var m struct {
		Config struct{ Digest digest.Digest }
		Layers []struct{ Digest digest.Digest }
	}
	var cfg struct {
		RootFS struct {
			DiffIDs []digest.Digest `json:"diff_ids"`
		}
	}
	blob := func(d digest.Digest) string { return filepath.Join(root, "blobs", d.Algorithm().String(), d.Encoded()) }
	for _, f := range []struct {
		d  func() digest.Digest
		to any
	}{{func() digest.Digest { return d }, &m}, {func() digest.Digest { return m.Config.Digest }, &cfg}} {
		data, err := os.ReadFile(blob(f.d()))
		if err == nil {
			err = json.Unmarshal(data, f.to)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	files := []string{blob(d), blob(m.Config.Digest)}
	for _, l := range m.Layers {
		if _, err := os.Stat(blob(l.Digest)); err == nil {
			files = append(files, blob(l.Digest))
		}
	}
	for _, l := range cfg.RootFS.DiffIDs {
		files = append(files, filepath.Join(root, "layers", l.Encoded()))
	}
	slices.Sort(files)
	return slices.Compact(files)
}

func du(t *testing.T, path string) int64 {
	out, err := exec.Command("du", "-s", "--block-size=1", path).Output()
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.ParseInt(strings.Fields(string(out))[0], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

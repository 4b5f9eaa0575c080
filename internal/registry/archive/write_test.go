package archive_test

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"nacre/internal/image"
	"nacre/internal/registry"
	"nacre/internal/registry/archive"
	"nacre/internal/registry/mem"
	"nacre/internal/registry/registrytest"
)

// save makes an archive of images, copied in the order given; names and images alternate.
func save(t testing.TB, w io.Writer, kind archive.Kind, namesAndImages ...any) {
	t.Helper()
	a := archive.Create(w, kind)
	for i := 0; i < len(namesAndImages); i += 2 {
		ref := registrytest.Ref(namesAndImages[i].(string))
		src := mem.New()
		registrytest.Put(t, src, ref, namesAndImages[i+1].(registrytest.Image))
		if _, err := registry.Copy(t.Context(), a, ref, src, ref, registry.CopyOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if err := a.Close(); err != nil {
		t.Errorf("closed again: %v", err)
	}
}

// list reads a tar with the standard library: names, and small files' content.
func list(t testing.TB, data []byte) (names []string, content map[string][]byte) {
	t.Helper()
	content = map[string][]byte{}
	for r := tar.NewReader(bytes.NewReader(data)); ; {
		h, err := r.Next()
		if err == io.EOF {
			return names, content
		}
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, h.Name)
		content[h.Name] = b
	}
}

func TestWrite(t *testing.T) {
	a, b := registrytest.Hello("a"), registrytest.Hello("b", image.TypeLayerGzip)
	var out bytes.Buffer
	save(t, &out, archive.Docker, "a:1", a, "b:1", b, "localhost/a:x", a)
	names, content := list(t, out.Bytes())

	var want []string
	for _, x := range append(slices.Clone(a.Blobs), b.Blobs...) {
		name := "blobs/sha256/" + x.Digest.Encoded()
		want = append(want, name)
		if !bytes.Equal(content[name], x.Data) {
			t.Errorf("%s has %d bytes, want %d", name, len(content[name]), x.Size)
		}
	}
	want = append(want, "blobs/", "blobs/sha256/", "index.json", "manifest.json", "oci-layout", "repositories")
	slices.Sort(want)
	want = slices.Compact(want)
	sorted := slices.Sorted(slices.Values(names))
	if !slices.Equal(sorted, want) { // nothing is missing, nothing is there twice
		t.Errorf("files %q, want %q", sorted, want)
	}
	if got := string(content["oci-layout"]); got != `{"imageLayoutVersion":"1.0.0"}` {
		t.Errorf("oci-layout: %s", got)
	}
	path := func(x registrytest.Blob) string { return "blobs/sha256/" + x.Digest.Encoded() }
	wantItems := fmt.Sprintf(`[{"Config":%q,"RepoTags":["a:1","localhost/a:x"],"Layers":[%q,%q]},{"Config":%q,"RepoTags":["b:1"],"Layers":[%q,%q]}]`,
		path(a.Blobs[2]), path(a.Blobs[0]), path(a.Blobs[1]), path(b.Blobs[2]), path(b.Blobs[0]), path(b.Blobs[1]))
	if got := string(content["manifest.json"]); got != wantItems {
		t.Errorf("manifest.json\n got %s\nwant %s", got, wantItems)
	}

	wantRepos := fmt.Sprintf(`{"a":{"1":%q},"b":{"1":%q},"localhost/a":{"x":%q}}`,
		a.Blobs[1].Digest.Encoded(), b.Blobs[1].Digest.Encoded(), a.Blobs[1].Digest.Encoded())
	if got := string(content["repositories"]); got != wantRepos {
		t.Errorf("repositories\n got %s\nwant %s", got, wantRepos)
	}

	var again bytes.Buffer
	save(t, &again, archive.Docker, "a:1", a, "b:1", b, "localhost/a:x", a)
	if !bytes.Equal(out.Bytes(), again.Bytes()) {
		t.Error("the same images gave other bytes the second time")
	}
	var oci bytes.Buffer
	save(t, &oci, archive.OCI, "a:1", a)
	if names, _ := list(t, oci.Bytes()); slices.Contains(names, "manifest.json") {
		t.Error("an OCI archive has docker's manifest.json")
	}
}

// TestWriteToFile: where the kernel copies from file to file, the bytes are the same.
func TestWriteToFile(t *testing.T) {
	img := registrytest.NewImage(image.DefaultPlatform(), [][]byte{registrytest.Tar("big", strings.Repeat("0123456789", 3<<20))})
	var want bytes.Buffer
	save(t, &want, archive.Docker, "big", img)
	dir := t.TempDir()
	from, to := filepath.Join(dir, "from"), filepath.Join(dir, "to")
	if err := os.WriteFile(from, img.Blobs[0].Data, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(to)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	a := archive.Create(f, archive.Docker)
	src := fileSource{mem.New(), img.Blobs[0].Descriptor, from}
	registrytest.Put(t, src, registrytest.Ref("big"), img)
	if _, err := registry.Copy(t.Context(), a, registry.Ref{}, src, registrytest.Ref("big"), registry.CopyOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(to)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want.Bytes()) {
		t.Error("other bytes than through memory")
	}

	// The file is verified all the same.
	damaged := slices.Clone(img.Blobs[0].Data)
	damaged[len(damaged)/2] ^= 1
	if err := os.WriteFile(from, damaged, 0o600); err != nil {
		t.Fatal(err)
	}
	a = archive.Create(f, archive.Docker)
	if _, err := registry.Copy(t.Context(), a, registry.Ref{}, src, registrytest.Ref("big"), registry.CopyOptions{}); !errors.Is(err, registry.ErrDigest) {
		t.Errorf("copied a damaged layer: %v", err)
	}
	if err := a.Close(); err == nil {
		t.Error("a spoiled archive was closed as if it were whole")
	}
}

// fileSource serves one blob from a file, as the store does.
type fileSource struct {
	*mem.Registry
	d    registry.Descriptor
	path string
}

func (s fileSource) Open(ctx context.Context, repo string, d registry.Descriptor) (io.ReadCloser, error) {
	if d.Digest != s.d.Digest {
		return s.Registry.Open(ctx, repo, d)
	}
	f, err := os.Open(s.path)
	return registry.Verify(f, d), err
}

func TestWriteIndex(t *testing.T) {
	other := image.Platform{OS: "linux", Architecture: "s390x"}
	images := []registrytest.Image{registrytest.NewImage(other, [][]byte{registrytest.Tar("s", "390x")}), registrytest.Hello("here")}
	x := registrytest.NewIndex([]image.Platform{other, image.DefaultPlatform()}, images)
	artifact := registrytest.NewArtifact([]byte("no image"))
	var out bytes.Buffer
	save(t, &out, archive.Docker, "multi", x, "artifact", artifact)
	_, content := list(t, out.Bytes())
	var items []struct{ Config string }
	if err := json.Unmarshal(content["manifest.json"], &items); err != nil {
		t.Fatal(err)
	}
	if len(items) != 1 || items[0].Config != "blobs/sha256/"+images[1].Blobs[2].Digest.Encoded() {
		t.Errorf("manifest.json has %+v, want this machine's image only", items)
	}
	a := open(t, out.Bytes())
	registrytest.Check(t, a, "", x)
	registrytest.Check(t, a, "", artifact)
	for _, img := range images {
		d, err := a.Resolve(t.Context(), registry.Ref{Digest: img.Desc().Digest})
		if err != nil || d.MediaType != image.TypeManifest || d.Size != img.Desc().Size {
			t.Errorf("child %s: %+v, %v", img.Desc().Digest, d, err)
		}
	}
}

func TestWriteRefuses(t *testing.T) {
	img := registrytest.Hello("x")
	ctx := t.Context()
	t.Run("tag without parts", func(t *testing.T) {
		w := archive.Create(io.Discard, archive.Docker)
		if err := w.Tag(ctx, registrytest.Ref("x"), img.Desc()); !errors.Is(err, registry.ErrAbsent) {
			t.Errorf("without manifest: %v", err)
		}
		if err := registrytest.Push(ctx, w, "", img.Blobs[3]); err != nil {
			t.Fatal(err)
		}
		if err := w.Tag(ctx, registrytest.Ref("x"), img.Desc()); !errors.Is(err, registry.ErrAbsent) {
			t.Errorf("without layers: %v", err)
		}
		if err := w.Tag(ctx, registrytest.Ref("x"), img.Blobs[0].Descriptor); !errors.Is(err, registry.ErrInvalid) {
			t.Errorf("a layer: %v", err)
		}
	})
	t.Run("size unknown", func(t *testing.T) {
		d := img.Blobs[0].Descriptor
		d.Size = 0
		if _, err := archive.Create(io.Discard, archive.OCI).Create(ctx, "", d); !errors.Is(err, registry.ErrInvalid) {
			t.Errorf("error %v", err)
		}
	})
	for name, change := range map[string]func(*registrytest.Blob){
		"wrong digest": func(b *registrytest.Blob) { b.Digest = img.Blobs[1].Digest },
		"too short":    func(b *registrytest.Blob) { b.Size++ },
		"too long":     func(b *registrytest.Blob) { b.Size-- },
	} {
		t.Run(name, func(t *testing.T) {
			w := archive.Create(io.Discard, archive.OCI)
			b := img.Blobs[0]
			change(&b)
			if err := pushInTwo(ctx, w, b); !errors.Is(err, registry.ErrDigest) && !errors.Is(err, registry.ErrSize) {
				t.Errorf("upload: %v", err)
			}
			if err := w.Close(); err == nil {
				t.Error("a spoiled archive was closed as if it were whole")
			}
			if _, err := w.Create(ctx, "", img.Blobs[2].Descriptor); err == nil {
				t.Error("a spoiled archive takes more")
			}
		})
	}
	t.Run("cancel before the first byte", func(t *testing.T) {
		var out bytes.Buffer
		w := archive.Create(&out, archive.OCI)
		u, err := w.Create(ctx, "", img.Blobs[0].Descriptor)
		if err != nil {
			t.Fatal(err)
		}
		if err := u.Cancel(); err != nil {
			t.Fatal(err)
		}
		if _, err := u.Write([]byte("x")); err == nil {
			t.Error("written after cancel")
		}
		if err := w.Close(); err != nil {
			t.Errorf("nothing was spoiled: %v", err)
		}
		list(t, out.Bytes())
	})
	t.Run("disk full", func(t *testing.T) {
		f, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		w := archive.Create(f, archive.OCI)
		if err := registrytest.Push(ctx, w, "", img.Blobs[0]); err == nil || !strings.Contains(err.Error(), "no space left") {
			t.Errorf("upload: %v", err)
		}
		if err := w.Close(); err == nil {
			t.Error("closed")
		}
	})
}

func pushInTwo(ctx context.Context, w registry.Writer, b registrytest.Blob) error {
	u, err := w.Create(ctx, "", b.Descriptor)
	if err != nil {
		return err
	}
	defer u.Cancel()
	for _, part := range [][]byte{b.Data[:1], b.Data[1:]} {
		if _, err := u.Write(part); err != nil {
			return err
		}
	}
	return u.Commit()
}

// TestWriteOneAtATime: a second upload waits for the first, and gives up with its context.
func TestWriteOneAtATime(t *testing.T) {
	img := registrytest.Hello("x")
	w := archive.Create(io.Discard, archive.OCI)
	first, err := w.Create(t.Context(), "", img.Blobs[0].Descriptor)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := w.Create(ctx, "", img.Blobs[1].Descriptor); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v", err)
	}
	waiting := make(chan error)
	go func() { waiting <- registrytest.Push(t.Context(), w, "", img.Blobs[1]) }()
	if _, err := first.Write(img.Blobs[0].Data); err != nil {
		t.Fatal(err)
	}
	if err := first.Commit(); err != nil {
		t.Fatal(err)
	}
	if err := <-waiting; err != nil {
		t.Error(err)
	}
}

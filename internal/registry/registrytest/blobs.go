package registrytest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"

	"nacre/internal/image"
	"nacre/internal/registry"
)

const repo = "localhost/conform"

func blob(content string) Blob { return NewBlob("application/octet-stream", []byte(content)) }

func checkAbsent(t *testing.T, r registry.Registry) {
	absent(t, r)
	wantHas(t, r, blob("never uploaded"), false)
	wantErr(t, "tag of an absent manifest", r.Tag(t.Context(), Ref("x"), Hello("absent").Desc()), registry.ErrAbsent)
	wantErr(t, "untag of an absent name", r.Untag(t.Context(), Ref("x")), registry.ErrAbsent)
	wantErr(t, "delete of an absent blob", r.Delete(t.Context(), repo, blob("never uploaded").Digest), registry.ErrAbsent)
}

func absent(t *testing.T, r registry.Reader) {
	ctx := t.Context()
	gone := blob("never uploaded")
	_, err := r.Resolve(ctx, Ref("localhost/absent:1"))
	wantErr(t, "resolve of an absent name", err, registry.ErrAbsent)
	_, err = r.Resolve(ctx, registry.Ref{Repo: repo, Digest: gone.Digest})
	wantErr(t, "resolve of an absent digest", err, registry.ErrAbsent)
	_, err = r.Open(ctx, repo, gone.Descriptor)
	wantErr(t, "open of an absent blob", err, registry.ErrAbsent)
}

func checkUpload(t *testing.T, r registry.Registry) {
	for _, size := range []int{0, 1, 511, 512, 4096, 3<<20 + 7} {
		b := NewBlob("application/octet-stream", bytes.Repeat([]byte{'x', 0}, size)[:size])
		u, err := r.Create(t.Context(), repo, b.Descriptor)
		if err != nil {
			t.Fatal(err)
		}
		wantHas(t, r, b, false)
		for rest := b.Data; len(rest) > 0; { // in odd pieces
			n := min(len(rest), 70001)
			if _, err := u.Write(rest[:n]); err != nil {
				t.Fatal(err)
			}
			rest = rest[n:]
		}
		if err := u.Commit(); err != nil {
			t.Fatal(err)
		}
		if err := u.Cancel(); err != nil {
			t.Errorf("cancel after commit: %v", err)
		}
		wantHas(t, r, b, true)
		Check(t, r, repo, Image{[]Blob{b}})
		unsized := b
		unsized.Size, unsized.MediaType = 0, "" // allowed where unknown
		Check(t, r, repo, Image{[]Blob{unsized}})
	}
}

func checkTwice(t *testing.T, r registry.Registry) {
	for range 2 {
		if err := Push(t.Context(), r, repo, blob("again")); err != nil {
			t.Fatal(err)
		}
	}
	Check(t, r, repo, Image{[]Blob{blob("again")}})
}

func checkCancel(t *testing.T, r registry.Registry) {
	b := blob("cancelled")
	u, err := r.Create(t.Context(), repo, b.Descriptor)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := u.Write(b.Data); err != nil {
		t.Fatal(err)
	}
	if err := u.Cancel(); err != nil {
		t.Errorf("cancel: %v", err)
	}
	if err := u.Commit(); err == nil {
		t.Error("commit after cancel succeeded")
	}
	wantHas(t, r, b, false)
	_, err = r.Open(t.Context(), repo, b.Descriptor)
	wantErr(t, "open of a cancelled blob", err, registry.ErrAbsent)
}

func checkRetry(t *testing.T, r registry.Registry) {
	b := blob(strings.Repeat("tried twice ", 10000))
	u, err := r.Create(t.Context(), repo, b.Descriptor)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := u.Write(b.Data[:1000]); err != nil {
		t.Fatal(err)
	}
	if err := u.Cancel(); err != nil {
		t.Fatal(err)
	}
	if err := Push(t.Context(), r, repo, b); err != nil {
		t.Fatal(err)
	}
	Check(t, r, repo, Image{[]Blob{b}})
}

func checkWrongDigest(t *testing.T, r registry.Registry) {
	layer := Tar("a", "b")
	for _, b := range []Blob{
		blob("the content"),
		NewBlob(image.TypeLayer, layer),
		NewBlob(image.TypeLayerGzip, Compress(image.TypeLayerGzip, layer)),
		Hello("wrong").Blobs[3], // a manifest
	} {
		wrong := b
		wrong.Digest = digest.FromString("other content")
		wantErr(t, "commit of the wrong content as "+b.MediaType, Push(t.Context(), r, repo, wrong), registry.ErrDigest)
		wantHas(t, r, wrong, false)
		wantHas(t, r, b, false)
	}
}

func checkWrongSize(t *testing.T, r registry.Registry) {
	for _, by := range []int64{-1, +1} {
		wrong := blob("the content")
		wrong.Size += by
		err := Push(t.Context(), r, repo, wrong)
		if !errors.Is(err, registry.ErrSize) && !errors.Is(err, registry.ErrDigest) {
			t.Errorf("upload of %+d bytes: %v", -by, err)
		}
		wantHas(t, r, blob("the content"), false)
	}
}

func checkHostileDigest(t *testing.T, r registry.Registry) {
	for _, d := range []digest.Digest{
		"", "sha256", "sha256:", "sha256:../../../../etc/passwd", "../x:" + digest.Digest(strings.Repeat("a", 64)),
		"sha256:" + digest.Digest(strings.Repeat("A", 64)), "sha256:" + digest.Digest(strings.Repeat("a", 63)), "md5:d41d8cd98f00b204e9800998ecf8427e",
	} {
		b := Blob{registry.Descriptor{MediaType: "application/octet-stream", Digest: d, Size: 1}, []byte("x")}
		if err := Push(t.Context(), r, repo, b); err == nil {
			t.Errorf("upload as %q succeeded", d)
		}
		if _, err := Get(t.Context(), r, repo, b.Descriptor); err == nil {
			t.Errorf("%q can be opened", d)
		}
		if ok, _ := r.Has(t.Context(), repo, b.Descriptor); ok {
			t.Errorf("has %q", d)
		}
	}
}

func checkOpenSize(t *testing.T, r registry.Registry) {
	b := blob("of a known size")
	if err := Push(t.Context(), r, repo, b); err != nil {
		t.Fatal(err)
	}
	opensWrongSize(t, r, b)
}

func opensWrongSize(t *testing.T, r registry.Reader, b Blob) {
	for _, by := range []int64{-1, +1} {
		d := b.Descriptor
		d.Size += by
		if _, err := Get(t.Context(), r, repo, d); !errors.Is(err, registry.ErrSize) && !errors.Is(err, registry.ErrAbsent) {
			t.Errorf("opened with a size off by %+d: %v", by, err)
		}
	}
}

func checkLayerTypes(t *testing.T, r registry.Registry) {
	for i, mediaType := range []string{
		image.TypeLayer, image.TypeLayerGzip, image.TypeLayerZstd,
		image.TypeDockerLayer, image.TypeDockerLayerGzip, image.TypeDockerLayerZstd,
	} {
		img := Hello(mediaType, mediaType)
		ref := Ref(fmt.Sprintf("localhost/types:%d", i))
		Put(t, r, ref, img)
		Check(t, r, ref.Repo, img)
		wantResolve(t, r, ref, img)
	}
}

func checkConcurrent(t *testing.T, r registry.Registry) {
	images := make([]Image, 4)
	for i := range images {
		images[i] = Hello(fmt.Sprint("concurrent ", i), image.TypeLayerGzip)
	}
	var wg sync.WaitGroup
	for i := range 16 { // every blob several times at once
		wg.Go(func() {
			for _, b := range images[i%len(images)].Blobs {
				if err := Push(context.WithoutCancel(t.Context()), r, repo, b); err != nil {
					t.Errorf("upload %s: %v", b.Digest, err)
				}
			}
		})
	}
	wg.Wait()
	for _, img := range images {
		Check(t, r, repo, img)
	}
}

func wantHas(t *testing.T, r registry.Writer, b Blob, want bool) {
	t.Helper()
	got, err := r.Has(t.Context(), repo, b.Descriptor)
	if err != nil || got != want {
		t.Errorf("has %s %s: %v, %v; want %v", b.MediaType, b.Digest, got, err, want)
	}
}

func wantErr(t *testing.T, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: error %v, want %v", what, err, want)
	}
}

package registrytest

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"nacre/internal/image"
	"nacre/internal/registry"
)

func checkTag(t *testing.T, r registry.Registry) {
	img := Hello("tagged")
	ref := Ref("localhost:5000/deep/er/name:v1.0")
	Put(t, r, ref, img)
	wantResolve(t, r, ref, img)
	wantResolve(t, r, registry.Ref{Repo: ref.Repo, Digest: img.Desc().Digest}, img)
	_, err := r.Resolve(t.Context(), registry.Ref{Repo: ref.Repo, Tag: "v1"})
	wantErr(t, "another tag", err, registry.ErrAbsent)
	_, err = r.Resolve(t.Context(), registry.Ref{Repo: "localhost:5000/deep/er", Tag: ref.Tag})
	wantErr(t, "another repository", err, registry.ErrAbsent)
}

func checkTagMoves(t *testing.T, r registry.Registry) {
	a, b := Hello("first"), Hello("second")
	Put(t, r, Ref("moving"), a)
	Put(t, r, Ref("other"), a)
	Put(t, r, Ref("moving"), b)
	wantResolve(t, r, Ref("moving"), b)
	wantResolve(t, r, Ref("other"), a)
	wantRefs(t, r, "docker.io/library/moving:latest", "docker.io/library/other:latest")
}

func checkTagIncomplete(t *testing.T, r registry.Registry) {
	for missing := range 3 { // two layers and the config
		img := Hello(fmt.Sprint("incomplete ", missing))
		for i, b := range img.Blobs {
			if i == missing {
				continue
			}
			if err := Push(t.Context(), r, repo, b); err != nil {
				// A registry may refuse a manifest on arrival where it lacks parts.
				if i == len(img.Blobs)-1 && (errors.Is(err, registry.ErrAbsent) || errors.Is(err, registry.ErrInvalid)) {
					continue
				}
				t.Fatal(err)
			}
		}
		wantErr(t, fmt.Sprintf("tag without blob %d", missing), r.Tag(t.Context(), Ref("incomplete"), img.Desc()), registry.ErrAbsent)
		_, err := r.Resolve(t.Context(), Ref("incomplete"))
		wantErr(t, "resolve after a failed tag", err, registry.ErrAbsent)
	}
}

func checkTagInvalid(t *testing.T, r registry.Registry) {
	img := Hello("invalid")
	Put(t, r, Ref("valid"), img)
	layer := img.Blobs[0].Descriptor
	if err := r.Tag(t.Context(), Ref("layer"), layer); err == nil {
		t.Error("a layer was tagged")
	}
	layer.MediaType = image.TypeManifest
	if err := r.Tag(t.Context(), Ref("layer"), layer); err == nil {
		t.Error("a layer was tagged as a manifest")
	}
	_, err := r.Resolve(t.Context(), Ref("layer"))
	wantErr(t, "resolve after a failed tag", err, registry.ErrAbsent)
}

func checkDigestDecides(t *testing.T, r registry.Registry) {
	a, b := Hello("by digest"), Hello("by tag")
	Put(t, r, Ref("two:1"), a)
	Put(t, r, Ref("two:2"), b)
	ref := Ref("two:2")
	ref.Digest = a.Desc().Digest
	wantResolve(t, r, ref, a)
}

func checkUntagged(t *testing.T, r registry.Registry) {
	img := Hello("wanted for itself")
	ref := registry.Ref{Repo: "docker.io/library/untagged", Digest: img.Desc().Digest}
	Put(t, r, ref, img)
	wantResolve(t, r, ref, img)
	Check(t, r, ref.Repo, img)
	for n, err := range r.Refs(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		if n.Ref.Tag != "" {
			t.Errorf("a tag came up: %s", n.Ref)
		}
	}
}

// checkVerbatim: a manifest is its bytes, not what they mean.
func checkVerbatim(t *testing.T, r registry.Registry) {
	img := Hello("verbatim")
	last := &img.Blobs[len(img.Blobs)-1]
	odd := append([]byte("\n\t "), bytes.ReplaceAll(last.Data, []byte(`,"`), []byte(" ,\r\n\t\""))...)
	odd = append(odd, " \n\n"...)
	*last = NewBlob(last.MediaType, odd)
	Put(t, r, Ref("verbatim"), img)
	wantResolve(t, r, Ref("verbatim"), img)
	Check(t, r, Ref("verbatim").Repo, img)
}

func checkIndex(t *testing.T, r registry.Registry) {
	platforms := []image.Platform{{OS: "linux", Architecture: "amd64"}, {OS: "linux", Architecture: "arm64"}}
	children := []Image{
		NewImage(platforms[0], [][]byte{Tar("amd64", "")}, image.TypeLayerGzip),
		NewImage(platforms[1], [][]byte{Tar("arm64", "")}, image.TypeLayerZstd),
	}
	x := NewIndex(platforms, children)
	Put(t, r, Ref("index"), x)
	wantResolve(t, r, Ref("index"), x)
	Check(t, r, Ref("index").Repo, x)
	for _, c := range children {
		wantResolve(t, r, registry.Ref{Repo: Ref("index").Repo, Digest: c.Desc().Digest}, c)
	}
}

func checkArtifact(t *testing.T, r registry.Registry) {
	a := NewArtifact([]byte("not a tar, not JSON"))
	Put(t, r, Ref("artifact"), a)
	wantResolve(t, r, Ref("artifact"), a)
	Check(t, r, Ref("artifact").Repo, a)
}

func checkRefs(t *testing.T, r registry.Registry) {
	wantRefs(t, r)
	a, b := Hello("a"), Hello("b")
	Put(t, r, Ref("z"), a)
	Put(t, r, Ref("a:2"), b)
	Put(t, r, Ref("a:10"), a)
	Put(t, r, Ref("localhost/a"), a)
	wantRefs(t, r, "docker.io/library/a:10", "docker.io/library/a:2", "docker.io/library/z:latest", "localhost/a:latest")
	for n, err := range r.Refs(t.Context()) { // stopping early is fine
		if err != nil || n.Desc.Digest != a.Desc().Digest || n.Desc.Size != a.Desc().Size {
			t.Errorf("first name %+v, %v; want %s", n, err, a.Desc().Digest)
		}
		break
	}
}

func checkUntag(t *testing.T, r registry.Registry) {
	img := Hello("untag")
	Put(t, r, Ref("u:1"), img)
	Put(t, r, Ref("u:2"), img)
	if err := r.Untag(t.Context(), Ref("u:1")); err != nil {
		t.Fatal(err)
	}
	_, err := r.Resolve(t.Context(), Ref("u:1"))
	wantErr(t, "resolve after untag", err, registry.ErrAbsent)
	wantErr(t, "untag again", r.Untag(t.Context(), Ref("u:1")), registry.ErrAbsent)
	wantResolve(t, r, Ref("u:2"), img)
	wantRefs(t, r, "docker.io/library/u:2")
	Check(t, r, Ref("u").Repo, img)
}

func checkDelete(t *testing.T, r registry.Registry) {
	keep, drop := blob("kept"), blob("dropped")
	for _, b := range []Blob{keep, drop} {
		if err := Push(t.Context(), r, repo, b); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.Delete(t.Context(), repo, drop.Digest); err != nil {
		t.Fatal(err)
	}
	wantHas(t, r, drop, false)
	wantHas(t, r, keep, true)
	wantErr(t, "delete again", r.Delete(t.Context(), repo, drop.Digest), registry.ErrAbsent)
	if err := Push(t.Context(), r, repo, drop); err != nil {
		t.Errorf("upload after delete: %v", err)
	}
	Check(t, r, repo, Image{[]Blob{keep, drop}})
}

func checkConcurrentTags(t *testing.T, r registry.Registry) {
	img := Hello("many names")
	Put(t, r, Ref("many:start"), img)
	want := []string{"docker.io/library/many:start"}
	var wg sync.WaitGroup
	for i := range 12 {
		ref := Ref(fmt.Sprintf("many:%02d", i))
		want = append(want, ref.String())
		wg.Go(func() {
			if err := r.Tag(t.Context(), ref, img.Desc()); err != nil {
				t.Errorf("tag %s: %v", ref, err)
			}
		})
	}
	wg.Wait()
	slices.Sort(want)
	wantRefs(t, r, want...)
}

func wantResolve(t *testing.T, r registry.Reader, ref registry.Ref, img Image) {
	t.Helper()
	d, err := r.Resolve(t.Context(), ref)
	if err != nil {
		t.Errorf("resolve %s: %v", ref, err)
		return
	}
	want := img.Desc()
	if d.Digest != want.Digest || d.Size != want.Size || d.MediaType != want.MediaType {
		t.Errorf("resolve %s: %s %s %d, want %s %s %d", ref, d.MediaType, d.Digest, d.Size, want.MediaType, want.Digest, want.Size)
	}
}

func wantRefs(t *testing.T, r registry.Lister, want ...string) {
	t.Helper()
	var got []string
	for n, err := range r.Refs(t.Context()) {
		if err != nil {
			t.Errorf("refs: %v", err)
			return
		}
		got = append(got, n.Ref.String())
	}
	if !slices.Equal(got, want) {
		t.Errorf("refs: %q, want %q", got, want)
	}
}

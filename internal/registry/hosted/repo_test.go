package hosted_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"nacre/internal/image"
	"nacre/internal/registry"
	"nacre/internal/registry/hosted"
	"nacre/internal/registry/registrytest"
	"nacre/internal/registry/store"

	"github.com/opencontainers/go-digest"
)

// ref names something as the server does: without domain.
func ref(repo, tag string) registry.Ref { return registry.Ref{Repo: repo, Tag: tag} }

// push pushes an image as clients do: every manifest is kept by its digest, the last under a tag ("": none).
func (f *fixture) push(repo, tag string, img registrytest.Image) {
	f.t.Helper()
	if err := f.tryPush(repo, tag, img); err != nil {
		f.t.Fatal(err)
	}
}

func (f *fixture) tryPush(repo, tag string, img registrytest.Image) error {
	ctx := f.t.Context()
	for _, b := range img.Blobs {
		if err := registrytest.Push(ctx, f.r, repo, b); err != nil {
			return fmt.Errorf("push %s: %w", b.MediaType, err)
		}
		if image.IsManifest(b.MediaType) && b.Digest != img.Desc().Digest {
			if err := f.r.Tag(ctx, registry.Ref{Repo: repo, Digest: b.Digest}, b.Descriptor); err != nil {
				return err
			}
		}
	}
	r := ref(repo, tag)
	if tag == "" {
		r.Digest = img.Desc().Digest
	}
	return f.r.Tag(ctx, r, img.Desc())
}

// shows tells which of an image's blobs a repository has.
func (f *fixture) shows(repo string, img registrytest.Image) (n int) {
	f.t.Helper()
	for _, b := range img.Blobs {
		got, err := registrytest.Get(f.t.Context(), f.r, repo, registry.Descriptor{Digest: b.Digest})
		if err == nil && string(got) == string(b.Data) {
			n++
		} else if !errors.Is(err, registry.ErrAbsent) {
			f.t.Errorf("%s: %v", b.Digest, err)
		}
		_, serr := f.r.Stat(f.t.Context(), repo, b.Digest)
		ok, herr := f.r.Has(f.t.Context(), repo, b.Descriptor)
		if (serr == nil) != (err == nil) || ok != (err == nil) || herr != nil {
			f.t.Errorf("%s: open %v, stat %v, has %v %v", b.Digest, err, serr, ok, herr)
		}
	}
	return n
}

func (f *fixture) wantShown(repo string, img registrytest.Image, want int) {
	f.t.Helper()
	if n := f.shows(repo, img); n != want {
		f.t.Errorf("%s shows %d of %d blobs, want %d", repo, n, len(img.Blobs), want)
	}
}

func (f *fixture) wantTags(repo string, want ...string) {
	f.t.Helper()
	var got []string
	for tag, err := range f.r.Tags(f.t.Context(), repo, "") {
		if err != nil {
			f.t.Fatal(err)
		}
		got = append(got, tag)
	}
	if !slices.Equal(got, want) {
		f.t.Errorf("tags of %s: %q, want %q", repo, got, want)
	}
}

func wantErr(t testing.TB, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: error %v, want %v", what, err, want)
	}
}

const gzipLayer = image.TypeLayerGzip

// TestApart: what is in one repository is in no other, whatever anybody claims.
func TestApart(t *testing.T) {
	f := open(t, hosted.Options{})
	ctx := t.Context()
	secret := registrytest.Hello("secret", gzipLayer)
	f.push("team/secret", "1", secret)
	f.wantShown("team/secret", secret, len(secret.Blobs))
	f.wantShown("app", secret, 0)
	_, err := f.r.Resolve(ctx, registry.Ref{Repo: "app", Digest: secret.Desc().Digest})
	wantErr(t, "resolve elsewhere", err, registry.ErrAbsent)

	// A manifest that says it is of another's layers is refused.
	m := secret.Blobs[len(secret.Blobs)-1]
	if err := registrytest.Push(ctx, f.r, "app", m); err != nil {
		t.Fatal(err)
	}
	wantErr(t, "tag of another's layers", f.r.Tag(ctx, ref("app", "1"), m.Descriptor), registry.ErrAbsent)
	f.wantShown("app", secret, 1) // the manifest itself, which was sent
	_, err = f.r.Resolve(ctx, registry.Ref{Repo: "app", Digest: m.Digest})
	wantErr(t, "resolve of a manifest that was not kept", err, registry.ErrAbsent)

	// So is nothing shown by an index, which may lack its children.
	x := registrytest.NewIndex([]image.Platform{{OS: "linux", Architecture: "amd64"}}, []registrytest.Image{secret})
	top := registrytest.Image{Blobs: x.Blobs[len(x.Blobs)-1:]}
	f.push("spy", "1", top)
	f.wantShown("spy", x, 1)
	_, err = f.r.Resolve(ctx, registry.Ref{Repo: "spy", Digest: m.Digest})
	wantErr(t, "resolve of a child that is another's", err, registry.ErrAbsent)

	// A mount takes only what is where it is said to be.
	layer := secret.Blobs[0]
	wantErr(t, "mount from where it is not", f.r.Mount(ctx, "app", "other", layer.Descriptor), registry.ErrAbsent)
	wantErr(t, "mount from where it is only referred to", f.r.Mount(ctx, "app", "spy", layer.Descriptor), registry.ErrAbsent)
	if err := f.r.Mount(ctx, "app", "team/secret", layer.Descriptor); err != nil {
		t.Fatal(err)
	}
	f.wantShown("app", registrytest.Image{Blobs: secret.Blobs[:1]}, 1)

	// Deleting is for one repository as well.
	if err := f.r.Delete(ctx, "app", layer.Digest); err != nil {
		t.Fatal(err)
	}
	f.wantShown("app", registrytest.Image{Blobs: secret.Blobs[:1]}, 0)
	f.wantShown("team/secret", secret, len(secret.Blobs))
	wantErr(t, "delete of what is another's", f.r.Delete(ctx, "app", layer.Digest), registry.ErrAbsent)
	wantErr(t, "delete of what is needed", f.r.Delete(ctx, "team/secret", layer.Digest), registry.ErrDenied)
	if err := f.r.Delete(ctx, "team/secret", m.Digest); err != nil {
		t.Fatal(err)
	}
	_, err = f.r.Resolve(ctx, ref("team/secret", "1"))
	wantErr(t, "the tag of what was deleted", err, registry.ErrAbsent)
	wantSound(t, f.s)
}

// TestMadeHere: what is built, pulled and tagged in the store is served without a push.
func TestMadeHere(t *testing.T) {
	f := open(t, hosted.Options{Self: "127.0.0.1:5000"})
	ctx := t.Context()
	img := registrytest.Hello("made here", gzipLayer)
	registrytest.Put(t, f.s, registrytest.Ref("app:1"), img)
	f.wantShown("app", img, len(img.Blobs))
	f.wantShown("other", img, 0)
	// By the name of the server too.
	two := registrytest.Hello("named after the server")
	registrytest.Put(t, f.s, registrytest.Ref("127.0.0.1:5000/app:2"), two)
	registrytest.Put(t, f.s, registrytest.Ref("127.0.0.1:5000/team/b:1"), two)
	registrytest.Put(t, f.s, registrytest.Ref("ghcr.io/x/y:1"), two)
	f.wantTags("app", "1", "2")
	f.wantShown("app", two, len(two.Blobs))
	var repos []string
	for r, err := range f.r.Repos(ctx, "") {
		if err != nil {
			t.Fatal(err)
		}
		repos = append(repos, r)
	}
	if want := []string{"app", "ghcr.io/x/y", "team/b"}; !slices.Equal(repos, want) {
		t.Errorf("repositories %q, want %q", repos, want)
	}
	// Of two under one tag the last counts.
	registrytest.Put(t, f.s, registrytest.Ref("127.0.0.1:5000/app:1"), two)
	if d, err := f.r.Resolve(ctx, ref("app", "1")); err != nil || d.Digest != two.Desc().Digest {
		t.Errorf("app:1 is %v, %v", d.Digest, err)
	}
	three := registrytest.Hello("pushed", gzipLayer)
	f.push("app", "1", three)
	if d, err := f.r.Resolve(ctx, ref("app", "1")); err != nil || d.Digest != three.Desc().Digest {
		t.Errorf("app:1 is %v, %v", d.Digest, err)
	}
	// Untagged, it can be had by its digest still, though it was never pushed.
	if err := f.r.Untag(ctx, ref("app", "2")); err != nil {
		t.Fatal(err)
	}
	f.wantTags("app", "1")
	if _, err := f.r.Resolve(ctx, registry.Ref{Repo: "app", Digest: two.Desc().Digest}); err != nil {
		t.Error(err)
	}
	wantSound(t, f.s)
}

func TestNames(t *testing.T) {
	f := open(t, hosted.Options{Self: "127.0.0.1:5000"})
	img := registrytest.Hello("names")
	for _, name := range []string{"app", "team/app", "a/b/c/d", "ghcr.io/x/y", "localhost/x"} {
		f.push(name, "1", img)
		f.wantShown(name, img, len(img.Blobs))
	}
	// Another name of one of them is none: rules about app could be got around.
	for _, name := range []string{"library/app", "docker.io/app", "docker.io/library/app", "docker.io/team/app", "index.docker.io/team/app",
		"", "App", "app:latest", "app@" + img.Desc().Digest.String(), "../app", "/app", "app/", "127.0.0.1:5000/app/../app"} {
		if f.shows(name, img) > 0 {
			t.Errorf("%q shows something", name)
		}
		if err := f.tryPush(name, "1", img); err == nil {
			t.Errorf("pushed to %q", name)
		}
	}
	for name, own := range map[string]string{"library/app": "app", "app": "app", "library/x/app": "library/x/app", "ghcr.io/library/app": "ghcr.io/library/app"} {
		if got := hosted.OwnName(name); got != own {
			t.Errorf("own name of %q is %q, want %q", name, got, own)
		}
	}
	if got, err := hosted.Canonical("library/app"); got != "app" || err != nil {
		t.Errorf("library/app is %q, %v", got, err)
	}
}

// TestUsedHere: what was pushed is an image of the store, though none of its layers was looked at.
func TestUsedHere(t *testing.T) {
	f := open(t, hosted.Options{})
	ctx := t.Context()
	img := registrytest.Hello("pushed", gzipLayer)
	f.push("app", "1", img)
	wantSound(t, f.s)
	got, err := f.s.Lookup(ctx, "app:1")
	if err != nil {
		t.Fatal(err)
	}
	if got.Created.IsZero() || got.Platform.Architecture != "amd64" || got.Size != img.Blobs[0].Size+img.Blobs[1].Size {
		t.Errorf("image %+v", got)
	}
	m, _, err := f.s.Manifest(ctx, got, nil)
	if err != nil {
		t.Fatal(err)
	}
	cfg, _, err := f.s.Config(ctx, m.Config)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range cfg.RootFS.DiffIDs {
		if _, err := os.Stat(f.s.LayerDir(d)); err == nil {
			t.Error("a layer was made for a push")
		}
		if _, err := f.s.Layer(ctx, d); err != nil {
			t.Errorf("layer %s: %v", d, err)
		}
	}
	got, err = f.s.Lookup(ctx, "app:1")
	if want := int64(len("the same in all") + len("hello from pushed")); err != nil || got.Size != want {
		t.Errorf("with its layers it has %d bytes, %v; want %d", got.Size, err, want)
	}
	wantSound(t, f.s)
}

// TestFalseClaim: a config may say of a layer what it likes.
func TestFalseClaim(t *testing.T) {
	f := open(t, hosted.Options{})
	ctx := t.Context()
	img := registrytest.Hello("false", gzipLayer)
	honest := registrytest.Hello("honest", gzipLayer)
	// The same layers, under the other's diffIDs.
	lie := registrytest.NewImageOf(honest.Blobs[2], img.Blobs[0], img.Blobs[1])
	f.push("lie", "1", lie)
	victim := cfgOf(t, honest)
	if _, err := f.s.Layer(ctx, victim.RootFS.DiffIDs[1]); !errors.Is(err, registry.ErrAbsent) {
		t.Errorf("a layer that nobody has: %v", err)
	}
	f.push("app", "1", honest)
	for _, d := range victim.RootFS.DiffIDs {
		if _, err := f.s.Layer(ctx, d); err != nil {
			t.Error(err)
		}
	}
	wantSound(t, f.s)
}

func cfgOf(t testing.TB, img registrytest.Image) image.Config {
	t.Helper()
	cfg, err := image.ParseConfig(img.Blobs[len(img.Blobs)-2].Data)
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

// TestNoLitter: what loses its tag is found by its digest, and not by nacre images.
func TestNoLitter(t *testing.T) {
	f := open(t, hosted.Options{})
	ctx := t.Context()
	var last registrytest.Image
	for i := range 5 {
		last = registrytest.Hello(fmt.Sprint(i), gzipLayer)
		f.push("app", "latest", last)
		f.push("app", "", registrytest.Hello(fmt.Sprint("by digest ", i), gzipLayer))
	}
	for i := range 5 {
		for _, img := range []registrytest.Image{registrytest.Hello(fmt.Sprint(i), gzipLayer), registrytest.Hello(fmt.Sprint("by digest ", i), gzipLayer)} {
			if _, err := f.r.Resolve(ctx, registry.Ref{Repo: "app", Digest: img.Desc().Digest}); err != nil {
				t.Error(err)
			}
		}
	}
	images := 0
	for img, err := range f.s.Images(ctx) {
		if err != nil || img.Target.Digest != last.Desc().Digest {
			t.Errorf("image %v, %v", img.Names, err)
		}
		images++
	}
	if images != 1 {
		t.Errorf("%d images", images)
	}
	// rmi takes the tag; the rest follows when its grace is over.
	if _, _, err := f.s.Remove(ctx, "app", store.RemoveOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := f.r.Resolve(ctx, registry.Ref{Repo: "app", Digest: last.Desc().Digest}); err != nil {
		t.Error(err)
	}
	if _, err := f.s.Prune(ctx, store.PruneOptions{}); err != nil {
		t.Fatal(err)
	}
	f.wantShown("app", last, len(last.Blobs))
	f.later(25 * time.Hour)
	if _, err := f.s.Prune(ctx, store.PruneOptions{}); err != nil {
		t.Fatal(err)
	}
	f.wantShown("app", last, 0)
	f.wantEmpty()
}

// wantEmpty fails the test unless the store has no content.
func (f *fixture) wantEmpty() {
	f.t.Helper()
	for _, dir := range []string{"blobs/sha256", "blobs/sha512", "layers"} {
		left, err := os.ReadDir(filepath.Join(f.s.Root(), dir))
		if err != nil || len(left) > 0 {
			f.t.Errorf("%s: %d left, %v", dir, len(left), err)
		}
	}
	wantSound(f.t, f.s)
}

// TestSHA512: content may be named so, in all its kinds.
func TestSHA512(t *testing.T) {
	f := open(t, hosted.Options{})
	ctx := t.Context()
	img := registrytest.With(registrytest.Hello("sha512", gzipLayer), digest.SHA512)
	f.push("app", "1", img)
	f.wantShown("app", img, len(img.Blobs))
	if d, err := f.r.Resolve(ctx, ref("app", "1")); err != nil || d.Digest != img.Desc().Digest || d.Digest.Algorithm() != digest.SHA512 {
		t.Errorf("%v, %v", d, err)
	}
	wantSound(t, f.s)
	got, err := f.s.Lookup(ctx, "app:1")
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range cfgOf(t, img).RootFS.DiffIDs {
		if _, err := f.s.Layer(ctx, d); err != nil {
			t.Error(err)
		}
	}
	registrytest.Check(t, f.s, "", img)
	if _, _, err := f.s.Remove(ctx, got.ID.String(), store.RemoveOptions{}); err != nil {
		t.Fatal(err)
	}
	f.later(25 * time.Hour)
	if _, err := f.r.Collect(ctx, hosted.CollectOptions{}); err != nil {
		t.Fatal(err)
	}
	f.wantEmpty()
}

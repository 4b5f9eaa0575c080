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
)

func (f *fixture) collect() hosted.Report {
	f.t.Helper()
	r, err := f.r.Collect(f.t.Context(), hosted.CollectOptions{})
	if err != nil {
		f.t.Fatal(err)
	}
	wantSound(f.t, f.s)
	return r
}

// TestCollect: what nothing refers to goes when its grace is over, and not before.
func TestCollect(t *testing.T) {
	f := open(t, hosted.Options{})
	ctx := t.Context()
	a, b := registrytest.Hello("a", gzipLayer), registrytest.Hello("b", gzipLayer)
	f.push("app", "1", a)
	f.push("other", "1", a)
	for _, blob := range b.Blobs[:2] { // a push that never ended
		if err := registrytest.Push(ctx, f.r, "app", blob); err != nil {
			t.Fatal(err)
		}
	}
	if r := f.collect(); r.Parts > 0 || len(r.Blobs) > 0 {
		t.Errorf("collected at once: %+v", r)
	}
	f.later(25 * time.Hour)
	dry, err := f.r.Collect(ctx, hosted.CollectOptions{DryRun: true})
	if err != nil || dry.Parts != 1 {
		t.Errorf("dry: %+v, %v", dry, err)
	}
	r := f.collect()
	if r.Parts != 1 || len(r.Blobs) != 1 || r.Bytes == 0 {
		t.Errorf("collected %+v, want the one layer of b that a has not", r)
	}
	f.wantShown("app", a, len(a.Blobs))
	f.wantShown("app", registrytest.Image{Blobs: b.Blobs[1:2]}, 0)

	// Untagged in one repository: it stays for the grace, and in the other for good.
	if err := f.r.Untag(ctx, ref("app", "1")); err != nil {
		t.Fatal(err)
	}
	f.later(23 * time.Hour)
	f.collect()
	if _, err := f.r.Resolve(ctx, registry.Ref{Repo: "app", Digest: a.Desc().Digest}); err != nil {
		t.Error(err)
	}
	f.later(48 * time.Hour)
	f.collect()
	f.wantShown("app", a, 0)
	f.wantShown("other", a, len(a.Blobs))

	if err := f.r.Delete(ctx, "other", a.Desc().Digest); err != nil {
		t.Fatal(err)
	}
	f.later(48 * time.Hour)
	f.collect()
	f.wantEmpty()
}

func TestKeepUntagged(t *testing.T) {
	f := open(t, hosted.Options{KeepUntagged: true})
	img := registrytest.Hello("a", gzipLayer)
	f.push("app", "", img)
	f.later(10000 * time.Hour)
	f.collect()
	f.wantShown("app", img, len(img.Blobs))
	if err := f.r.Delete(t.Context(), "app", img.Desc().Digest); err != nil {
		t.Fatal(err)
	}
	f.later(48 * time.Hour)
	f.collect()
	f.wantEmpty()
}

// TestRevive: content that a client was told is there does not go before the client can refer to it.
func TestRevive(t *testing.T) {
	for name, ask := range map[string]func(f *fixture, b registrytest.Blob) error{
		"stat": func(f *fixture, b registrytest.Blob) error {
			_, err := f.r.Stat(f.t.Context(), "app", b.Digest)
			return err
		},
		"has": func(f *fixture, b registrytest.Blob) error {
			ok, err := f.r.Has(f.t.Context(), "app", b.Descriptor)
			if err == nil && !ok {
				err = registry.ErrAbsent
			}
			return err
		},
		"upload": func(f *fixture, b registrytest.Blob) error {
			return registrytest.Push(f.t.Context(), f.r, "app", b)
		},
		"mount": func(f *fixture, b registrytest.Blob) error {
			return f.r.Mount(f.t.Context(), "app", "app", b.Descriptor)
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := open(t, hosted.Options{})
			img := registrytest.Hello("revived", gzipLayer)
			f.push("app", "old", img)
			f.later(1000 * time.Hour) // what refers to it is old, and goes now
			if err := f.r.Delete(t.Context(), "app", img.Desc().Digest); err != nil {
				t.Fatal(err)
			}
			f.later(23 * time.Hour)
			for _, b := range img.Blobs[:len(img.Blobs)-1] {
				if err := ask(f, b); err != nil {
					t.Fatal(err)
				}
			}
			f.later(23 * time.Hour)
			f.collect()
			last := img.Blobs[len(img.Blobs)-1:]
			f.push("app", "new", registrytest.Image{Blobs: last})
			f.wantShown("app", img, len(img.Blobs))
		})
	}
}

// TestOldRowsAreRevivedOnce: being asked all the time does not mean to write all the time.
func TestReviveIsRare(t *testing.T) {
	f := open(t, hosted.Options{})
	img := registrytest.Hello("asked", gzipLayer)
	f.push("app", "1", img)
	count := func(after time.Duration) (writes int) {
		f.later(after)
		for range 10 {
			before := f.s.CurrentVersion(t.Context())
			if _, err := f.r.Stat(t.Context(), "app", img.Blobs[0].Digest); err != nil {
				t.Fatal(err)
			}
			if !f.s.CurrentVersion(t.Context()).Same(before) {
				writes++
			}
		}
		return writes
	}
	for _, c := range []struct {
		after time.Duration
		want  int
	}{{0, 0}, {11 * time.Hour, 0}, {2 * time.Hour, 1}, {11 * time.Hour, 0}, {1000 * time.Hour, 1}} {
		if n := count(c.after); n != c.want {
			t.Errorf("%s later: %d writes, want %d", c.after, n, c.want)
		}
	}
}

// TestReferrers: they are found by their subject, in their repository, and stay as long as it does.
func TestReferrers(t *testing.T) {
	f := open(t, hosted.Options{})
	ctx := t.Context()
	img := registrytest.Hello("subject", gzipLayer)
	sig := registrytest.About(registrytest.NewArtifact([]byte("signature")), img.Desc(), map[string]string{"by": "me"})
	f.push("app", "1", img)
	f.push("app", "", sig)
	f.push("other", "1", img)
	list := func(repo string) (found []registry.Descriptor) {
		for d, err := range f.r.Referrers(ctx, repo, img.Desc().Digest) {
			if err != nil {
				t.Fatal(err)
			}
			found = append(found, d)
		}
		return found
	}
	got := list("app")
	if len(got) != 1 || got[0].Digest != sig.Desc().Digest || got[0].Size != sig.Desc().Size || got[0].ArtifactType != "application/vnd.example.thing" ||
		got[0].Annotations["by"] != "me" || got[0].MediaType != image.TypeManifest {
		t.Errorf("referrers %+v", got)
	}
	if got := list("other"); len(got) > 0 {
		t.Errorf("another repository's referrers: %+v", got)
	}
	f.later(1000 * time.Hour)
	f.collect()
	if got := list("app"); len(got) != 1 {
		t.Errorf("a referrer went before its subject: %+v", got)
	}
	if err := f.r.Delete(ctx, "app", img.Desc().Digest); err != nil {
		t.Fatal(err)
	}
	f.later(1000 * time.Hour)
	f.collect()
	if got := list("app"); len(got) > 0 {
		t.Errorf("referrers of what is gone: %+v", got)
	}
}

// TestTempFilesGo: what is thrown away does not stay in tmp/.
func TestNothingLeft(t *testing.T) {
	f := open(t, hosted.Options{})
	for i := range 30 {
		f.push("app", fmt.Sprint(i), registrytest.Hello(fmt.Sprint(i), gzipLayer))
	}
	for i := range 30 {
		if err := f.r.Untag(t.Context(), ref("app", fmt.Sprint(i))); err != nil {
			t.Fatal(err)
		}
	}
	f.later(25 * time.Hour)
	if r := f.collect(); len(r.Blobs) != 30*3+1 || r.Parts != 30*3+1 {
		t.Errorf("%d blobs, %d parts", len(r.Blobs), r.Parts)
	}
	f.wantEmpty()
	root := f.s.Root()
	if err := errors.Join(f.r.Close(), f.s.Close()); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(filepath.Join(root, "tmp")); err != nil || len(left) > 0 {
		t.Errorf("%d left in tmp, %v", len(left), err)
	}
}

func TestRetention(t *testing.T) {
	f := open(t, hosted.Options{Retention: []hosted.Rule{
		{Repos: "keep/**"},
		{Repos: "*", Last: 2, Pulled: 48 * time.Hour, Pushed: time.Hour, Tags: []string{"v*"}},
	}})
	ctx := t.Context()
	for _, tag := range []string{"v1", "old", "pulled", "moved", "a", "b"} {
		f.push("app", tag, registrytest.Hello(tag, gzipLayer))
		f.push("keep/app", tag, registrytest.Hello(tag, gzipLayer))
		f.push("deep/er", tag, registrytest.Hello(tag, gzipLayer))
		f.later(24 * time.Hour)
	}
	if _, err := f.r.Resolve(ctx, ref("app", "pulled")); err != nil {
		t.Fatal(err)
	}
	f.later(24 * time.Hour)
	want := map[string]string{"v1": `fits "v*"`, "pulled": "pulled within 48h0m0s", "a": "number 2 of the last 2", "b": "number 1 of the last 2"}
	dry, err := f.r.Collect(ctx, hosted.CollectOptions{DryRun: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range dry.Tags {
		if v.Repo == "app" && (v.Keep != (want[v.Tag] != "") || v.Keep && v.Why != want[v.Tag]) {
			t.Errorf("%s: keep %v, because %s; want %q", v.Tag, v.Keep, v.Why, want[v.Tag])
		}
	}
	f.wantTags("app", "a", "b", "moved", "old", "pulled", "v1")
	report := f.collect()
	if !slices.EqualFunc(report.Tags, dry.Tags, func(a, b hosted.Verdict) bool { return a == b }) {
		t.Error("the dry run said something else")
	}
	f.wantTags("app", "a", "b", "pulled", "v1")
	f.wantTags("keep/app", "a", "b", "moved", "old", "pulled", "v1")
	f.wantTags("deep/er", "a", "b", "moved", "old", "pulled", "v1") // no rule fits
	if _, err := f.r.Resolve(ctx, registry.Ref{Repo: "app", Digest: registrytest.Hello("old", gzipLayer).Desc().Digest}); err != nil {
		t.Errorf("by digest: %v", err)
	}
}

func TestPulls(t *testing.T) {
	f := open(t, hosted.Options{Self: "x.example"})
	ctx := t.Context()
	f.push("app", "1", registrytest.Hello("a", gzipLayer))
	infos := func() store.TagInfo {
		t.Helper()
		list, err := f.s.TagInfos(ctx, store.Repo{Name: "docker.io/library/app"})
		if err != nil || len(list) != 1 {
			t.Fatal(list, err)
		}
		return list[0]
	}
	if got := infos(); !got.Pulled.IsZero() {
		t.Errorf("pulled %s before it was", got.Pulled)
	}
	f.later(time.Hour)
	begin := f.now
	for range 100 {
		if _, err := f.r.Resolve(ctx, ref("app", "1")); err != nil {
			t.Fatal(err)
		}
	}
	if got := infos(); !got.Pulled.IsZero() {
		t.Error("written at once")
	}
	if err := f.r.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	if got := infos(); got.Pulled.Before(begin) || got.Pulled.After(f.now) {
		t.Errorf("pulled %s, want %s", got.Pulled, begin)
	}
	f.later(time.Hour)
	begin = f.now
	if _, err := f.r.Resolve(ctx, ref("app", "1")); err != nil {
		t.Fatal(err)
	}
	if err := f.r.Close(); err != nil {
		t.Fatal(err)
	}
	if got := infos(); got.Pulled.Before(begin) {
		t.Errorf("Close did not write that it was pulled: %s", got.Pulled)
	}
}

func TestRules(t *testing.T) {
	f := open(t, hosted.Options{
		Immutable: []hosted.Tags{{Repos: "app", Tags: "v*"}},
		Quotas:    []hosted.Quota{{Repos: "small/*", Bytes: 3000}, {Repos: "**", Bytes: 1 << 20}},
		MaxBlob:   5000,
	})
	ctx := t.Context()
	a, b := registrytest.Hello("a", gzipLayer), registrytest.Hello("b", gzipLayer)
	f.push("app", "v1", a)
	f.push("app", "v1", a) // the same again is fine
	err := f.tryPush("app", "v1", b)
	wantErr(t, "moving an immutable tag", err, store.ErrFixed)
	wantErr(t, "moving an immutable tag", err, registry.ErrDenied)
	f.push("app", "latest", a)
	f.push("app", "latest", b)
	wantErr(t, "untag of an immutable tag", f.r.Untag(ctx, ref("app", "v1")), registry.ErrDenied)
	wantErr(t, "delete of an immutable tag's manifest", f.r.Delete(ctx, "app", a.Desc().Digest), registry.ErrDenied)
	f.wantTags("app", "latest", "v1")

	big := registrytest.NewBlob("application/octet-stream", make([]byte, 5001))
	wantErr(t, "a blob too large", registrytest.Push(ctx, f.r, "app", big), registry.ErrDenied)
	big.Size = 0
	wantErr(t, "a blob too large of unknown size", registrytest.Push(ctx, f.r, "app", big), registry.ErrDenied)

	f.push("small/x", "1", a)
	used, err := f.r.Used(ctx, "small/x")
	var want int64
	for _, blob := range a.Blobs {
		want += blob.Size
	}
	if err != nil || used != want {
		t.Errorf("%d bytes used, %v; want %d", used, err, want)
	}
	f.push("small/x", "2", a) // counts once
	filler := registrytest.NewBlob("application/octet-stream", make([]byte, 3000-used))
	if err := registrytest.Push(ctx, f.r, "small/x", filler); err != nil {
		t.Fatal(err)
	}
	one := registrytest.NewBlob("application/octet-stream", []byte("x"))
	wantErr(t, "more than the quota", registrytest.Push(ctx, f.r, "small/x", one), store.ErrQuota)
	f.push("app", "other", b)
	wantErr(t, "mount of more than the quota", f.r.Mount(ctx, "small/x", "app", b.Blobs[1].Descriptor), store.ErrQuota)
	if err := registrytest.Push(ctx, f.r, "small/y", one); err != nil {
		t.Error(err)
	}

	ro := hosted.New(f.s, hosted.Options{ReadOnly: true})
	wantErr(t, "push", registrytest.Push(ctx, ro, "app", one), registry.ErrReadOnly)
	wantErr(t, "tag", ro.Tag(ctx, ref("app", "x"), a.Desc()), registry.ErrReadOnly)
	wantErr(t, "untag", ro.Untag(ctx, ref("app", "latest")), registry.ErrReadOnly)
	wantErr(t, "delete", ro.Delete(ctx, "app", b.Desc().Digest), registry.ErrReadOnly)
	wantErr(t, "mount", ro.Mount(ctx, "app", "small/x", a.Blobs[0].Descriptor), registry.ErrReadOnly)
	registrytest.Check(t, ro, "app", a)
}

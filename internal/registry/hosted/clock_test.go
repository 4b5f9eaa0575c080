package hosted_test

import (
	"testing"
	"time"

	"nacre/internal/registry"
	"nacre/internal/registry/hosted"
	"nacre/internal/registry/registrytest"
)

const year = 365 * 24 * time.Hour

// TestClockAhead: what is pushed while the clock is years ahead stays when it is right again, for as long as
// everything else does and not for years, and is in nobody's way.
func TestClockAhead(t *testing.T) {
	f := open(t, hosted.Options{Retention: []hosted.Rule{{Repos: "**", Last: 1}}})
	before, ahead, after := registrytest.Hello("before", gzipLayer), registrytest.Hello("ahead", gzipLayer), registrytest.Hello("after", gzipLayer)
	f.push("app", "before", before)
	f.later(10 * year)
	f.push("app", "ahead", ahead)
	f.push("left", "", registrytest.Hello("left", gzipLayer))
	f.later(-10 * year)
	f.push("app", "after", after)

	r := f.collect()
	f.wantTags("app", "after", "ahead")
	f.wantShown("app", ahead, len(ahead.Blobs))
	f.wantShown("app", after, len(after.Blobs))
	for _, v := range r.Tags {
		if want := map[string]string{"ahead": "pushed when the clock was ahead", "after": "number 1 of the last 1"}[v.Tag]; want != "" && v.Why != want {
			t.Errorf("%s: %s", v.Tag, v.Why)
		}
	}
	f.later(23 * time.Hour)
	f.collect()
	f.wantShown("left", registrytest.Hello("left", gzipLayer), len(ahead.Blobs))
	f.later(2*time.Hour + 23*time.Hour)
	f.collect() // asking what is there has kept it for another grace
	f.later(2 * time.Hour)
	f.collect()
	f.wantShown("left", registrytest.Hello("left", gzipLayer), 0)
	f.push("app", "ahead", ahead) // from now on it is a tag like others
	f.collect()
	f.wantTags("app", "ahead")
}

// TestClockBehind: a machine that starts in 1970 and learns the time while somebody pushes. What has a tag
// stays; a push that the collection came between is refused whole, and succeeds when it is made again.
func TestClockBehind(t *testing.T) {
	f := open(t, hosted.Options{})
	now := f.now
	f.now = time.Unix(60, 0)
	done, half := registrytest.Hello("done", gzipLayer), registrytest.Hello("half", gzipLayer)
	f.push("app", "done", done)
	last := len(half.Blobs) - 1
	f.push("half", "", registrytest.Hello("other", gzipLayer))
	for _, b := range half.Blobs[:last] {
		if err := registrytest.Push(t.Context(), f.r, "half", b); err != nil {
			t.Fatal(err)
		}
	}
	f.collect()
	f.wantShown("half", registrytest.Image{Blobs: half.Blobs[:last]}, last)
	f.later(now.Sub(f.now))
	if _, err := f.r.Resolve(t.Context(), ref("app", "done")); err != nil {
		t.Fatal(err)
	}
	f.collect()
	f.wantShown("app", done, len(done.Blobs))
	wantErr(t, "the rest of the push", f.tryPush("half", "1", registrytest.Image{Blobs: half.Blobs[last:]}), registry.ErrAbsent)
	f.wantTags("half")
	f.push("half", "1", half)
	f.later(-now.Sub(time.Unix(60, 0))) // and back: nothing is due
	f.collect()
	f.wantShown("half", half, len(half.Blobs))
	f.wantShown("app", done, len(done.Blobs))
}

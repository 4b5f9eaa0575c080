package hosted_test

import (
	"fmt"
	"sync"
	"testing"

	"nacre/internal/registry/hosted"
	"nacre/internal/registry/registrytest"
)

// TestConcurrentPushes pushes 200 images at once, half of them the same, into few repositories, while others
// collect and list.
func TestConcurrentPushes(t *testing.T) {
	f := open(t, hosted.Options{})
	name := func(i int) (repo, tag string, img registrytest.Image) {
		content := "same"
		if i%2 == 1 {
			content = fmt.Sprint("own ", i)
		}
		return fmt.Sprint("repo", i%7), fmt.Sprint("tag", i), registrytest.Hello(content, gzipLayer)
	}
	var pushing, beside sync.WaitGroup
	pushed := make(chan struct{})
	beside.Go(func() {
		n := 0
		for range pushed {
			if n++; n%20 > 0 {
				continue
			}
			if _, err := f.r.Collect(t.Context(), hosted.CollectOptions{}); err != nil {
				t.Error(err)
			}
			for _, err := range f.r.Refs(t.Context()) {
				if err != nil {
					t.Error(err)
				}
			}
		}
	})
	for i := range 200 {
		pushing.Go(func() {
			repo, tag, img := name(i)
			if err := f.tryPush(repo, tag, img); err != nil {
				t.Errorf("%s:%s: %v", repo, tag, err)
			}
			pushed <- struct{}{}
		})
	}
	pushing.Wait()
	close(pushed)
	beside.Wait()
	for i := range 200 {
		repo, tag, img := name(i)
		if d, err := f.r.Resolve(t.Context(), ref(repo, tag)); err != nil || d.Digest != img.Desc().Digest {
			t.Errorf("%s:%s: %v, %v", repo, tag, d, err)
		}
		if i%2 == 1 || i < 14 { // the same image is in each repository once
			f.wantShown(repo, img, len(img.Blobs))
		}
	}
	wantSound(t, f.s)
}

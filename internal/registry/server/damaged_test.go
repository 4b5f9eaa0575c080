package server_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"testing"

	"nacre/internal/registry"
	"nacre/internal/registry/registrytest"
	"nacre/internal/registry/server"
	"nacre/internal/registry/server/servertest"
)

// vanishing is a registry whose content is gone when it is to be read.
type vanishing struct {
	*servertest.Strict
	err error
}

func (v vanishing) Open(ctx context.Context, repo string, d registry.Descriptor) (io.ReadCloser, error) {
	return nil, v.err
}

// TestVanished refuses content that cannot be opened, before it promises any.
func TestVanished(t *testing.T) {
	for err, status := range map[error]int{registry.ErrAbsent: 404, errors.New("disk"): 500} {
		r := vanishing{servertest.NewStrict(), err}
		if err := registrytest.Push(t.Context(), r.Strict, "app", blob); err != nil {
			t.Fatal(err)
		}
		want(t, send(t, "GET", serve(t, r, server.Options{}).URL+"/v2/app/blobs/"+string(blob.Digest), ""), status)
	}
}

// damaged is content whose end cannot be read.
type damaged struct{ *servertest.Strict }

func (d damaged) Open(ctx context.Context, repo string, desc registry.Descriptor) (io.ReadCloser, error) {
	rc, err := d.Strict.Open(ctx, repo, desc)
	if err != nil {
		return nil, err
	}
	return struct {
		io.Reader
		io.Closer
	}{io.MultiReader(io.LimitReader(rc, 5), broken{}), rc}, nil
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, registry.ErrDigest }

// TestDamaged never ends content in order that is not whole.
func TestDamaged(t *testing.T) {
	r := damaged{servertest.NewStrict()}
	img := registrytest.Hello("damaged")
	registrytest.Put(t, r, registry.Ref{Repo: "app", Tag: "1"}, img)
	ended := make(observed, 9)
	h := serve(t, r, server.Options{Observe: ended.hook})
	res, err := http.Get(h.URL + "/v2/app/blobs/" + string(img.Blobs[0].Digest))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if got, err := io.ReadAll(res.Body); err == nil {
		t.Errorf("%d bytes came in order", len(got))
	}
	if d := <-ended; !errors.Is(d.Err, registry.ErrDigest) {
		t.Errorf("%+v", d)
	}
	want(t, send(t, "GET", h.URL+"/v2/app/manifests/1", ""), 500)
}

package store_test

import (
	"bytes"
	"testing"

	"github.com/klauspost/compress/zstd"

	"nacre/internal/image"
	"nacre/internal/registry/registrytest"
)

// TestUploadSkippableFrame: a layer of zstd may begin with a frame that decoders skip, as those with a table of their chunks may; it
// is kept to the byte.
func TestUploadSkippableFrame(t *testing.T) {
	tar := registrytest.Tar("file", "content")
	var b bytes.Buffer
	b.WriteString("\x50\x2a\x4d\x18\x04\x00\x00\x00abcd")
	z, err := zstd.NewWriter(&b)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := z.Write(tar); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	s := open(t)
	blob := registrytest.NewBlob(image.TypeLayerZstd, b.Bytes())
	if err := registrytest.Push(t.Context(), s, "", blob); err != nil {
		t.Fatal(err)
	}
	if got, err := registrytest.Get(t.Context(), s, "", blob.Descriptor); err != nil || !bytes.Equal(got, b.Bytes()) {
		t.Errorf("%d of %d bytes, %v", len(got), b.Len(), err)
	}
	wantSound(t, s)
}

package archive

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"nacre/internal/layer"
	"nacre/internal/registry"
)

// Names of files in archives.
const (
	indexFile    = ocispec.ImageIndexFile
	layoutFile   = ocispec.ImageLayoutFile
	manifestFile = "manifest.json"
)

// item is one image in docker's manifest.json.
type item struct {
	Config   string
	RepoTags []string
	Layers   []string // bottom first
}

func blobName(d digest.Digest) string {
	return ocispec.ImageBlobsDir + "/" + string(d.Algorithm()) + "/" + d.Encoded()
}

func checkLayout(data []byte) error {
	var v ocispec.ImageLayout
	if err := json.Unmarshal(data, &v); err != nil {
		return fmt.Errorf("%s: %w: %w", layoutFile, registry.ErrInvalid, err)
	}
	if v.Version != ocispec.ImageLayoutVersion {
		return fmt.Errorf("%s: %w: image layout version %q", layoutFile, registry.ErrUnsupported, v.Version)
	}
	return nil
}

// compression names how r is compressed, "" for not at all.
func compression(r io.ReaderAt, size int64) (string, error) {
	rc, name, err := layer.Decompress(io.NewSectionReader(r, 0, size))
	if err != nil {
		return "", err
	}
	return name, rc.Close()
}

func readCloser(data []byte) io.ReadCloser { return io.NopCloser(bytes.NewReader(data)) }

package archive

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

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

// magics are how compressed files begin.
var magics = [...]struct{ magic, name string }{
	{"\x1f\x8b", "gzip"},
	{"\x28\xb5\x2f\xfd", "zstd"},
	{"\xfd7zXZ\x00", "xz"},
	{"BZh", "bzip2"},
}

// compressed names the compression of what begins with head, "" for none.
func compressed(head []byte) string {
	for _, m := range magics {
		if bytes.HasPrefix(head, []byte(m.magic)) {
			return m.name
		}
	}
	return ""
}

func readCloser(data []byte) io.ReadCloser { return io.NopCloser(bytes.NewReader(data)) }

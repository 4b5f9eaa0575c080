package compressed

import (
	"fmt"
	"strconv"
	"strings"

	"nacre/internal/image"
	"nacre/internal/layer"

	"github.com/containerd/stargz-snapshotter/estargz"
)

// typesOf says whose media types what is made of a manifest has.
func (r *Reader) typesOf(manifest string) Types {
	switch {
	case r.o.Types != AsIs:
		return r.o.Types
	case manifest == image.TypeDockerManifest:
		return Docker
	}
	return OCI
}

func (r *Reader) indexType(index string) string {
	switch r.o.Types {
	case OCI:
		return image.TypeIndex
	case Docker:
		return image.TypeDockerIndex
	}
	return index
}

func (t Types) manifest() string {
	if t == Docker {
		return image.TypeDockerManifest
	}
	return image.TypeManifest
}

func (t Types) config() string {
	if t == Docker {
		return image.TypeDockerConfig
	}
	return image.TypeConfig
}

// layer is the media type of a layer compressed by kind.
func (t Types) layer(kind string) string {
	names := [...]string{image.TypeLayer, image.TypeLayerGzip, image.TypeLayerZstd}
	if t == Docker {
		names = [...]string{image.TypeDockerLayer, image.TypeDockerLayerGzip, image.TypeDockerLayerZstd}
	}
	switch kind {
	case layer.Gzip, layer.EStargz:
		return names[1]
	case layer.Zstd:
		return names[2]
	}
	return names[0]
}

// kindOf says how a layer is compressed, by its descriptor.
func kindOf(d image.Descriptor) string {
	switch kind := image.Compression(d.MediaType); {
	case kind == "":
		return layer.Uncompressed
	case d.Annotations[estargz.TOCJSONDigestAnnotation] != "":
		return layer.EStargz
	default:
		return kind
	}
}

// parseName is the way back from layer.Compression.Name.
func parseName(name string) (c layer.Compression, err error) {
	kind, rest, _ := strings.Cut(name, "-")
	level, _, _ := strings.Cut(rest, ".")
	c.Kind = kind
	if c.Level, err = strconv.Atoi(level); err == nil && c.Level == 0 {
		c.Level = layer.LevelStored
	}
	if err == nil {
		_, err = c.Normal()
	}
	if err == nil && c.Name() != name {
		err = fmt.Errorf("%s is not made any more", name)
	}
	return c, err
}

package image

import (
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Media types of the OCI image spec (media-types.md).
const (
	TypeIndex     = ocispec.MediaTypeImageIndex
	TypeManifest  = ocispec.MediaTypeImageManifest
	TypeConfig    = ocispec.MediaTypeImageConfig
	TypeLayer     = ocispec.MediaTypeImageLayer
	TypeLayerGzip = ocispec.MediaTypeImageLayerGzip
	TypeLayerZstd = ocispec.MediaTypeImageLayerZstd
)

// Media types of docker's image manifest version 2, schema 2, which registries
// and archives still hold. The shapes behind them are those of OCI.
const (
	TypeDockerIndex        = "application/vnd.docker.distribution.manifest.list.v2+json"
	TypeDockerManifest     = "application/vnd.docker.distribution.manifest.v2+json"
	TypeDockerConfig       = "application/vnd.docker.container.image.v1+json"
	TypeDockerLayer        = "application/vnd.docker.image.rootfs.diff.tar"
	TypeDockerLayerGzip    = "application/vnd.docker.image.rootfs.diff.tar.gzip"
	TypeDockerLayerZstd    = "application/vnd.docker.image.rootfs.diff.tar.zstd"
	TypeDockerForeign      = "application/vnd.docker.image.rootfs.foreign.diff.tar"
	TypeDockerForeignGzip  = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
	typeForeign            = "application/vnd.oci.image.layer.nondistributable.v1.tar"
	typeForeignGzip        = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"
	typeForeignZstd        = "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd"
	typeDockerManifestV1   = "application/vnd.docker.distribution.manifest.v1+json"
	typeDockerManifestV1JW = "application/vnd.docker.distribution.manifest.v1+prettyjws"
)

// IsIndex tells whether mediaType is that of a list of manifests.
func IsIndex(mediaType string) bool { return mediaType == TypeIndex || mediaType == TypeDockerIndex }

// IsManifest tells whether mediaType is that of one image's (or artifact's) manifest.
func IsManifest(mediaType string) bool {
	return mediaType == TypeManifest || mediaType == TypeDockerManifest
}

// IsManifestOrIndex tells whether mediaType is that of a manifest or a list of them: what a tag can name.
func IsManifestOrIndex(mediaType string) bool { return IsManifest(mediaType) || IsIndex(mediaType) }

// IsConfig tells whether mediaType is that of a Config.
func IsConfig(mediaType string) bool { return mediaType == TypeConfig || mediaType == TypeDockerConfig }

// IsLayer tells whether mediaType is that of a tar, compressed or not.
func IsLayer(mediaType string) bool { _, ok := compression(mediaType); return ok }

// Compression returns how a layer of the type is compressed: "gzip", "zstd", or
// "" for not at all and for what is no layer.
func Compression(mediaType string) string { c, _ := compression(mediaType); return c }

func compression(mediaType string) (name string, layer bool) {
	switch mediaType {
	case TypeLayer, TypeDockerLayer, TypeDockerForeign, typeForeign:
		return "", true
	case TypeLayerGzip, TypeDockerLayerGzip, TypeDockerForeignGzip, typeForeignGzip:
		return "gzip", true
	case TypeLayerZstd, TypeDockerLayerZstd, typeForeignZstd:
		return "zstd", true
	}
	return "", false
}

// IsForeign tells whether mediaType is that of a layer which may not be
// redistributed: it may be missing where its descriptor has URLs.
func IsForeign(mediaType string) bool {
	switch mediaType {
	case TypeDockerForeign, TypeDockerForeignGzip, typeForeign, typeForeignGzip, typeForeignZstd:
		return true
	}
	return false
}

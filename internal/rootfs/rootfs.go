// Package rootfs turns a chain of layers into a root: read as one fs.FS, without any
// privilege; or mounted, writable or not; and what was written there into the files
// of a new layer.
//
// Roots are mounted in one of two forms. In the index form each layer is an EROFS
// image that points into its tar: nothing is unpacked. Where the kernel or the user
// cannot mount those, each layer is a tree of files on disk. Either way overlayfs
// lays them one on another, with its own rules for what hides what; FS follows the
// same rules, so that all three show the same root.
//
// The package mounts where it is told to and keeps no state. Where layers come from,
// how long they stay and whose mount namespace it is belong to its callers.
package rootfs

import (
	"context"

	"github.com/opencontainers/go-digest"

	"nacre/internal/layer"
)

// Source gives layers by diffID.
type Source interface {
	// Layer opens a layer; the source closes it.
	Layer(ctx context.Context, diffID digest.Digest) (*layer.Layer, error)
	// LayerDir is the directory that holds layer.tar and layer.erofs.
	LayerDir(diffID digest.Digest) string
	// Tree is the directory that holds the layer unpacked (Unpack), made on first
	// need. Its marks are as UserXattr tells.
	Tree(ctx context.Context, diffID digest.Digest) (dir string, err error)
}

// Names of the two files of a layer in its directory.
const (
	indexName = "layer.erofs"
	dataName  = "layer.tar"
)

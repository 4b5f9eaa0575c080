// Package layout keeps images in a directory that is an OCI image layout
// (https://github.com/opencontainers/image-spec/blob/main/image-layout.md), as a
// registry. Other tools may read and write the same directory.
//
// Several processes may use one layout at once: changes of index.json are made under a lock
// on the file oci-layout, and every file appears whole or not at all. Content of
// any number of repositories is one set of blobs.
package layout

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"nacre/internal/image"
	"nacre/internal/registry"
)

// Layout is a registry in a directory.
type Layout struct{ dir string }

// Open uses the layout in dir. Errors: fs.ErrNotExist where there is none,
// registry.ErrInvalid, registry.ErrUnsupported (another version).
func Open(dir string) (*Layout, error) {
	data, err := readFile(filepath.Join(dir, ocispec.ImageLayoutFile), 4096)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s is not an OCI image layout: %w", dir, err)
	}
	if err != nil {
		return nil, err
	}
	if err := checkVersion(data); err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Join(dir, ocispec.ImageLayoutFile), err)
	}
	l := &Layout{dir: dir}
	if _, err := l.names(); err != nil {
		return nil, err
	}
	return l, nil
}

// Create opens the layout in dir, or makes one there if dir is absent or empty.
func Create(dir string) (*Layout, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	switch l, err := Open(dir); {
	case err == nil:
		l.sweep()
		return l, nil
	case !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}
	if err := checkFresh(dir); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Join(dir, ocispec.ImageBlobsDir, string(digest.SHA256)), 0o755); err != nil {
		return nil, err
	}
	// index.json comes first: once oci-layout is there the layout is whole. Where
	// another process does the same, whoever is first makes each file.
	names, err := registry.Names{}.Marshal()
	if err != nil {
		return nil, err
	}
	version, err := image.Marshal(ocispec.ImageLayout{Version: ocispec.ImageLayoutVersion})
	if err != nil {
		return nil, err
	}
	if err := makeFile(dir, ocispec.ImageIndexFile, names); err != nil {
		return nil, err
	}
	if err := makeFile(dir, ocispec.ImageLayoutFile, version); err != nil {
		return nil, err
	}
	return Open(dir)
}

// checkFresh refuses to turn a directory of other things into a layout. What an
// interrupted Create leaves is fine.
func checkFresh(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if n := e.Name(); n != ocispec.ImageBlobsDir && n != ocispec.ImageIndexFile && !isTemp(n) {
			return fmt.Errorf("%s is neither empty nor an OCI image layout: it has %q", dir, n)
		}
	}
	return nil
}

func checkVersion(data []byte) error {
	var v ocispec.ImageLayout
	if err := json.Unmarshal(data, &v); err != nil {
		return fmt.Errorf("%w: %w", registry.ErrInvalid, err)
	}
	if v.Version != ocispec.ImageLayoutVersion {
		return fmt.Errorf("%w: image layout version %q", registry.ErrUnsupported, v.Version)
	}
	return nil
}

// names reads index.json.
func (l *Layout) names() (registry.Names, error) {
	path := filepath.Join(l.dir, ocispec.ImageIndexFile)
	data, err := readFile(path, registry.MaxNames)
	if err != nil {
		return registry.Names{}, err
	}
	n, err := registry.ParseNames(data)
	if err != nil {
		return registry.Names{}, fmt.Errorf("%s: %w", l.dir, err)
	}
	return n, nil
}

// blobPath is where the content of d is kept. d has been validated: nothing in it
// has a meaning in a path.
func (l *Layout) blobPath(d digest.Digest) string {
	return filepath.Join(l.dir, ocispec.ImageBlobsDir, string(d.Algorithm()), d.Encoded())
}

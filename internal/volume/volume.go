// Package volume turns what a user says of a container's mounts into values, keeps volumes, and makes of both
// what a sandbox mounts.
//
// A Mount is one mount asked for: by -v, --mount, --tmpfs, --volumes-from or the image. Volumes are the named
// directories of a store that outlive containers. Resolve makes mounts parts of a sandbox.Config when the
// container starts; nothing is mounted on the host.
//
// What is said and how errors are worded follows docker, whose users' fingers know it.
package volume

import (
	"errors"
	"fmt"
	"path"
	"strings"
	"unicode/utf8"

	"github.com/opencontainers/go-digest"
)

// Types of mounts.
const (
	TypeBind   = "bind"
	TypeVolume = "volume"
	TypeTmpfs  = "tmpfs"
	TypeImage  = "image"
)

// Ways of Mount.Recursive.
const (
	RecursiveDisabled = "disabled" // what is mounted below the source is not seen
	RecursiveWritable = "writable" // of a read-only mount, what is mounted below stays as it is
	RecursiveReadonly = "readonly" // of a read-only mount, what is mounted below is read-only or nothing is
)

// Mount is one mount that was asked for. It is kept as JSON, whose names are stable.
type Mount struct {
	Type string `json:"type"`
	// Source is an absolute path of the host (bind), a volume's name (empty: one is made, see Anonymous), or an
	// image's name. Of a tmpfs it is empty.
	Source   string `json:"source,omitempty"`
	Target   string `json:"target"` // absolute and clean, never "/"
	ReadOnly bool   `json:"readOnly,omitempty"`
	// Flag is what asked for it: "volume", "mount", "tmpfs" or "image" (its VOLUME).
	Flag string `json:"flag,omitempty"`
	// Mode is what -v says after the last colon.
	Mode string `json:"mode,omitempty"`

	// Of binds.
	Propagation  string `json:"propagation,omitempty"` // rprivate (the same as empty), private, rslave, slave, rshared, shared
	Recursive    string `json:"recursive,omitempty"`   // empty: all of it, and as read-only as the kernel makes it
	CreateSource bool   `json:"createSource,omitempty"`

	// Of volumes; Subpath of images, too.
	Anonymous bool              `json:"anonymous,omitempty"` // made for this container alone, goes with it if so told
	NoCopy    bool              `json:"noCopy,omitempty"`    // is not filled with what the image has there
	Subpath   string            `json:"subpath,omitempty"`   // what is mounted of it; relative
	Driver    string            `json:"driver,omitempty"`
	Labels    map[string]string `json:"labels,omitempty"`  // of a volume that is made
	Options   map[string]string `json:"options,omitempty"` // the same

	// Of a tmpfs.
	Size         int64    `json:"size,omitempty"`         // bytes; 0 is half of the memory
	Perm         *uint32  `json:"perm,omitempty"`         // mode bits of its root
	TmpfsOptions []string `json:"tmpfsOptions,omitempty"` // as given by --tmpfs, checked

	// Of an image: what its name stood for when the container was made, the manifest and its diffIDs, bottom first.
	ImageID string          `json:"imageID,omitempty"`
	Layers  []digest.Digest `json:"layers,omitempty"`
}

// Flags are the command line's values, as they are.
type Flags struct {
	Volumes, Mounts, Tmpfs, VolumesFrom []string
}

// Parse reads all of them, but for VolumesFrom. Errors name the flag and the value.
func (f Flags) Parse() ([]Mount, error) {
	var out []Mount
	for _, kind := range []struct {
		flag   string
		values []string
		parse  func(string) (Mount, error)
	}{{"volume", f.Volumes, ParseVolume}, {"mount", f.Mounts, ParseMount}, {"tmpfs", f.Tmpfs, ParseTmpfs}} {
		for _, value := range kind.values {
			m, err := kind.parse(value)
			if err != nil {
				return nil, fmt.Errorf("--%s %q: %w", kind.flag, value, err)
			}
			if at, ok := find(out, m.Target); ok && !sameAnonymous(out[at], m) {
				return nil, fmt.Errorf("--%s %q: duplicate mount point: %s", kind.flag, value, m.Target)
			} else if ok {
				continue
			}
			out = append(out, m)
		}
	}
	return out, nil
}

// sameAnonymous tells whether both ask for nothing but some volume: docker keeps those as a set.
func sameAnonymous(a, b Mount) bool { return a.isBare() && b.isBare() }

func (m Mount) isBare() bool {
	return m.Type == TypeVolume && m.Source == "" && m.Flag == "volume"
}

func find(list []Mount, target string) (int, bool) {
	for i := range list {
		if list[i].Target == target {
			return i, true
		}
	}
	return 0, false
}

// errMissing is of a value that lacks a part.
var errMissing = errors.New("something is missing: want HOST:CONTAINER[:OPTIONS], VOLUME:CONTAINER[:OPTIONS] or CONTAINER")

// readable refuses what a container's record, which is JSON, could not give back as it was.
func readable(values ...string) error {
	for _, s := range values {
		if !utf8.ValidString(s) {
			return fmt.Errorf("%q is not UTF-8", short(s))
		}
	}
	return nil
}

// cleanTarget checks where something is to be mounted.
func cleanTarget(p string) (string, error) {
	switch {
	case p == "":
		return "", errors.New("target is required")
	case strings.IndexByte(p, 0) >= 0:
		return "", errors.New("invalid mount path: there is a NUL in it")
	case !utf8.ValidString(p):
		return "", fmt.Errorf("invalid mount path: %q is not UTF-8", short(p))
	case !path.IsAbs(p):
		return "", fmt.Errorf("invalid mount path: '%s' mount path must be absolute", p)
	}
	p = path.Clean(p)
	if p == "/" {
		return "", errors.New("invalid specification: destination can't be '/'")
	}
	return p, nil
}

package manifest

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"nacre/internal/image"
	"nacre/internal/registry"

	"github.com/opencontainers/go-digest"
)

// Platform changes what a list says of an entry's platform. What is empty stays.
type Platform struct {
	OS, Architecture, Variant, OSVersion string
	OSFeatures                           []string
	Annotations                          map[string]string
}

// IsZero tells whether p changes nothing.
func (p Platform) IsZero() bool {
	return p.OS+p.Architecture+p.Variant+p.OSVersion == "" && len(p.OSFeatures) == 0 && len(p.Annotations) == 0
}

// Annotate returns x with an entry changed. Errors: ErrUnlisted; registry.ErrInvalid for a platform that nothing runs on.
func (x List) Annotate(d digest.Digest, p Platform) (List, error) {
	i := x.index(d)
	if i < 0 {
		return x, fmt.Errorf("%s: %w %s", d, ErrUnlisted, x.Name.Familiar())
	}
	x = x.clone()
	m := &x.Index.Manifests[i]
	m.Platform = p.apply(m.Platform)
	if known := platforms(); !known[m.Platform.OS+"/"+m.Platform.Architecture] {
		return x, fmt.Errorf("manifest entry for image has unsupported os/arch combination: %s/%s: %w", m.Platform.OS, m.Platform.Architecture, registry.ErrInvalid)
	}
	if len(p.Annotations) > 0 {
		notes := map[string]string{}
		maps.Copy(notes, m.Annotations)
		maps.Copy(notes, p.Annotations)
		m.Annotations = notes
	}
	return x, nil
}

func (p Platform) apply(old *image.Platform) *image.Platform {
	var now image.Platform
	if old != nil {
		now = *old
	}
	for _, f := range []struct {
		to   *string
		text string
	}{{&now.OS, p.OS}, {&now.Architecture, p.Architecture}, {&now.Variant, p.Variant}, {&now.OSVersion, p.OSVersion}} {
		if f.text != "" {
			*f.to = f.text
		}
	}
	features := slices.Clone(now.OSFeatures)
	for _, f := range p.OSFeatures {
		if !slices.Contains(features, f) {
			features = append(features, f)
		}
	}
	now.OSFeatures = features
	return &now
}

// platforms are those that Go names (go.dev/doc/install/source), and so images.
func platforms() map[string]bool {
	all := map[string]bool{}
	for _, line := range []string{
		"aix ppc64", "android 386 amd64 arm arm64", "darwin 386 amd64 arm arm64", "dragonfly amd64",
		"freebsd 386 amd64 arm arm64 riscv64", "illumos amd64", "ios amd64 arm64", "js wasm",
		"linux 386 amd64 arm arm64 loong64 mips mipsle mips64 mips64le ppc64 ppc64le riscv64 s390x sparc64",
		"netbsd 386 amd64 arm arm64", "openbsd 386 amd64 arm arm64 mips64 ppc64 riscv64", "plan9 386 amd64 arm",
		"solaris amd64", "wasi wasm", "wasip1 wasm", "windows 386 amd64 arm arm64", "unknown unknown",
	} {
		words := strings.Fields(line)
		for _, arch := range words[1:] {
			all[words[0]+"/"+arch] = true
		}
	}
	return all
}

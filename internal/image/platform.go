package image

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
)

// ErrNoPlatform: an index has nothing for the platform asked for.
var ErrNoPlatform = errors.New("no image for the platform")

// DefaultPlatform is that of images this machine runs.
func DefaultPlatform() Platform {
	return normal(Platform{OS: "linux", Architecture: runtime.GOARCH})
}

// ParsePlatform reads "linux/arm64/v8", "linux/amd64" or only "arm64" (of linux).
func ParsePlatform(s string) (Platform, error) {
	parts := strings.Split(strings.ToLower(s), "/")
	for _, p := range parts {
		if p == "" || strings.Trim(p, "abcdefghijklmnopqrstuvwxyz0123456789_.-") != "" {
			return Platform{}, fmt.Errorf("invalid platform %q: want os/architecture or os/architecture/variant", s)
		}
	}
	var p Platform
	switch len(parts) {
	case 1:
		p = Platform{OS: "linux", Architecture: parts[0]}
		if p.Architecture == "linux" {
			p = DefaultPlatform()
		}
	case 2:
		p = Platform{OS: parts[0], Architecture: parts[1]}
	case 3:
		p = Platform{OS: parts[0], Architecture: parts[1], Variant: parts[2]}
	default:
		return Platform{}, fmt.Errorf("invalid platform %q: want os/architecture or os/architecture/variant", s)
	}
	return normal(p), nil
}

// FormatPlatform is "os/architecture" or "os/architecture/variant".
func FormatPlatform(p Platform) string {
	s := p.OS + "/" + p.Architecture
	if p.Variant != "" {
		s += "/" + p.Variant
	}
	return s
}

// AboutAnnotation names, in an index, the image that an attestation beside it is about, as BuildKit writes it
// (docs/attestations/attestation-storage.md).
const AboutAnnotation = "vnd.docker.reference.digest"

// MatchPlatform picks from an index what runs on p best: the same variant, else the
// highest lower one (an arm/v7 machine runs arm/v6). Entries without platform count only where
// there is but one. Errors: ErrNoPlatform, naming what there is.
func MatchPlatform(x Index, p Platform) (Descriptor, error) {
	want := normal(p)
	best, rank := -1, -1
	var have []string
	for i, d := range x.Manifests {
		if d.Platform == nil || d.Platform.OS == "unknown" {
			continue // "unknown" is how attestations are kept in an index
		}
		have = append(have, FormatPlatform(*d.Platform))
		if r := fit(normal(*d.Platform), want); r > rank {
			best, rank = i, r
		}
	}
	if best >= 0 {
		return x.Manifests[best], nil
	}
	if len(x.Manifests) == 1 && x.Manifests[0].Platform == nil {
		return x.Manifests[0], nil
	}
	return Descriptor{}, fmt.Errorf("%w %s: the index has %s", ErrNoPlatform, FormatPlatform(p), orNone(have))
}

// fit tells how well an image of platform have runs on want; negative: not at all.
func fit(have, want Platform) int {
	if have.OS != want.OS || have.Architecture != want.Architecture {
		return -1
	}
	h, w := level(have.Variant), level(want.Variant)
	if h < 0 || w < 0 { // variants of unknown order
		if have.Variant == want.Variant {
			return 1
		}
		return -1
	}
	if h > w {
		return -1
	}
	return h
}

// level is n of a variant "vN", 0 for none, -1 for anything else.
func level(variant string) int {
	if variant == "" {
		return 0
	}
	if len(variant) == 2 && variant[0] == 'v' && variant[1] >= '1' && variant[1] <= '9' {
		return int(variant[1] - '0')
	}
	return -1
}

// normal gives equal platforms equal names, by containerd's rules
// (https://github.com/containerd/platforms, database.go).
func normal(p Platform) Platform {
	p.OS, p.Architecture, p.Variant = strings.ToLower(p.OS), strings.ToLower(p.Architecture), strings.ToLower(p.Variant)
	switch p.OS {
	case "macos":
		p.OS = "darwin"
	case "":
		p.OS = "linux"
	}
	switch p.Architecture {
	case "i386":
		p.Architecture = "386"
	case "x86_64", "x86-64":
		p.Architecture = "amd64"
	case "aarch64":
		p.Architecture = "arm64"
	case "armhf":
		p.Architecture, p.Variant = "arm", "v7"
	case "armel":
		p.Architecture, p.Variant = "arm", "v6"
	}
	switch {
	case p.Architecture == "amd64" && p.Variant == "v1", p.Architecture == "arm64" && (p.Variant == "v8" || p.Variant == "8"):
		p.Variant = ""
	case p.Architecture == "arm" && p.Variant == "":
		p.Variant = "v7"
	case p.Architecture == "arm" && len(p.Variant) == 1:
		p.Variant = "v" + p.Variant
	}
	return p
}

func orNone(have []string) string {
	if len(have) == 0 {
		return "none"
	}
	return strings.Join(have, ", ")
}

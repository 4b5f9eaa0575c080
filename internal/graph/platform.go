package graph

import (
	"fmt"
	"runtime"
	"strings"

	"nacre/internal/image"
)

// buildPlatform is what this program runs on.
func buildPlatform() image.Platform {
	return normalize(image.Platform{OS: runtime.GOOS, Architecture: runtime.GOARCH})
}

// parsePlatform reads os[/arch[/variant]], os(version) aside, or an architecture
// alone, as people write them.
func parsePlatform(s string) (image.Platform, error) {
	parts := strings.Split(s, "/")
	for _, p := range parts {
		if p == "" || strings.Trim(p, nameBytes+"-.()+") != "" {
			return image.Platform{}, fmt.Errorf("%q is not a platform", s)
		}
	}
	switch len(parts) {
	case 1:
		if p := normalize(image.Platform{OS: parts[0]}); knownOS(p.OS) {
			p.Architecture = runtime.GOARCH
			return p, nil
		}
		p := normalize(image.Platform{OS: runtime.GOOS, Architecture: parts[0]})
		if !knownArch(p.Architecture) {
			return image.Platform{}, fmt.Errorf("%q is neither an operating system nor an architecture", s)
		}
		return p, nil
	case 2:
		return normalize(image.Platform{OS: parts[0], Architecture: parts[1]}), nil
	case 3:
		return normalize(image.Platform{OS: parts[0], Architecture: parts[1], Variant: parts[2]}), nil
	}
	return image.Platform{}, fmt.Errorf("%q is not a platform: it is os/arch/variant", s)
}

// normalize gives the names Go and the OCI image index use, as containerd does:
// x86_64 is amd64, arm64/v8 is arm64, arm is arm/v7.
func normalize(p image.Platform) image.Platform {
	p.OS = strings.ToLower(p.OS)
	if p.OS == "macos" {
		p.OS = "darwin"
	}
	p.Architecture, p.Variant = strings.ToLower(p.Architecture), strings.ToLower(p.Variant)
	switch p.Architecture {
	case "i386":
		p.Architecture, p.Variant = "386", ""
	case "x86_64", "x86-64", "amd64":
		p.Architecture = "amd64"
		if p.Variant == "v1" {
			p.Variant = ""
		}
	case "aarch64", "arm64":
		p.Architecture = "arm64"
		if p.Variant == "8" || p.Variant == "v8" {
			p.Variant = ""
		}
	case "armhf":
		p.Architecture, p.Variant = "arm", "v7"
	case "armel":
		p.Architecture, p.Variant = "arm", "v6"
	case "arm":
		switch p.Variant {
		case "", "7":
			p.Variant = "v7"
		case "5", "6", "8":
			p.Variant = "v" + p.Variant
		}
	}
	return p
}

func knownOS(s string) bool {
	switch s {
	case "linux", "windows", "darwin", "freebsd", "netbsd", "openbsd", "solaris", "illumos", "plan9", "wasip1", "aix", "android", "dragonfly", "js":
		return true
	}
	return false
}

func knownArch(s string) bool {
	switch s {
	case "386", "amd64", "arm", "arm64", "loong64", "mips", "mipsle", "mips64", "mips64le", "ppc64", "ppc64le", "riscv64", "s390x", "wasm":
		return true
	}
	return false
}

// formatPlatform is os/arch/variant.
func formatPlatform(p image.Platform) string {
	s := p.OS + "/" + p.Architecture
	if p.Variant != "" {
		s += "/" + p.Variant
	}
	return s
}

// samePlatform tells whether programs for one run as such on the other.
func samePlatform(a, b image.Platform) bool {
	a, b = normalize(a), normalize(b)
	return a.OS == b.OS && a.Architecture == b.Architecture && (a.Variant == b.Variant || a.Variant == "" || b.Variant == "")
}

package graph

import "nacre/internal/image"

// normalize gives equal platforms equal names: x86_64 is amd64, arm64/v8 is arm64.
func normalize(p image.Platform) image.Platform {
	n, err := image.ParsePlatform(image.FormatPlatform(p))
	if err != nil {
		return p // a base image's own affair
	}
	n.OSVersion, n.OSFeatures = p.OSVersion, p.OSFeatures
	return n
}

// samePlatform tells whether programs for one run as such on the other.
func samePlatform(a, b image.Platform) bool {
	a, b = normalize(a), normalize(b)
	return a.OS == b.OS && a.Architecture == b.Architecture && (a.Variant == b.Variant || a.Variant == "" || b.Variant == "")
}

package layer

import (
	"fmt"
	"strings"
)

const (
	maxName      = 4096 // bytes of a path, PATH_MAX of Linux
	maxComponent = 255  // bytes of one component, NAME_MAX of Linux

	// Whiteouts of the OCI image spec (layer.md).
	whiteoutPrefix = ".wh."
	whiteoutOpaque = ".wh..wh..opq"
	whiteoutMeta   = ".wh..wh." // what AUFS kept for itself
)

// Less is the canonical order of names: by components, byte-wise, so that a
// directory comes right before what is in it. The root "." comes first.
func Less(a, b string) bool { return compareNames(a, b) < 0 }

func compareNames(a, b string) int {
	if a == b {
		return 0
	}
	if a == "." || b == "." {
		if a == "." {
			return -1
		}
		return 1
	}
	n := min(len(a), len(b))
	for i := range n {
		if a[i] != b[i] {
			return orderByte(a[i]) - orderByte(b[i])
		}
	}
	return len(a) - len(b)
}

// orderByte puts the separator before all that can be in a component.
func orderByte(c byte) int {
	if c == '/' {
		return 0
	}
	return int(c) + 1
}

// cleanName turns a name found in an archive into an Entry.Name. As docker and
// containerd do, leading slashes are dropped and dots resolved; names that
// climb out of the root are refused.
func cleanName(name string) (string, error) {
	switch {
	case len(name) > maxName:
		return "", longName(name)
	case strings.IndexByte(name, 0) >= 0:
		return "", fmt.Errorf("entry %q: NUL in name: %w", name, ErrFormat)
	case isClean(name):
		return name, nil
	}
	parts := make([]string, 0, 16)
	for part := range strings.SplitSeq(name, "/") {
		switch {
		case part == "" || part == ".":
		case part == "..":
			if len(parts) == 0 {
				return "", fmt.Errorf("entry %q: leaves the root by \"..\": %w", name, ErrUnsafe)
			}
			parts = parts[:len(parts)-1]
		case len(part) > maxComponent:
			return "", longComponent(name, part)
		default:
			parts = append(parts, part)
		}
	}
	if len(parts) == 0 {
		return ".", nil
	}
	return strings.Join(parts, "/"), nil
}

// isClean reports whether name is an Entry.Name as it stands: "." or components
// of 1 to 255 bytes, none of them "." or "..".
func isClean(name string) bool {
	if name == "." {
		return true
	}
	if name == "" || len(name) > maxName {
		return false
	}
	start := 0
	for i := 0; i <= len(name); i++ {
		if i < len(name) && name[i] != '/' {
			if name[i] == 0 {
				return false
			}
			continue
		}
		switch n := i - start; {
		case n == 0, n > maxComponent,
			n == 1 && name[start] == '.',
			n == 2 && name[start] == '.' && name[start+1] == '.':
			return false
		}
		start = i + 1
	}
	return true
}

// checkClean says why name is not an Entry.Name as it stands.
func checkClean(name string) error {
	switch {
	case isClean(name):
		return nil
	case len(name) > maxName:
		return longName(name)
	}
	for part := range strings.SplitSeq(name, "/") {
		if len(part) > maxComponent {
			return longComponent(name, part)
		}
	}
	return fmt.Errorf("entry %q: not a clean name: %w", name, ErrFormat)
}

func longName(name string) error {
	return fmt.Errorf("entry %q: name of %d bytes, %d are allowed: %w", shorten(name), len(name), maxName, ErrFormat)
}

func longComponent(name, part string) error {
	return fmt.Errorf("entry %q: component %q of %d bytes, %d are allowed: %w", shorten(name), shorten(part), len(part), maxComponent, ErrFormat)
}

// shorten keeps messages about names that are too long readable.
func shorten(name string) string {
	if len(name) <= maxComponent {
		return name
	}
	return name[:40] + "..." + name[len(name)-20:]
}

// splitName returns the parent and the last component of a clean name.
func splitName(name string) (parent, base string) {
	if i := strings.LastIndexByte(name, '/'); i >= 0 {
		return name[:i], name[i+1:]
	}
	return ".", name
}

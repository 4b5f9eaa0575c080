package volume

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
)

// ParseVolume reads a value of -v: HOST:CONTAINER[:OPTIONS], VOLUME:CONTAINER[:OPTIONS] or CONTAINER alone, which
// asks for a volume of its own. A HOST that begins with a dot is relative to the working directory.
func ParseVolume(s string) (Mount, error) {
	parts := strings.Split(s, ":")
	if slices.Contains(parts, "") {
		return Mount{}, errMissing
	}
	m := Mount{Type: TypeVolume, Flag: "volume"}
	target := ""
	switch len(parts) {
	case 1:
		target = parts[0]
	case 2, 3:
		if len(parts) == 2 && validMode(parts[1]) {
			// Docker refuses "/ctr:ro" rather than making a volume of that name.
			return Mount{}, fmt.Errorf("invalid volume specification: %q has options and nothing to mount", s)
		}
		target = parts[1]
		if err := m.from(parts[0]); err != nil {
			return Mount{}, err
		}
	default:
		return Mount{}, errors.New("invalid volume specification: too many colons; --mount takes paths with colons")
	}
	var err error
	if m.Target, err = cleanTarget(target); err != nil {
		return Mount{}, err
	}
	if len(parts) == 3 {
		if err := m.applyMode(parts[2]); err != nil {
			return Mount{}, err
		}
	}
	return m, nil
}

// from takes the part before the first colon: a path or a volume's name.
func (m *Mount) from(source string) error {
	first, _, _ := strings.Cut(source, "/")
	switch {
	case strings.HasPrefix(source, "~"):
		return fmt.Errorf("%s is for the shell to expand, which did not: write $HOME", first)
	case first == "" || first == "." || first == "..":
		host, err := filepath.Abs(source)
		m.Type, m.Source, m.CreateSource = TypeBind, host, true
		return errors.Join(err, readable(host))
	}
	if err := CheckName(source); err != nil {
		return fmt.Errorf("%w; for a path of the host write ./%s", err, source)
	}
	m.Source = source
	return nil
}

// modeKinds are the options of -v, of each kind of which one may be given.
func modeKind(option string) string {
	switch option {
	case "ro", "rw":
		return "access"
	case "z", "Z":
		return "label"
	case "nocopy":
		return "copy"
	case "consistent", "cached", "delegated":
		return "consistency"
	case "shared", "rshared", "slave", "rslave", "private", "rprivate":
		return "propagation"
	}
	return ""
}

// validMode tells whether s is nothing but options.
func validMode(s string) bool {
	seen := map[string]bool{}
	for o := range strings.SplitSeq(s, ",") {
		kind := modeKind(o)
		if kind == "" || seen[kind] {
			return false
		}
		seen[kind] = true
	}
	return true
}

// applyMode takes the options of a -v value. z and Z ask for SELinux labels and cached and its like for macOS; there is nothing to do for them.
func (m *Mount) applyMode(mode string) error {
	if !validMode(mode) {
		return fmt.Errorf("invalid mode: %s: want ro or rw, z or Z, nocopy, and one of rshared, rslave, rprivate, shared, slave, private", mode)
	}
	m.Mode = mode
	for o := range strings.SplitSeq(mode, ",") {
		switch modeKind(o) {
		case "access":
			m.ReadOnly = o == "ro"
		case "copy":
			if m.Type == TypeBind {
				return errors.New("invalid mode: nocopy is for volumes, and this is a directory of the host")
			}
			m.NoCopy = true
		case "propagation":
			if m.Type == TypeVolume {
				return fmt.Errorf("invalid mode: %s is for directories of the host, and this is a volume", o)
			}
			m.Propagation = o
		}
	}
	return nil
}

// maxName is the longest name a file can have (NAME_MAX).
const maxName = 255

// CheckName tells whether s can be a volume's name, as docker has it.
func CheckName(s string) error {
	if s == "" {
		return errors.New("volume name is empty")
	}
	for i, c := range []byte(s) {
		word := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		if !word && (i == 0 || !strings.ContainsRune("_.-", rune(c))) {
			return fmt.Errorf("%q includes invalid characters for a local volume name, only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed", short(s))
		}
	}
	switch {
	case len(s) < 2:
		return errors.New("volume name is too short, names should be at least two alphanumeric characters")
	case len(s) > maxName:
		return fmt.Errorf("volume name %q is too long: %d bytes, and %d is the most", short(s), len(s), maxName)
	}
	return nil
}

// short keeps an absurd name from filling the screen.
func short(s string) string {
	if len(s) > 64 {
		return s[:61] + "..."
	}
	return s
}

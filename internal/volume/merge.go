package volume

import (
	"cmp"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
)

// ParseFrom reads a value of --volumes-from: CONTAINER[:OPTIONS].
func ParseFrom(s string) (container string, readOnly bool, err error) {
	container, mode, has := strings.Cut(s, ":")
	if container == "" {
		return "", false, fmt.Errorf("invalid volumes-from: %q names no container", s)
	}
	if !has {
		return container, false, nil
	}
	if !validMode(mode) {
		return "", false, fmt.Errorf("invalid mode for volumes-from: %q", mode)
	}
	for o := range strings.SplitSeq(mode, ",") {
		switch modeKind(o) {
		case "copy", "propagation":
			return "", false, fmt.Errorf("invalid mode for volumes-from: %q", mode)
		}
		readOnly = readOnly || o == "ro"
	}
	return container, readOnly, nil
}

// Merge puts all mounts of a container together, those of later sources giving way: what the flags ask for (Flags.Parse),
// then what other containers have (--volumes-from, looked up by mountsOf), then the image's VOLUMEs. The result is in the order of mounting.
func (f Flags) Merge(explicit []Mount, mountsOf func(container string) ([]Mount, error), imageVolumes map[string]struct{}) ([]Mount, error) {
	out := slices.Clone(explicit)
	for _, value := range f.VolumesFrom {
		name, readOnly, err := ParseFrom(value)
		if err != nil {
			return nil, fmt.Errorf("--volumes-from %q: %w", value, err)
		}
		list, err := mountsOf(name)
		if err != nil {
			return nil, fmt.Errorf("--volumes-from %q: %w", value, err)
		}
		out = inherit(out, list, readOnly)
	}
	for _, target := range slices.Sorted(maps.Keys(imageVolumes)) {
		clean, err := cleanTarget(target)
		if err != nil {
			return nil, fmt.Errorf("the image's volume %q: %w", short(target), err)
		}
		if _, ok := find(out, clean); !ok {
			out = append(out, Mount{Type: TypeVolume, Target: clean, Flag: "image"})
		}
	}
	Sort(out)
	return out, nil
}

// inherit adds another container's binds and volumes. A bare -v PATH gives way to them, as in docker.
func inherit(out, list []Mount, readOnly bool) []Mount {
	for _, m := range list {
		if m.Type != TypeBind && m.Type != TypeVolume {
			continue
		}
		m.ReadOnly = m.ReadOnly || readOnly
		m.Anonymous, m.NoCopy, m.Flag = false, true, "from" // it is the other's, and was filled for it
		at, ok := find(out, m.Target)
		switch {
		case !ok:
			out = append(out, m)
		case out[at].isBare():
			out[at] = m
		}
	}
	return out
}

// Sort brings mounts into the order in which they are made: what lies below another comes after it.
func Sort(list []Mount) {
	slices.SortStableFunc(list, func(a, b Mount) int {
		return cmp.Compare(strings.Count(path.Clean(a.Target), "/"), strings.Count(path.Clean(b.Target), "/"))
	})
}

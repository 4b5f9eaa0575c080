package container

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"nacre/internal/rootfs"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// bindMounts reads the values of -v; root is what they will be mounted in. What
// is mounted below another comes after it.
func bindMounts(volumes []string, root *rootfs.FS) ([]specs.Mount, error) {
	var mounts []specs.Mount
	for _, v := range volumes {
		m, err := bindMount(v, root)
		if err != nil {
			return nil, fmt.Errorf("--volume %q: %w", v, err)
		}
		if slices.ContainsFunc(mounts, func(o specs.Mount) bool { return o.Destination == m.Destination }) {
			return nil, fmt.Errorf("--volume %q: something else is mounted on %s already", v, m.Destination)
		}
		mounts = append(mounts, m)
	}
	slices.SortStableFunc(mounts, func(x, y specs.Mount) int {
		return cmp.Compare(strings.Count(x.Destination, "/"), strings.Count(y.Destination, "/"))
	})
	return mounts, nil
}

// bindMount reads a -v value: HOST:CONTAINER with options ro, rw and propagation.
// A host directory that is missing is made, as docker does.
func bindMount(v string, root *rootfs.FS) (specs.Mount, error) {
	parts := strings.Split(v, ":")
	switch {
	case slices.Contains(parts, ""):
		return specs.Mount{}, errors.New("something is missing: want HOST:CONTAINER[:ro]")
	case len(parts) == 1:
		return specs.Mount{}, errors.New("volumes without a host path do not exist yet: want HOST:CONTAINER[:ro]")
	case len(parts) > 3:
		return specs.Mount{}, errors.New("too many colons: want HOST:CONTAINER[:ro]")
	case !path.IsAbs(parts[1]):
		return specs.Mount{}, fmt.Errorf("%s is not absolute: want HOST:CONTAINER[:ro]", parts[1])
	case path.Clean(parts[1]) == "/":
		return specs.Mount{}, errors.New("the whole root cannot be mounted over: mount on a folder in it")
	}
	host, err := hostPath(parts[0])
	if err != nil {
		return specs.Mount{}, err
	}
	m := specs.Mount{Destination: path.Clean(parts[1]), Source: host, Type: "bind", Options: []string{"rbind"}}
	if len(parts) == 3 {
		if m.Options, err = bindOptions(m.Options, parts[2]); err != nil {
			return specs.Mount{}, err
		}
	}
	return m, sameKind(m, root)
}

// AbsVolume is a value of -v with its host's part made absolute.
func AbsVolume(v string) (string, error) {
	host, rest, ok := strings.Cut(v, ":")
	if !ok || host == "" {
		return v, nil // bindMount says what is wrong with it
	}
	if err := plainPath(host); err != nil {
		return "", fmt.Errorf("--volume %q: %w", v, err)
	}
	host, err := filepath.Abs(host)
	return host + ":" + rest, err
}

// plainPath refuses what is no path of the host.
func plainPath(p string) error {
	first, _, _ := strings.Cut(p, "/")
	switch {
	case strings.HasPrefix(p, "~"):
		return fmt.Errorf("%s is for the shell to expand, which did not: write $HOME", first)
	case first != "" && first != "." && first != "..":
		return fmt.Errorf("named volumes do not exist yet: give a path, such as ./%s", p)
	}
	return nil
}

// hostPath makes the host's part absolute, and the directory where there is none.
func hostPath(p string) (string, error) {
	if err := plainPath(p); err != nil {
		return "", err
	}
	host, err := filepath.Abs(p)
	if err != nil {
		return "", err
	}
	if _, err := os.Stat(host); errors.Is(err, fs.ErrNotExist) {
		return host, os.MkdirAll(host, 0o755)
	} else if err != nil {
		return "", err
	}
	return host, nil
}

// bindOptions adds the options of a -v value, each kind of which is given once.
func bindOptions(options []string, text string) ([]string, error) {
	mode, propagation := "", "rprivate"
	for o := range strings.SplitSeq(text, ",") {
		switch o {
		case "ro", "rw":
			if mode != "" {
				return nil, fmt.Errorf("options %q contradict each other", text)
			}
			mode = o
			options = append(options, o)
		case "private", "rprivate", "slave", "rslave":
			propagation = o
		case "z", "Z", "cached", "delegated", "consistent": // nothing to do on this kernel, as in docker
		default:
			return nil, fmt.Errorf("unknown option %q: want ro, rw, rprivate or rslave", o)
		}
	}
	return append(options, propagation), nil
}

// sameKind checks that a file is mounted on a file and a directory on a directory; the
// kernel would call anything else an "invalid argument".
func sameKind(m specs.Mount, root *rootfs.FS) error {
	host, err := os.Stat(m.Source)
	if err != nil {
		return err
	}
	isFile := slices.Contains([]string{"/etc/hosts", "/etc/hostname", "/etc/resolv.conf"}, m.Destination) // put there by us
	there, err := root.Stat(strings.TrimPrefix(m.Destination, "/"))
	if err != nil && !isFile {
		return nil // it will be made
	}
	isDir := !isFile && there.IsDir()
	if host.IsDir() == isDir {
		return nil
	}
	kinds := map[bool]string{true: "a directory", false: "a file"}
	return fmt.Errorf("%s is %s and %s in the image %s", m.Source, kinds[host.IsDir()], m.Destination, kinds[isDir])
}

package volume

import (
	"fmt"
	"strconv"
	"strings"
)

// ParseTmpfs reads a value of --tmpfs: PATH[:OPTIONS], options as of mount(8), with commas between.
func ParseTmpfs(s string) (Mount, error) {
	if err := readable(s); err != nil {
		return Mount{}, err
	}
	target, options, _ := strings.Cut(s, ":")
	m := Mount{Type: TypeTmpfs, Flag: "tmpfs", Mode: options}
	var err error
	if m.Target, err = cleanTarget(target); err != nil {
		return Mount{}, err
	}
	if options == "" {
		return m, nil
	}
	for o := range strings.SplitSeq(options, ",") {
		if err := checkTmpfsOption(o); err != nil {
			return Mount{}, err
		}
		switch o {
		case "ro", "rw":
			m.ReadOnly = o == "ro"
		case "defaults":
		default:
			m.TmpfsOptions = append(m.TmpfsOptions, o)
		}
	}
	return m, nil
}

// checkTmpfsOption knows the options of a tmpfs (tmpfs(5)) and those of every mount.
func checkTmpfsOption(o string) error {
	key, value, has := strings.Cut(o, "=")
	valid := false
	switch key {
	case "ro", "rw", "suid", "nosuid", "dev", "nodev", "exec", "noexec", "defaults", "sync", "async", "dirsync",
		"noatime", "diratime", "nodiratime", "relatime", "strictatime", "symfollow", "nosymfollow":
		valid = !has
	case "size", "nr_blocks", "nr_inodes":
		valid = isSize(value, key == "size")
	case "mode":
		n, err := strconv.ParseUint(value, 8, 32)
		valid = err == nil && n <= 0o7777
	case "uid", "gid":
		n, err := strconv.ParseUint(value, 10, 32)
		valid = err == nil && n < 1<<32-1
	case "mpol":
		valid = value != ""
	case "huge":
		valid = value == "never" || value == "always" || value == "within_size" || value == "advise"
	}
	if !valid {
		return fmt.Errorf("invalid tmpfs option %q", o)
	}
	return nil
}

// isSize is what the kernel's memparse takes: digits and one of k, m, g, t; of a size also percents of the memory.
func isSize(s string, percent bool) bool {
	digits := strings.TrimRight(s, "kKmMgGtT%")
	if len(s)-len(digits) > 1 || strings.HasSuffix(s, "%") && !percent {
		return false
	}
	_, err := strconv.ParseUint(digits, 10, 62)
	return err == nil
}

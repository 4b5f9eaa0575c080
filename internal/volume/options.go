package volume

import (
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
)

// CheckDriver tells whether there is such a driver of volumes: there is one.
func CheckDriver(driver string) error {
	if driver == "" || driver == "local" {
		return nil
	}
	return fmt.Errorf("volume driver %q: there is \"local\" alone; its options type, device and o mount file systems", short(driver))
}

// checkOptions checks options of a volume: those of docker's local driver, which are mount(8)'s.
func checkOptions(options map[string]string) error {
	if len(options) == 0 {
		return nil
	}
	for _, key := range slices.Sorted(maps.Keys(options)) {
		switch key {
		case "type", "device", "o":
		case "size":
			return errors.New(`invalid option: "size": there are no quotas on volumes; a tmpfs has one, by type=tmpfs and o=size=SIZE`)
		default:
			return fmt.Errorf("invalid option: %q: want type, device and o", short(key))
		}
		if strings.IndexByte(options[key], 0) >= 0 {
			return fmt.Errorf("invalid option: %q: there is a NUL in it", key)
		}
	}
	kind, device := options["type"], options["device"]
	_, bind := bindOption(options)
	switch {
	case bind && device == "":
		return errors.New(`missing required option: "device"`)
	case bind && !path.IsAbs(device):
		return fmt.Errorf("invalid option: device=%s: want an absolute path", device)
	case bind:
		return checkBindOptions(options["o"])
	case kind == "" || kind == "none":
		return errors.New(`missing required option: "type"`)
	case device == "":
		return errors.New(`missing required option: "device"`)
	}
	switch kind {
	case "nfs", "nfs4", "cifs", "smb3", "smbfs", "ceph", "glusterfs":
		return fmt.Errorf("volumes of type=%s are not supported: mount it on the host, and make the volume of that by o=bind", kind)
	case TypeTmpfs:
		for o := range splitOptions(options["o"]) {
			if err := checkTmpfsOption(o); err != nil {
				return err
			}
		}
	}
	return nil
}

// bindOption tells whether a volume is a directory of the host, and by which of bind and rbind.
func bindOption(options map[string]string) (kind string, ok bool) {
	for o := range splitOptions(options["o"]) {
		if o == "bind" || o == "rbind" {
			return o, true
		}
	}
	return "", false
}

func checkBindOptions(o string) error {
	for o := range splitOptions(o) {
		switch o {
		case "bind", "rbind", "ro", "rw", "nosuid", "suid", "nodev", "dev", "noexec", "exec",
			"noatime", "relatime", "strictatime", "diratime", "nodiratime", "defaults":
		default:
			return fmt.Errorf("invalid option: o=%s means nothing beside bind", short(o))
		}
	}
	return nil
}

// splitOptions goes over the options with commas between.
func splitOptions(s string) func(func(string) bool) {
	return func(yield func(string) bool) {
		for o := range strings.SplitSeq(s, ",") {
			if o != "" && !yield(o) {
				return
			}
		}
	}
}

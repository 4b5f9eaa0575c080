package container

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"nacre/internal/device"
	"nacre/internal/rootfs"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// Device is a device of the machine that the container has.
type Device struct {
	Source      string `json:"source"`      // a node, or a folder of them
	Target      string `json:"target"`      // where the container sees it
	Permissions string `json:"permissions"` // of r, w and m (make nodes)
}

const allAccess = "rwm"

// ParseDevice reads HOST[:CONTAINER][:PERMISSIONS].
func ParseDevice(s string) (d Device, err error) {
	part := strings.Split(s, ":")
	d = Device{Source: part[0], Target: part[0], Permissions: allAccess}
	switch {
	case len(part) == 2 && validAccess(part[1]):
		d.Permissions = part[1]
	case len(part) == 2:
		d.Target = part[1]
	case len(part) == 3:
		d.Target, d.Permissions = part[1], part[2]
	}
	if len(part) > 3 || !path.IsAbs(d.Source) || !path.IsAbs(d.Target) || !validAccess(d.Permissions) || strings.ContainsRune(s, 0) {
		return d, errors.New("want /dev/NAME[:/dev/NAME-INSIDE][:rwm]")
	}
	return d, nil
}

func validAccess(s string) bool {
	return s != "" && strings.Trim(s, allAccess) == "" && len(s) <= len(allAccess)
}

// ParseDeviceRule reads "c 1:3 rwm": a kind (a, b, c), numbers or *, and what is allowed.
func ParseDeviceRule(s string) (r specs.LinuxDeviceCgroup, err error) {
	bad := errors.New(`want "TYPE MAJOR:MINOR ACCESS", such as "c 10:* rwm"`)
	f := strings.Split(s, " ")
	if len(f) != 3 || !slices.Contains([]string{"a", "b", "c"}, f[0]) || !validAccess(f[2]) {
		return r, bad
	}
	r = specs.LinuxDeviceCgroup{Allow: true, Type: f[0], Access: f[2]}
	major, minor, ok := strings.Cut(f[1], ":")
	number := func(s string) *int64 {
		if s == "*" {
			return nil
		}
		n, err := strconv.ParseUint(s, 10, 32)
		ok = ok && err == nil
		v := int64(n)
		return &v
	}
	r.Major, r.Minor = number(major), number(minor)
	if !ok {
		return r, bad
	}
	return r, nil
}

// addDevices gives the container its devices. Nodes are all it takes to have them, and no mount of the container lets
// other nodes be opened; rules are needed where that is not all, and take a cgroup.
func (p *parts) addDevices(_ context.Context, s *Security) error {
	if s.Privileged {
		return p.allDevices()
	}
	var rules []specs.LinuxDeviceCgroup
	// With CAP_SYS_ADMIN it could mount a file system on which its own nodes open anything.
	need := len(s.DeviceRules) > 0 || !rootfs.UserXattr() && len(p.spec.Linux.UIDMappings) == 0 && slices.Contains(p.spec.Process.Capabilities.Bounding, "CAP_SYS_ADMIN")
	for _, d := range s.Devices {
		nodes, err := d.nodes()
		if err != nil {
			return fmt.Errorf("--device %s: %w", d.Source, err)
		}
		p.spec.Linux.Devices = append(p.spec.Linux.Devices, nodes...)
		need = need || d.Permissions != allAccess
		for _, n := range nodes {
			rules = append(rules, specs.LinuxDeviceCgroup{Allow: true, Type: n.Type, Major: &n.Major, Minor: &n.Minor, Access: d.Permissions})
		}
	}
	if len(s.CDI) > 0 {
		if err := p.addCDI(s.CDI); err != nil {
			return err
		}
		if r := p.spec.Linux.Resources; r != nil {
			rules = append(rules, r.Devices...)
			for _, d := range r.Devices {
				need = need || strings.Trim(allAccess, d.Access) != "" // some of the rights
			}
		}
	}
	for _, text := range s.DeviceRules {
		r, err := ParseDeviceRule(text)
		if err != nil {
			return fmt.Errorf("--device-cgroup-rule %s: %w", text, err)
		}
		rules = append(rules, r)
	}
	if need {
		p.resources().Devices = append(usualDevices(), rules...)
	}
	return nil
}

func (p *parts) resources() *specs.LinuxResources {
	if p.spec.Linux.Resources == nil {
		p.spec.Linux.Resources = &specs.LinuxResources{}
	}
	return p.spec.Linux.Resources
}

// usualDevices are the rules of every container that has rules: nothing but to make nodes, and the nodes that are there.
func usualDevices() []specs.LinuxDeviceCgroup {
	out := []specs.LinuxDeviceCgroup{{Allow: false, Access: allAccess}, {Allow: true, Type: "c", Access: "m"}, {Allow: true, Type: "b", Access: "m"}}
	allow := func(major int64, minor *int64) {
		out = append(out, specs.LinuxDeviceCgroup{Allow: true, Type: "c", Major: &major, Minor: minor, Access: allAccess})
	}
	for _, d := range [][2]int64{{1, 3}, {1, 5}, {1, 7}, {1, 8}, {1, 9}, {5, 0}, {5, 2}} {
		allow(d[0], &d[1])
	}
	allow(136, nil) // terminals
	return out
}

func (p *parts) addCDI(names []string) error {
	return device.Open(device.Dirs()).Add(p.spec, names)
}

// allDevices gives the container every device of the machine.
func (p *parts) allDevices() error {
	p.spec.Linux.Devices = nil
	err := filepath.WalkDir("/dev", func(name string, e fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return nil // it may have gone meanwhile
		case e.IsDir() && slices.Contains([]string{"pts", "shm", "fd", "mqueue"}, e.Name()):
			return fs.SkipDir
		case e.Type()&fs.ModeDevice == 0 || name == "/dev/console", name == "/dev/ptmx": // it has its own
			return nil
		}
		n, err := node(name, name)
		if err == nil {
			p.spec.Linux.Devices = append(p.spec.Linux.Devices, n)
		}
		return nil
	})
	r := p.resources()
	r.Devices = append(r.Devices, specs.LinuxDeviceCgroup{Allow: true, Access: allAccess})
	if err != nil || len(p.c.Config.Security.CDI) == 0 {
		return err
	}
	err = p.addCDI(p.c.Config.Security.CDI)
	r = p.resources()
	r.Devices = append(r.Devices, specs.LinuxDeviceCgroup{Allow: true, Access: allAccess})
	return err
}

// nodes are what a device stands for: itself, or what is in the folder it is.
func (d Device) nodes() ([]specs.LinuxDevice, error) {
	info, err := os.Stat(d.Source)
	if err != nil {
		return nil, errors.Unwrap(err)
	}
	if !info.IsDir() {
		n, err := node(d.Source, d.Target)
		return []specs.LinuxDevice{n}, err
	}
	entries, err := os.ReadDir(d.Source)
	if err != nil {
		return nil, err
	}
	var out []specs.LinuxDevice
	for _, e := range entries {
		one := Device{Source: filepath.Join(d.Source, e.Name()), Target: path.Join(d.Target, e.Name())}
		if e.Type()&fs.ModeDevice == 0 && !e.IsDir() {
			continue
		}
		more, err := one.nodes()
		if err != nil {
			return nil, err
		}
		out = append(out, more...)
	}
	return out, nil
}

var errNoDevice = errors.New("not a device node")

// node describes a device of the machine.
func node(name, target string) (n specs.LinuxDevice, err error) {
	var st unix.Stat_t
	if err := unix.Stat(name, &st); err != nil {
		return n, err
	}
	n = specs.LinuxDevice{Path: target, Major: int64(unix.Major(uint64(st.Rdev))), Minor: int64(unix.Minor(uint64(st.Rdev))), UID: &st.Uid, GID: &st.Gid}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFCHR:
		n.Type = "c"
	case unix.S_IFBLK:
		n.Type = "b"
	default:
		return n, errNoDevice
	}
	mode := os.FileMode(st.Mode & 0o777)
	n.FileMode = &mode
	return n, nil
}

// Package device finds the devices that CDI specs describe, and turns those a build step asks
// for into a part of its runtime spec. The specs are files of this machine's administrator
// (https://github.com/cncf-tags/container-device-interface/blob/main/SPEC.md). Who may
// have which device is decided here, too, from what the user granted.
package device

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"tags.cncf.io/container-device-interface/pkg/cdi"
	"tags.cncf.io/container-device-interface/pkg/parser"
)

// ErrAbsent is wrapped by errors about a device that no spec describes.
var ErrAbsent = errors.New("no such device")

// Annotations of specs and devices that BuildKit gave a meaning.
const (
	annotationClass     = "org.mobyproject.buildkit.device.class"
	annotationAutoAllow = "org.mobyproject.buildkit.device.autoallow"
)

// Dirs is where specs are if nobody says otherwise; of a device in several, the last counts.
func Dirs() []string {
	if dirs := filepath.SplitList(os.Getenv("NACRE_CDI_SPEC_DIRS")); len(dirs) > 0 {
		return dirs
	}
	return []string{cdi.DefaultStaticDir, cdi.DefaultDynamicDir}
}

// Set is the devices of this machine, as their specs were when it was opened.
type Set struct {
	dirs  []string
	cache *cdi.Cache
}

// Open reads the specs in dirs: files with the ending .json or .yaml. Those that cannot be read are
// left out, and named by the error of a search that finds nothing.
func Open(dirs []string) *Set {
	cache, _ := cdi.NewCache(cdi.WithSpecDirs(dirs...), cdi.WithAutoRefresh(false)) // its error is always nil
	return &Set{dirs: dirs, cache: cache}
}

// Find gives the full names (vendor/class=name) of what a step means by name:
//
//	vendor.com/class=gpu0  that device
//	vendor.com/class       the first of the class
//	vendor.com/class=*     all of them
//	gpus                   those whose annotation org.mobyproject.buildkit.device.class says so
//
// Where there is none the error wraps ErrAbsent.
func (s *Set) Find(name string) ([]string, error) {
	var found []string
	kind, one, _ := strings.Cut(name, "=")
	if vendor, _ := parser.ParseQualifier(kind); vendor != "" {
		for _, d := range s.cache.ListDevices() {
			if !strings.HasPrefix(d, kind+"=") {
				continue
			}
			if one == "" || one == "*" || d == name {
				found = append(found, d)
			}
			if one == "" {
				break
			}
		}
	}
	if len(found) == 0 {
		for _, d := range s.cache.ListDevices() {
			if class, ok := s.annotations(d)[annotationClass]; ok && class == name {
				found = append(found, d)
			}
		}
	}
	if len(found) == 0 {
		return nil, s.absent(name)
	}
	return found, nil
}

// absent says what there is, and which specs could not be read.
func (s *Set) absent(name string) error {
	err := fmt.Errorf("device %s: %w in the CDI specs of %s", name, ErrAbsent, strings.Join(s.dirs, ", "))
	bad := s.cache.GetErrors()
	for _, path := range slices.Sorted(maps.Keys(bad)) {
		err = fmt.Errorf("%w; %w", err, errors.Join(bad[path]...))
	}
	return err
}

// annotations are those of a device, which win, and of its spec.
func (s *Set) annotations(name string) map[string]string {
	d := s.cache.GetDevice(name)
	if d == nil {
		return nil
	}
	all := maps.Clone(d.GetSpec().Annotations)
	if all == nil {
		all = map[string]string{}
	}
	maps.Copy(all, d.Annotations)
	return all
}

// autoAllowed tells whether the spec lets any step have the device.
func (s *Set) autoAllowed(name string) bool {
	ok, err := strconv.ParseBool(s.annotations(name)[annotationAutoAllow])
	return err == nil && ok
}

// Add makes devices, by their full names, part of spec: nodes, mounts, variables, groups, hooks. It refuses
// those that want what no sandbox here does.
func (s *Set) Add(spec *specs.Spec, names []string) error {
	for _, name := range names {
		d := s.cache.GetDevice(name)
		if d == nil {
			return s.absent(name)
		}
		for _, n := range slices.Concat(d.GetSpec().ContainerEdits.NetDevices, d.ContainerEdits.NetDevices) {
			return fmt.Errorf("device %s: its CDI spec %s wants the network device %s in the step, and network devices are not moved there", name, d.GetSpec().GetPath(), n.HostInterfaceName)
		}
	}
	if _, err := s.cache.InjectDevices(spec, names...); err != nil {
		return fmt.Errorf("devices %s: %w", strings.Join(names, ", "), err)
	}
	return nil
}

package build

import (
	"fmt"
	"slices"
	"strings"

	"nacre/internal/device"
	"nacre/internal/dockerfile"
	"nacre/internal/event"
	"nacre/internal/graph"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// entitlements are what a build may allow its steps.
var entitlements = []string{"network.host", "security.insecure", "device"}

// AllowError is an entitlement that there is not.
type AllowError struct {
	Name string
	Hint string // "did you mean network.host?", or empty
}

func (e *AllowError) Error() string {
	return fmt.Sprintf("unknown entitlement %q: want %s or device=NAME[,alias=NAME]", e.Name, strings.Join(entitlements, ", "))
}

// CheckAllow tells whether each of Options.Allow is an entitlement.
func CheckAllow(list []string) error {
	_, err := parseAllow(list)
	return err
}

// parseAllow checks entitlements and gives what they say of devices.
func parseAllow(list []string) (g device.Grants, err error) {
	for _, e := range list {
		name, value, valued := strings.Cut(e, "=")
		switch {
		case name == "device":
			if err := g.Grant(value); err != nil {
				return g, fmt.Errorf("%s: %w", e, err)
			}
		case valued, name != "network.host" && name != "security.insecure":
			hint := dockerfile.DidYouMean(name, entitlements)
			if slices.Contains(entitlements, name) {
				hint = name + " takes no value"
			}
			return g, &AllowError{Name: e, Hint: hint}
		}
	}
	return g, nil
}

// findDevices looks up the devices that steps ask for, before any of them runs: a build that may not
// have one, or cannot, ends at once. CDI specs are read only where there is such a step.
func (s *solver) findDevices(g *graph.Graph) error {
	grants, err := parseAllow(s.o.Allow)
	if err != nil {
		return err
	}
	for _, st := range g.Steps {
		op, ok := st.Op.(*graph.Run)
		if !ok || len(op.Devices) == 0 {
			continue
		}
		if s.devices == nil {
			dirs := s.o.DeviceDirs
			if len(dirs) == 0 {
				dirs = device.Dirs()
			}
			s.devices, s.granted = device.Open(dirs), map[*graph.Step][]string{}
		}
		var asked []device.Request
		for _, d := range op.Devices {
			asked = append(asked, device.Request(d))
		}
		names, missing, err := s.devices.Resolve(grants, asked)
		if err != nil {
			return positioned(st, err)
		}
		for _, name := range missing {
			s.Sink(event.Warning{Pos: st.Pos, Text: "device " + name + " is not here, and not required: the step runs without it"})
		}
		s.granted[st] = names
	}
	return nil
}

// addDevices gives the step its devices.
func (w *work) addDevices(spec *specs.Spec) error {
	if names := w.granted[w.step]; len(names) > 0 {
		return w.devices.Add(spec, names)
	}
	return nil
}

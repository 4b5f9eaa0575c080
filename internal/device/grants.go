package device

import (
	"encoding/csv"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Request is a device that a step asks for.
type Request struct {
	Name     string // see Set.Find
	Required bool   // without it the step fails
}

// Grants are the devices that the user lets steps have. The zero value is none but those whose
// specs allow it.
type Grants struct {
	All   bool
	names []string
	alias map[string]string // what steps call a device: what it is here
}

// Grant adds what "--allow device" stands for: value is what follows "device=", empty for all
// devices, else NAME[,alias=NAME-IN-THE-DOCKERFILE].
func (g *Grants) Grant(value string) error {
	if value == "" {
		g.All = true
		return nil
	}
	fields, err := csv.NewReader(strings.NewReader(value)).Read()
	if err != nil {
		return err
	}
	if fields[0] == "" {
		return errors.New("want device=NAME[,alias=NAME]")
	}
	g.names = append(g.names, fields[0])
	for _, f := range fields[1:] {
		key, alias, ok := strings.Cut(f, "=")
		if !ok || key != "alias" || alias == "" {
			return fmt.Errorf("%q: want alias=NAME", f)
		}
		if g.alias == nil {
			g.alias = map[string]string{}
		}
		g.alias[alias] = fields[0]
	}
	return nil
}

// DeniedError is a device that the user did not let steps have.
type DeniedError struct{ Device string }

func (e *DeniedError) Error() string {
	return fmt.Sprintf("device %s is not allowed: build with --allow device=%s", e.Device, e.Device)
}

// Resolve gives the full names of the devices a step gets, each once. Optional ones that are not
// here are in missing. Errors wrap ErrAbsent, or are a *DeniedError.
func (s *Set) Resolve(g Grants, asked []Request) (names, missing []string, err error) {
	granted, err := s.granted(g)
	if err != nil {
		return nil, nil, err
	}
	for _, r := range asked {
		wanted, aliased := g.alias[r.Name]
		if !aliased {
			wanted = r.Name
		}
		found, err := s.Find(wanted)
		if errors.Is(err, ErrAbsent) && !r.Required {
			missing = append(missing, r.Name)
			continue
		}
		if err != nil {
			return nil, nil, err
		}
		for _, d := range found {
			if !g.All && !aliased && !slices.Contains(granted, d) && !s.autoAllowed(d) {
				return nil, nil, &DeniedError{d}
			}
			if !slices.Contains(names, d) {
				names = append(names, d)
			}
		}
	}
	return names, missing, nil
}

// granted are the full names of what g names. A grant of a device that is not here is none.
func (s *Set) granted(g Grants) (all []string, err error) {
	for _, n := range g.names {
		found, err := s.Find(n)
		if err != nil && !errors.Is(err, ErrAbsent) {
			return nil, err
		}
		all = append(all, found...)
	}
	return all, nil
}

package sandbox

import (
	"errors"
	"fmt"

	"github.com/moby/profiles/seccomp"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// LoadSeccomp reads a profile in docker's JSON for a process with these capabilities, and finds out whether a filter
// can be made of it.
func LoadSeccomp(text string, caps *specs.LinuxCapabilities) (*specs.LinuxSeccomp, error) {
	if caps == nil {
		caps = &specs.LinuxCapabilities{}
	}
	p, err := seccomp.LoadProfile(text, &specs.Spec{Process: &specs.Process{Capabilities: caps}})
	if err != nil {
		return nil, fmt.Errorf("seccomp profile: %w", err)
	}
	if p == nil || p.DefaultAction == "" {
		return nil, errors.New("seccomp profile: it has no defaultAction")
	}
	if p.ListenerPath != "" {
		return nil, errors.New("seccomp profile: listeners are not supported")
	}
	if _, err := seccompProgram(p); err != nil {
		return nil, err
	}
	_, err = seccompFlags(p.Flags)
	return p, err
}

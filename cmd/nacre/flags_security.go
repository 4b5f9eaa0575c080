package main

import (
	"errors"
	"fmt"

	"nacre/internal/container"
	"nacre/internal/image"
	"nacre/internal/rootfs"

	"github.com/spf13/pflag"
)

// securityFlags are the flags of run and create that change how a container is confined.
type securityFlags struct {
	userns  string
	confine confineFlags
}

func (f *securityFlags) register(fl *pflag.FlagSet) {
	fl.StringVar(&f.userns, "userns", "", "auto: as root, give the container a user namespace of its own, whose root is nobody on this machine; host: none (default)")
	f.confine.register(fl)
}

func (f *securityFlags) apply(cfg *container.Config, _ image.Config) error {
	if err := f.confine.apply(cfg); err != nil {
		return err
	}
	switch s := &cfg.Security; f.userns {
	case "", "host":
	case container.UsernsAuto:
		if rootfs.UserXattr() {
			return &hintError{errors.New("--userns=auto takes root: this container is in the user's own namespace already"), "leave --userns out"}
		}
		// What is of the machine, or of another container, is not of that namespace: it has no rights there.
		for flag, has := range map[string]bool{"privileged": s.Privileged, "pid": s.PID != "", "ipc": s.IPC != "" && s.IPC != container.ModeShareable && s.IPC != container.ModeNone} {
			if has {
				return fmt.Errorf("conflicting options: --userns=auto and --%s", flag)
			}
		}
		s.Userns = f.userns
	default:
		return fmt.Errorf("--userns=%s: want auto or host", f.userns)
	}
	return nil
}

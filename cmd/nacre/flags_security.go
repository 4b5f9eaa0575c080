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
	options []string
	userns  string
}

func (f *securityFlags) register(fl *pflag.FlagSet) {
	fl.StringVar(&f.userns, "userns", "", "auto: as root, give the container a user namespace of its own, whose root is nobody on this machine; host: none (default)")
	listVar(fl, &f.options, "security-opt", "", "no-new-privileges: setuid programs give nothing")
}

// apply takes the options that hold here; others would be passed over.
func (f *securityFlags) apply(cfg *container.Config, _ image.Config) error {
	switch f.userns {
	case "", "host":
	case container.UsernsAuto:
		if rootfs.UserXattr() {
			return &hintError{errors.New("--userns=auto takes root: this container is in the user's own namespace already"), "leave --userns out"}
		}
		cfg.Security.Userns = f.userns
	default:
		return fmt.Errorf("--userns=%s: want auto or host", f.userns)
	}
	for _, s := range f.options {
		switch s {
		case "no-new-privileges", "no-new-privileges=true", "no-new-privileges:true":
			cfg.Security.NoNewPrivileges = true
		case "no-new-privileges=false", "no-new-privileges:false", "seccomp=builtin", "apparmor=unconfined", "label=disable", "label:disable":
		default:
			return fmt.Errorf("--security-opt %s is not supported", s)
		}
	}
	return nil
}

package main

import (
	"fmt"

	"nacre/internal/container"
	"nacre/internal/image"

	"github.com/spf13/pflag"
)

// securityFlags are the flags of run and create that change how a container is confined.
type securityFlags struct {
	options []string
}

func (f *securityFlags) register(fl *pflag.FlagSet) {
	fl.StringArrayVar(&f.options, "security-opt", nil, "no-new-privileges: setuid programs give nothing")
}

// apply takes the options that hold here; others would be passed over.
func (f *securityFlags) apply(cfg *container.Config, _ image.Config) error {
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

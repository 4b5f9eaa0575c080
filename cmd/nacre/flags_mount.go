package main

import (
	"nacre/internal/container"
	"nacre/internal/image"

	"github.com/spf13/pflag"
)

// mountFlags are the flags of run and create that say what is mounted.
type mountFlags struct {
	volumes []string
}

func (f *mountFlags) register(fl *pflag.FlagSet) {
	fl.StringArrayVarP(&f.volumes, "volume", "v", nil, "HOST:CONTAINER[:ro], a directory or file to be seen inside")
}

func (f *mountFlags) apply(cfg *container.Config, _ image.Config) error {
	for _, v := range f.volumes {
		v, err := container.AbsVolume(v)
		if err != nil {
			return err
		}
		cfg.Volumes = append(cfg.Volumes, v)
	}
	return nil
}

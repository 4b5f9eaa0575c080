package main

import (
	"fmt"
	"strconv"
	"strings"

	"nacre/internal/build"

	"github.com/spf13/pflag"
)

// attestFlags are build's flags for attestations, of which there are none yet: what says
// "none" is accepted, as scripts say it to get plain images from buildx.
type attestFlags struct {
	provenance, sbom string
	attest           []string
}

func (f *attestFlags) register(fl *pflag.FlagSet) {
	fl.StringVar(&f.provenance, "provenance", "false", "accepted where it is false: no attestations are made")
	fl.StringVar(&f.sbom, "sbom", "false", "accepted where it is false: no attestations are made")
	listVar(fl, &f.attest, "attest", "", "accepted with disabled=true: no attestations are made")
	for _, name := range []string{"provenance", "sbom", "attest"} {
		fl.MarkHidden(name)
	}
}

func (f *attestFlags) apply(*build.Options) error {
	for _, v := range [][2]string{{"provenance", f.provenance}, {"sbom", f.sbom}} {
		if on, err := strconv.ParseBool(v[1]); err != nil || on {
			return fmt.Errorf("--%s=%s: no attestations are made; only false is accepted", v[0], v[1])
		}
	}
	for _, v := range f.attest {
		if !strings.Contains(","+v+",", ",disabled=true,") {
			return fmt.Errorf("--attest=%s: no attestations are made; only disabled=true is accepted", v)
		}
	}
	return nil
}

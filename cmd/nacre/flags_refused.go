package main

import (
	"errors"

	"github.com/spf13/pflag"
)

// refusal is a flag of docker's that asks for what is not to be had here: it is known, to say why.
type refusal struct{ reason string }

func (r refusal) Set(string) error { return errors.New(r.reason) }
func (r refusal) String() string   { return "" }
func (r refusal) Type() string     { return "string" }

// refuse declares flags that are refused with a reason. bare are those that take no value.
func refuse(fl *pflag.FlagSet, bare bool, reason string, names ...string) {
	for _, name := range names {
		fl.Var(refusal{reason}, name, "refused: "+reason)
		if bare {
			fl.Lookup(name).NoOptDefVal = "true"
		}
		fl.MarkHidden(name)
	}
}

const (
	noRealTime     = "real-time processor time is the machine's to give out: use --cpu-shares or --cpus"
	noKernelMemory = "Linux has no limit of kernel memory any more: use --memory"
)

// registerRefused are the flags of docker's run and create that do not go here, and those that ask for what is so in any case.
func registerRefused(fl *pflag.FlagSet) {
	refuse(fl, false, "there are no links between containers: share a network by --network container:NAME, or publish a port", "link")
	refuse(fl, false, "containers have no names in a network: use --add-host", "network-alias", "net-alias")
	refuse(fl, false, "the bridge gives out addresses of IPv4 alone", "ip6", "link-local-ip")
	refuse(fl, false, "the size of a container's root cannot be limited", "storage-opt")
	refuse(fl, true, "there is no daemon, and no socket of one", "use-api-socket")
	refuse(fl, false, noRealTime, "cpu-rt-period", "cpu-rt-runtime")
	refuse(fl, false, noKernelMemory, "kernel-memory")
	fl.Bool("disable-content-trust", true, "accepted for docker's sake: signatures are not looked at")
	fl.MarkHidden("disable-content-trust")
}

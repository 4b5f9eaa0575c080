package main

import (
	"fmt"

	"nacre/internal/container"
	"nacre/internal/image"
	"nacre/internal/network"

	"github.com/spf13/pflag"
)

// networkFlags are the flags of run and create that are about networks and names.
type networkFlags struct {
	hostname, domainname, mode string
	hosts                      []string
}

func (f *networkFlags) register(fl *pflag.FlagSet) {
	fl.StringVarP(&f.hostname, "hostname", "h", "", "host name (default: the container's ID)")
	fl.StringVar(&f.domainname, "domainname", "", "NIS domain name")
	fl.StringVar(&f.mode, "network", "host", "host or none")
	fl.StringVar(&f.mode, "net", "host", "the same")
	fl.MarkHidden("net")
	fl.StringArrayVar(&f.hosts, "add-host", nil, "NAME:IP line for /etc/hosts")
}

const maxHostname = 64 // __NEW_UTS_LEN, include/uapi/linux/utsname.h

func (f *networkFlags) apply(cfg *container.Config, _ image.Config) error {
	if f.mode != "host" && f.mode != "none" {
		return fmt.Errorf("--network=%s: want host or none", f.mode)
	}
	for flag, s := range map[string]string{"hostname": f.hostname, "domainname": f.domainname} {
		if n := len(s); n > maxHostname {
			return fmt.Errorf("--%s: %d characters; the kernel takes %d", flag, n, maxHostname)
		}
	}
	if _, err := network.Hosts(f.hostname, f.hosts); err != nil {
		return err
	}
	cfg.Hostname, cfg.Domainname = f.hostname, f.domainname
	cfg.Network = container.Network{Mode: f.mode, ExtraHosts: f.hosts}
	return nil
}

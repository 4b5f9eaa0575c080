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
	hostname, domainname string
	publish              []string
	o                    network.Options
}

func (f *networkFlags) register(fl *pflag.FlagSet) {
	o := &f.o
	fl.StringVarP(&f.hostname, "hostname", "h", "", "host name (default: the container's ID)")
	fl.StringVar(&f.domainname, "domainname", "", "NIS domain name, and that of the host name")
	fl.StringVar(&o.Mode, "network", network.ModePrivate, "private (bridge is the same), host, none, or container:NAME")
	fl.StringVar(&o.Mode, "net", network.ModePrivate, "the same")
	fl.MarkHidden("net")
	listVar(fl, &f.publish, "publish", "p", "[[HOSTIP:][HOSTPORT[-END]]:]PORT[-END][/tcp|udp], a port of the host that leads into the container")
	fl.BoolVarP(&o.PublishAll, "publish-all", "P", false, "publish all exposed ports, each at any port of the host")
	listVar(fl, &o.Expose, "expose", "", "PORT[-END][/tcp|udp] that --publish-all publishes, beside the image's")
	listVar(fl, &o.DNS, "dns", "", "IP address of a resolver, in place of the host's")
	listVar(fl, &o.DNSSearch, "dns-search", "", "domain to look names up in; . is none")
	listVar(fl, &o.DNSOptions, "dns-option", "", "option of /etc/resolv.conf")
	listVar(fl, &o.DNSOptions, "dns-opt", "", "the same")
	fl.MarkHidden("dns-opt")
	listVar(fl, &o.ExtraHosts, "add-host", "", "NAME:IP line for /etc/hosts; the IP may be host-gateway")
	fl.StringVar(&o.IP, "ip", "", "IPv4 address on the bridge")
	fl.StringVar(&o.MAC, "mac-address", "", "hardware address on the bridge")
}

const maxHostname = 64 // __NEW_UTS_LEN, include/uapi/linux/utsname.h

func (f *networkFlags) apply(cfg *container.Config, _ image.Config) error {
	for flag, s := range map[string]string{"hostname": f.hostname, "domainname": f.domainname} {
		if n := len(s); n > maxHostname {
			return fmt.Errorf("--%s: %d characters; the kernel takes %d", flag, n, maxHostname)
		}
	}
	o := f.o
	for _, s := range f.publish {
		ports, err := network.ParsePublish(s)
		if err != nil {
			return err
		}
		o.Ports = append(o.Ports, ports...)
	}
	if err := o.Check(); err != nil {
		return err
	}
	cfg.Hostname, cfg.Domainname, cfg.Network = f.hostname, f.domainname, o
	return nil
}

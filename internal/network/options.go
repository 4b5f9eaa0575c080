package network

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
)

// Modes of a container's network, beside ModeContainer followed by a name.
const (
	ModePrivate   = "private" // a network of its own, with a way out where there is one
	ModeHost      = "host"    // the host's
	ModeNone      = "none"    // loopback
	ModeContainer = "container:"
)

// Options is the network a container was asked to have. It is kept as JSON: names are stable.
type Options struct {
	Mode       string   `json:"mode,omitempty"`       // empty is ModePrivate
	Ports      []Port   `json:"ports,omitempty"`      // published
	PublishAll bool     `json:"publishAll,omitempty"` // and all that are exposed
	Expose     []string `json:"expose,omitempty"`     // "80/tcp", beside those of the image
	DNS        []string `json:"dns,omitempty"`        // addresses of resolvers, in place of the host's
	DNSSearch  []string `json:"dnsSearch,omitempty"`  // domains; "." alone is none
	DNSOptions []string `json:"dnsOptions,omitempty"`
	ExtraHosts []string `json:"extraHosts,omitempty"` // NAME:IP lines of /etc/hosts
	IP         string   `json:"ip,omitempty"`         // on the bridge
	MAC        string   `json:"mac,omitempty"`
}

// ParseMode reads --network. Docker's words bridge and default mean private.
func ParseMode(s string) (string, error) {
	switch s {
	case "", "bridge", "default", ModePrivate:
		return ModePrivate, nil
	case ModeHost, ModeNone:
		return s, nil
	}
	if name, ok := strings.CutPrefix(s, ModeContainer); ok && name != "" {
		return s, nil
	}
	return "", fmt.Errorf("--network %q: want private, host, none or container:NAME", s)
}

// Check tells what of the options contradicts itself, or is no address.
func (o *Options) Check() error {
	mode, err := ParseMode(o.Mode)
	if err != nil {
		return err
	}
	o.Mode = mode
	shared := strings.HasPrefix(mode, ModeContainer)
	switch {
	case shared && (len(o.Ports) > 0 || o.PublishAll):
		return errors.New("conflicting options: port publishing and the container type network mode")
	case shared && len(o.ExtraHosts) > 0:
		return errors.New("conflicting options: custom host-to-IP mapping and the container type network mode")
	case shared && len(o.DNS)+len(o.DNSSearch)+len(o.DNSOptions) > 0:
		return errors.New("conflicting options: dns and the container type network mode")
	case mode != ModePrivate && (o.IP != "" || o.MAC != ""):
		return fmt.Errorf("--ip and --mac-address are for private networks, not for --network %s", mode)
	}
	return o.checkValues()
}

func (o *Options) checkValues() error {
	if o.IP != "" {
		if ip, err := netip.ParseAddr(o.IP); err != nil || !ip.Is4() {
			return fmt.Errorf("--ip %q: want an IPv4 address", o.IP)
		}
	}
	if o.MAC != "" {
		if mac, err := net.ParseMAC(o.MAC); err != nil || len(mac) != 6 || mac[0]&1 != 0 {
			return fmt.Errorf("--mac-address %q: want six bytes, as 92:d0:c6:0a:29:33, of one device", o.MAC)
		}
	}
	for _, s := range o.DNS {
		if _, err := netip.ParseAddr(s); err != nil {
			return fmt.Errorf("--dns %q: it is no IP address", s)
		}
	}
	for _, l := range []struct {
		flag string
		list []string
	}{{"dns-search", o.DNSSearch}, {"dns-option", o.DNSOptions}} {
		for _, s := range l.list {
			if s == "" || strings.ContainsFunc(s, badInName) {
				return fmt.Errorf("--%s %q: it has a character that cannot be in a name", l.flag, s)
			}
		}
	}
	for _, e := range o.Expose {
		if _, err := ParseExpose(e); err != nil {
			return err
		}
	}
	for _, e := range o.ExtraHosts {
		if _, _, err := splitHost(e); err != nil {
			return err
		}
	}
	return nil
}

// badInName tells of what would end a name or a line in /etc/hosts and /etc/resolv.conf.
func badInName(r rune) bool { return r <= ' ' || r == '#' || r == 0x7f }

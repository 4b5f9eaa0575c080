package network

import (
	"bytes"
	"fmt"
	"net/netip"
	"strings"
)

// hostGateway is what --add-host takes for an address of the host.
const hostGateway = "host-gateway"

// HostsFile is what /etc/hosts of a container says.
type HostsFile struct {
	Hostname, Domain string
	// Addr is the container's own address; not valid: there is none but loopback.
	Addr netip.Addr
	// Gateway is where the host can be reached: what host-gateway stands for. Not
	// valid: loopback, as where the network is the host's.
	Gateway netip.Addr
	Extra   []string // NAME:IP
}

// Bytes is the file.
func (h HostsFile) Bytes() ([]byte, error) {
	var b bytes.Buffer
	b.WriteString("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n" +
		"fe00::\tip6-localnet\nff00::\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n")
	if h.Hostname != "" && h.Hostname != "localhost" {
		own := "127.0.1.1"
		if h.Addr.IsValid() {
			own = h.Addr.String()
		}
		names := h.Hostname
		if h.Domain != "" {
			names = h.Hostname + "." + h.Domain + " " + h.Hostname
		}
		fmt.Fprintf(&b, "%s\t%s\n", own, names)
	}
	for _, e := range h.Extra {
		name, ip, err := splitHost(e)
		if err != nil {
			return nil, err
		}
		if !ip.IsValid() {
			ip = h.Gateway
		}
		if !ip.IsValid() {
			ip = netip.AddrFrom4([4]byte{127, 0, 0, 1})
		}
		fmt.Fprintf(&b, "%s\t%s\n", ip, name)
	}
	return b.Bytes(), nil
}

// splitHost reads NAME:IP, or NAME=IP as newer docker has it. The address is not valid
// for host-gateway.
func splitHost(s string) (name string, ip netip.Addr, err error) {
	i := strings.IndexAny(s, ":=")
	if i <= 0 {
		return "", ip, fmt.Errorf("--add-host %q: want NAME:IP", s)
	}
	name = s[:i]
	if strings.ContainsFunc(name, badInName) {
		return "", ip, fmt.Errorf("--add-host %q: %q cannot be a name", s, name)
	}
	addr := strings.Trim(s[i+1:], "[]")
	if addr == hostGateway {
		return name, ip, nil
	}
	if ip, err = netip.ParseAddr(addr); err != nil {
		return "", ip, fmt.Errorf("--add-host %q: %q is no IP address", s, addr)
	}
	return name, ip, nil
}

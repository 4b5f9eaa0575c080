package network

import (
	"net"
	"net/netip"

	"nacre/internal/network/bridge"
)

// BridgeDevice is the name of the bridge on the host.
const BridgeDevice = bridge.Name

// BridgeAddress is the host's address on the bridge, with its range. Without ok there is no bridge.
func BridgeAddress() (at netip.Prefix, ok bool) {
	dev, err := net.InterfaceByName(BridgeDevice)
	if err != nil {
		return at, false
	}
	addrs, _ := dev.Addrs()
	for _, a := range addrs {
		if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().Is4() {
			return p, true
		}
	}
	return at, false
}

package main

import (
	"fmt"
	"strconv"

	"nacre/internal/container"
)

// inspectedNetwork is docker's NetworkSettings (Engine API, ContainerInspect), what nacre does not have left empty.
type inspectedNetwork struct {
	Bridge                 string
	SandboxID              string
	SandboxKey             string
	Ports                  map[string][]inspectedPort
	HairpinMode            bool
	LinkLocalIPv6Address   string
	LinkLocalIPv6PrefixLen int
	SecondaryIPAddresses   []string
	SecondaryIPv6Addresses []string
	inspectedAddress
	Networks map[string]inspectedEndpoint
}

// inspectedAddress is where a container is in a network.
type inspectedAddress struct {
	EndpointID          string
	Gateway             string
	IPAddress           string
	IPPrefixLen         int
	IPv6Gateway         string
	GlobalIPv6Address   string
	GlobalIPv6PrefixLen int
	MacAddress          string
}

// inspectedEndpoint is one of docker's NetworkSettings.Networks.
type inspectedEndpoint struct {
	IPAMConfig *struct{}
	Links      []string
	Aliases    []string
	DriverOpts map[string]string
	NetworkID  string
	inspectedAddress
	DNSNames []string
}

// inspectNetwork is what the container got, while it runs.
func inspectNetwork(c *container.Container) inspectedNetwork {
	i := c.State.Network
	at := inspectedAddress{IPAddress: i.IP, IPPrefixLen: i.Bits, Gateway: i.Gateway, MacAddress: i.MAC}
	n := inspectedNetwork{inspectedAddress: at, Ports: map[string][]inspectedPort{}}
	n.Networks = map[string]inspectedEndpoint{networkName(c.Config.Network): {inspectedAddress: at}}
	for e := range exposedPorts(&c.Config) {
		n.Ports[e] = nil
	}
	for _, p := range i.Ports {
		n.Ports[p.Key()] = append(n.Ports[p.Key()], inspectedPort{HostIP: p.HostIP, HostPort: strconv.Itoa(int(p.HostPort))})
	}
	if c.State.Pid != 0 && i.Mode != "" {
		n.SandboxKey = fmt.Sprintf("/proc/%d/ns/net", c.State.Pid)
	}
	return n
}

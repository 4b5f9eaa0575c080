// Package network says how a container sees names: the contents of its
// /etc/hosts and /etc/resolv.conf. A container has the host's network or none.
package network

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"strings"
)

// Hosts is /etc/hosts for a container called hostname, with the lines that
// extra ("NAME:IP", as --add-host takes them) asks for.
func Hosts(hostname string, extra []string) ([]byte, error) {
	var b bytes.Buffer
	b.WriteString("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n" +
		"fe00::\tip6-localnet\nff00::\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n")
	if hostname != "" && hostname != "localhost" {
		fmt.Fprintf(&b, "127.0.1.1\t%s\n", hostname)
	}
	for _, e := range extra {
		name, ip, err := splitHost(e)
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(&b, "%s\t%s\n", ip, name)
	}
	return b.Bytes(), nil
}

// splitHost reads NAME:IP, or NAME=IP as newer docker has it.
func splitHost(s string) (name string, ip netip.Addr, err error) {
	i := strings.IndexAny(s, ":=")
	if i <= 0 {
		return "", ip, fmt.Errorf("--add-host %q: want NAME:IP", s)
	}
	addr := strings.Trim(s[i+1:], "[]")
	if addr == "host-gateway" {
		addr = "127.0.0.1" // the host's network is the container's own
	}
	if ip, err = netip.ParseAddr(addr); err != nil {
		return "", ip, fmt.Errorf("--add-host %q: %q is no IP address", s, addr)
	}
	return s[:i], ip, nil
}

// ResolvConf is the host's /etc/resolv.conf; empty where it has none.
func ResolvConf() []byte {
	data, err := os.ReadFile("/etc/resolv.conf")
	if err != nil {
		return nil
	}
	return data
}

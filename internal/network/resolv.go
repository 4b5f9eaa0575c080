package network

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"strings"
)

// Resolv is an /etc/resolv.conf (resolv.conf(5)).
type Resolv struct {
	Servers []netip.Addr
	Search  []string
	Options []string
}

// Where the host says whom it asks. A resolver on the host's loopback is systemd's most often,
// which has a second file with those it asks itself.
const (
	resolvFile  = "/etc/resolv.conf"
	systemdFile = "/run/systemd/resolve/resolv.conf"
)

// maxServers is how many the C library reads (MAXNS).
const maxServers = 3

// parseResolv reads what it understands and passes over the rest, as resolvers do.
func parseResolv(data []byte) Resolv {
	var r Resolv
	for line := range strings.Lines(string(data)) {
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		switch f[0] {
		case "nameserver":
			if ip, err := netip.ParseAddr(f[1]); err == nil {
				r.Servers = append(r.Servers, ip)
			}
		case "search":
			r.Search = f[1:] // the last one counts
		case "domain":
			r.Search = f[1:2]
		case "options":
			r.Options = append(r.Options, f[1:]...)
		}
	}
	return r
}

// Bytes is the file.
func (r Resolv) Bytes() []byte {
	var b bytes.Buffer
	for i, ip := range r.Servers {
		if i == maxServers {
			break
		}
		fmt.Fprintf(&b, "nameserver %s\n", ip)
	}
	if len(r.Search) > 0 {
		fmt.Fprintf(&b, "search %s\n", strings.Join(r.Search, " "))
	}
	if len(r.Options) > 0 {
		fmt.Fprintf(&b, "options %s\n", strings.Join(r.Options, " "))
	}
	return b.Bytes()
}

// with is r with what was asked for in place of it.
func (r Resolv) with(o *Options) Resolv {
	if len(o.DNS) > 0 {
		r.Servers = nil
		for _, s := range o.DNS {
			if ip, err := netip.ParseAddr(s); err == nil {
				r.Servers = append(r.Servers, ip)
			}
		}
	}
	if len(o.DNSSearch) > 0 {
		r.Search = o.DNSSearch
		if len(o.DNSSearch) == 1 && o.DNSSearch[0] == "." {
			r.Search = nil
		}
	}
	if len(o.DNSOptions) > 0 {
		r.Options = o.DNSOptions
	}
	return r
}

// reachable parts the resolvers into those that a network of its own can ask, and those on
// the host's loopback (or on a link of the host's alone), which it cannot.
func reachable(list []netip.Addr) (yes, no []netip.Addr) {
	for _, ip := range list {
		if ip.IsLoopback() || ip.IsUnspecified() || ip.Zone() != "" {
			no = append(no, ip)
		} else {
			yes = append(yes, ip)
		}
	}
	return yes, no
}

// hostResolv is whom the host asks. Where those cannot be reached from another network, and
// systemd says who is behind them, these.
func hostResolv(private bool) Resolv { return readResolv(resolvFile, systemdFile, private) }

func readResolv(file, behind string, private bool) Resolv {
	data, _ := os.ReadFile(file) // who has none asks nobody
	r := parseResolv(data)
	if !private {
		return r
	}
	if yes, _ := reachable(r.Servers); len(yes) > 0 {
		r.Servers = yes
		return r
	}
	if data, err := os.ReadFile(behind); err == nil {
		if b := parseResolv(data); len(b.Servers) > 0 {
			b.Servers, _ = reachable(b.Servers)
			return b
		}
	}
	return r
}

// ResolvConf is the host's /etc/resolv.conf; empty where it has none.
func ResolvConf() []byte {
	data, err := os.ReadFile(resolvFile)
	if err != nil {
		return nil
	}
	return data
}

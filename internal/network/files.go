package network

import (
	"net/netip"
)

// Files are those by which a container sees names, whose network is i.
func Files(a Ask, i Info) ([]File, error) {
	n := &Network{Info: i}
	if err := a.Check(); err != nil {
		return nil, err
	}
	err := n.files(&a)
	return n.Files, err
}

// files makes those by which the container sees names.
func (n *Network) files(a *Ask) error {
	h := HostsFile{Hostname: a.Hostname, Domain: a.Domainname, Extra: a.ExtraHosts}
	if n.Info.IP != "" {
		h.Addr, _ = netip.ParseAddr(n.Info.IP)
	}
	if n.Info.Gateway != "" {
		h.Gateway, _ = netip.ParseAddr(n.Info.Gateway)
	}
	hosts, err := h.Bytes()
	if err != nil {
		return err
	}
	n.Files = []File{
		{"/etc/hosts", hosts},
		{"/etc/hostname", []byte(a.Hostname + "\n")},
		{"/etc/resolv.conf", n.resolv(a)},
	}
	return nil
}

// resolv says whom the container asks for names.
func (n *Network) resolv(a *Ask) []byte {
	private := a.Mode == ModePrivate
	if !private && len(a.DNS)+len(a.DNSSearch)+len(a.DNSOptions) == 0 {
		return ResolvConf()
	}
	r := hostResolv(private).with(&a.Options)
	if !private || len(a.DNS) > 0 {
		return r.Bytes()
	}
	yes, no := reachable(r.Servers)
	switch {
	case n.Info.DNS != "" && len(yes) == 0:
		if ip, err := netip.ParseAddr(n.Info.DNS); err == nil {
			r.Servers = []netip.Addr{ip}
		}
	case len(yes) == 0 && len(no) > 0:
		r.Servers, n.nameless = nil, true
		n.Notes = append(n.Notes, "the host's resolver listens on its loopback alone, where containers do not reach it: say another by --dns")
	}
	return r.Bytes()
}

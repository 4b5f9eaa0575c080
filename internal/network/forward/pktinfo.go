package forward

import (
	"net"
	"net/netip"

	"golang.org/x/sys/unix"
)

// A host has several addresses, and the answer to a datagram has to come from the one it was sent
// to: the kernel tells it beside the datagram, and takes it beside the answer (ip(7), IP_PKTINFO;
// ipv6(7), IPV6_PKTINFO).

// controlSize is room for either.
const controlSize = 64

// wantOwnAddress has the kernel tell.
func wantOwnAddress(c *net.UDPConn, ip netip.Addr) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var inner error
	err = raw.Control(func(fd uintptr) {
		if ip.Is6() {
			inner = unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1)
		} else {
			inner = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_PKTINFO, 1)
		}
	})
	if err != nil {
		return err
	}
	return inner
}

// ownAddress reads what it told; not valid if it did not.
func ownAddress(control []byte) netip.Addr {
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return netip.Addr{}
	}
	for _, m := range messages {
		switch {
		case m.Header.Level == unix.IPPROTO_IP && m.Header.Type == unix.IP_PKTINFO && len(m.Data) >= unix.SizeofInet4Pktinfo:
			return netip.AddrFrom4([4]byte(m.Data[4:8])) // ipi_spec_dst
		case m.Header.Level == unix.IPPROTO_IPV6 && m.Header.Type == unix.IPV6_PKTINFO && len(m.Data) >= unix.SizeofInet6Pktinfo:
			return netip.AddrFrom16([16]byte(m.Data[:16]))
		}
	}
	return netip.Addr{}
}

// fromAddress is what to send beside an answer; nil lets the kernel choose.
func fromAddress(ip netip.Addr) []byte {
	switch {
	case ip.Is4():
		return unix.PktInfo4(&unix.Inet4Pktinfo{Spec_dst: ip.As4()})
	case ip.Is6() && !ip.IsLinkLocalUnicast(): // that would need its device, too
		return unix.PktInfo6(&unix.Inet6Pktinfo{Addr: ip.As16()})
	}
	return nil
}

package bridge

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// rangeBits is how many bits of an address are the network's: there are addresses for
// 4093 namespaces, four times the ports a bridge of Linux has.
const rangeBits = 20

// ranges are where the bridge's network may be, in the order they are tried.
func ranges(yield func(netip.Prefix) bool) {
	for _, block := range []struct {
		first [4]byte
		count int
	}{{[4]byte{10, 219, 0, 0}, 16}, {[4]byte{172, 30, 0, 0}, 16}, {[4]byte{192, 168, 192, 0}, 4}, {[4]byte{10, 64, 0, 0}, 1024}} {
		b := block.first
		for range block.count {
			if !yield(netip.PrefixFrom(netip.AddrFrom4(b), rangeBits)) {
				return
			}
			next := int(b[1])<<8 + int(b[2]) + 1<<(24-rangeBits)
			b[1], b[2] = byte(next>>8), byte(next)
		}
	}
}

// freeRange is the first range that collides with none in use.
func freeRange(used []netip.Prefix) (netip.Prefix, error) {
	for r := range ranges {
		free := true
		for _, u := range used {
			free = free && !u.Overlaps(r)
		}
		if free {
			return r, nil
		}
	}
	return netip.Prefix{}, errors.New("all ranges of private addresses are in use")
}

// ensureDevice sees to it that the bridge is there and up, and returns its address.
func ensureDevice(h *netlink.Handle) (netip.Prefix, error) {
	link, err := h.LinkByName(Name)
	var absent netlink.LinkNotFoundError
	switch {
	case errors.As(err, &absent):
		if link, err = makeDevice(h); err != nil {
			return netip.Prefix{}, err
		}
	case err != nil:
		return netip.Prefix{}, fmt.Errorf("find %s: %w", Name, err)
	case link.Type() != "bridge":
		return netip.Prefix{}, fmt.Errorf("the host has a device %s which is no bridge but of type %s", Name, link.Type())
	}
	own, err := address(h, link)
	if err != nil {
		return own, err
	}
	if link.Attrs().Flags&net.FlagUp == 0 {
		if err := h.LinkSetUp(link); err != nil {
			return own, fmt.Errorf("set %s up: %w", Name, err)
		}
	}
	return own, nil
}

func makeDevice(h *netlink.Handle) (netlink.Link, error) {
	attrs := netlink.LinkAttrs{Name: Name, MTU: outerMTU(h), TxQLen: -1}
	// Without an address of its own it would take that of whoever connects, and lose it again.
	attrs.HardwareAddr = net.HardwareAddr{0x02, 0x6e, 0x61, 0x63, 0x72, 0x65}
	if err := h.LinkAdd(&netlink.Bridge{LinkAttrs: attrs}); err != nil {
		return nil, fmt.Errorf("make bridge %s: %w", Name, err)
	}
	return h.LinkByName(Name)
}

// address is the bridge's, which it is given if it has none.
func address(h *netlink.Handle, link netlink.Link) (netip.Prefix, error) {
	list, err := retry(func() ([]netlink.Addr, error) { return h.AddrList(link, unix.AF_INET) })
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("addresses of %s: %w", Name, err)
	}
	for _, a := range list {
		if p, ok := prefix(a.IPNet); ok && p.Bits() <= 30 {
			return p, nil
		}
	}
	used, err := usedRanges(h)
	if err != nil {
		return netip.Prefix{}, err
	}
	free, err := freeRange(used)
	if err != nil {
		return netip.Prefix{}, err
	}
	own := netip.PrefixFrom(free.Addr().Next(), free.Bits())
	if err := h.AddrAdd(link, &netlink.Addr{IPNet: ipNet(own)}); err != nil {
		return netip.Prefix{}, fmt.Errorf("give %s the address %s: %w", Name, own, err)
	}
	return own, nil
}

// usedRanges are those the host has a route to, in any table, and those of its addresses.
func usedRanges(h *netlink.Handle) ([]netip.Prefix, error) {
	routes, err := retry(func() ([]netlink.Route, error) {
		return h.RouteListFiltered(unix.AF_INET, &netlink.Route{Table: unix.RT_TABLE_UNSPEC}, netlink.RT_FILTER_TABLE)
	})
	if err != nil {
		return nil, fmt.Errorf("routes: %w", err)
	}
	addrs, err := retry(func() ([]netlink.Addr, error) { return h.AddrList(nil, unix.AF_INET) })
	if err != nil {
		return nil, fmt.Errorf("addresses: %w", err)
	}
	var used []netip.Prefix
	for _, r := range routes {
		if p, ok := prefix(r.Dst); ok && p.Bits() > 0 {
			used = append(used, p)
		}
	}
	for _, a := range addrs {
		if p, ok := prefix(a.IPNet); ok {
			used = append(used, p)
		}
	}
	return used, nil
}

// outerMTU is that of the device with the default route: a larger one loses packets in
// networks that do not say so. 0 is the kernel's default.
func outerMTU(h *netlink.Handle) int {
	routes, err := retry(func() ([]netlink.Route, error) { return h.RouteList(nil, unix.AF_INET) })
	if err != nil {
		return 0
	}
	for _, r := range routes {
		if p, ok := prefix(r.Dst); r.Dst != nil && ok && p.Bits() > 0 {
			continue
		}
		if link, err := h.LinkByIndex(r.LinkIndex); err == nil {
			return link.Attrs().MTU
		}
	}
	return 0
}

// prefix is n as a value.
func prefix(n *net.IPNet) (netip.Prefix, bool) {
	if n == nil {
		return netip.Prefix{}, false
	}
	ip, ok := netip.AddrFromSlice(n.IP)
	bits, size := n.Mask.Size()
	return netip.PrefixFrom(ip.Unmap(), bits), ok && size == 32
}

// retry repeats a listing that the kernel says has changed under our hands.
func retry[T any](list func() (T, error)) (T, error) {
	for range 10 {
		if out, err := list(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			return out, err
		}
	}
	return list()
}

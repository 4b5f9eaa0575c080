// Package bridge connects network namespaces with each other and with the world: by a
// bridge on the host, an address for each, and address translation on the way out.
//
// The bridge and its rules are shared by all processes, made when first needed, and put
// right by whoever comes next. They stay when nobody needs them any more. An address is
// held by a file lock, and a pair of devices by the namespace: both go with their owner,
// however it ends.
package bridge

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"nacre/internal/network/netns"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Name is that of the device.
const Name = "nacre0"

// Device is the name of the device in a namespace.
const Device = "eth0"

// ErrUnavailable says that this machine, or this process, cannot have such a network: the kernel has
// no bridges, or the right to make one is missing. Nothing has been left behind.
var ErrUnavailable = errors.New("no bridge network is to be had")

// Bridge is the one of a host. It holds nothing open.
type Bridge struct {
	dir string // where leases are
}

// New is the bridge whose state is in dir, which is made when needed. It must be one that
// does not outlive the machine's run, and the same for all.
func New(dir string) *Bridge { return &Bridge{dir} }

// Want is what a namespace asks for. All may be empty.
type Want struct {
	IP    netip.Addr // of the bridge's range
	MAC   net.HardwareAddr
	Names []string // and ID: who it is, for those who look at leases
	ID    string
}

// Link is a namespace's connection.
type Link struct {
	Addr    netip.Prefix
	Gateway netip.Addr // the host's address on the bridge
	MAC     net.HardwareAddr
	// Notes say what was changed on the host, or could not be done, one line each.
	Notes []string
	lease *lease
	host  string // the host's end
}

// Reserve takes an address for a namespace that is connected later. An error other than ErrUnavailable is about what was wanted.
func (b *Bridge) Reserve(ctx context.Context, w Want) (*Link, error) {
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("%w: netlink: %w", ErrUnavailable, err)
	}
	defer h.Close()
	return b.reserve(ctx, h, w)
}

// Connect connects the namespace that the address is for.
func (l *Link) Connect(ns *os.File) error {
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err == nil {
		defer h.Close()
		err = l.connect(h, ns)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return nil
}

// reserve sees to the bridge and its rules and takes an address, with nobody else doing so.
func (b *Bridge) reserve(ctx context.Context, h *netlink.Handle, w Want) (*Link, error) {
	if err := os.MkdirAll(filepath.Join(b.dir, leaseDir), 0o755); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	unlock, err := lockFile(filepath.Join(b.dir, "lock"))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	defer unlock()
	own, err := ensureDevice(h)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	notes, err := ensureWayOut(ctx, own.Masked())
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	lease, err := b.lease(own, w)
	if err != nil {
		return nil, err
	}
	mac := w.MAC
	if mac == nil {
		mac = hardwareAddr(lease.addr)
	}
	return &Link{
		MAC: mac, Addr: netip.PrefixFrom(lease.addr, own.Bits()), Gateway: own.Addr(), Notes: notes, lease: lease,
		host: hostDevice(lease.addr),
	}, nil
}

// Close gives the address back. The devices go with the namespace, or when somebody else gets
// the address: to remove them takes longer than all the rest, and nobody waits for it.
func (l *Link) Close() { l.lease.release() }

// hostDevice names the host's end of the pair of an address: no two that live have the same.
func hostDevice(ip netip.Addr) string { return fmt.Sprintf("nv%x", ip.As4()) }

// connect makes the pair of devices and gives the namespace its address and its way out.
func (l *Link) connect(h *netlink.Handle, ns *os.File) error {
	bridge, err := h.LinkByName(Name)
	if err != nil {
		return fmt.Errorf("find %s: %w", Name, err)
	}
	mtu := bridge.Attrs().MTU
	pair := &netlink.Veth{
		// One queue each is what the kernel uses unless it is told how many there are. But then it makes one for each processor, and waits,
		// once for each device, until nobody can be at the others (veth_init_queues).
		LinkAttrs: netlink.LinkAttrs{
			Name: l.host, MTU: mtu, MasterIndex: bridge.Attrs().Index, TxQLen: -1, Flags: net.FlagUp, NumTxQueues: 1, NumRxQueues: 1,
		},
		PeerName: Device, PeerHardwareAddr: l.MAC, PeerMTU: uint32(mtu), PeerNamespace: netlink.NsFd(ns.Fd()),
	}
	err = h.LinkAdd(pair)
	if errors.Is(err, unix.EEXIST) {
		// Its namespace is on its way out: the address would not be ours otherwise.
		if err := removeDevice(h, l.host); err != nil {
			return err
		}
		err = h.LinkAdd(pair)
	}
	if err != nil {
		return fmt.Errorf("make devices %s and %s: %w", l.host, Device, err)
	}
	if err := netns.Do(ns, func() error { return setUp(l.Addr, l.Gateway) }); err != nil {
		removeDevice(h, l.host)
		return err
	}
	settle(h, l.host)
	settle(h, Name)
	return nil
}

// settle waits until a device that has just been connected passes packets on: the kernel looks
// after that in the background, up to a second later, and drops all until then. Where it is asked
// for the device it does so first (rtnl_getlink, since 6.8); it is waited for elsewhere.
func settle(h *netlink.Handle, name string) {
	for range 50 {
		link, err := h.LinkByName(name)
		if err != nil || link.Attrs().OperState == netlink.OperUp {
			return
		}
		time.Sleep(time.Millisecond)
	}
}

// setUp gives the devices of the namespace that the thread is in their addresses and routes.
func setUp(addr netip.Prefix, gateway netip.Addr) error {
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer h.Close()
	for _, name := range []string{"lo", Device} {
		link, err := h.LinkByName(name)
		if err != nil {
			return fmt.Errorf("find %s: %w", name, err)
		}
		if name == Device {
			if err := h.AddrAdd(link, &netlink.Addr{IPNet: ipNet(addr)}); err != nil {
				return fmt.Errorf("give %s the address %s: %w", name, addr, err)
			}
		}
		if err := h.LinkSetUp(link); err != nil {
			return fmt.Errorf("set %s up: %w", name, err)
		}
		if name == Device {
			route := &netlink.Route{LinkIndex: link.Attrs().Index, Gw: gateway.AsSlice()}
			if err := h.RouteAdd(route); err != nil {
				return fmt.Errorf("add the default route by %s: %w", gateway, err)
			}
		}
	}
	return nil
}

func removeDevice(h *netlink.Handle, name string) error {
	link, err := h.LinkByName(name)
	if err == nil {
		err = h.LinkDel(link)
	}
	var gone netlink.LinkNotFoundError
	if err == nil || errors.As(err, &gone) || errors.Is(err, unix.ENODEV) || errors.Is(err, unix.EINVAL) {
		return nil // or it went by itself
	}
	return fmt.Errorf("remove device %s: %w", name, err)
}

// hardwareAddr follows from the address, so that neighbours who remember the last one who
// had it are not wrong.
func hardwareAddr(ip netip.Addr) net.HardwareAddr {
	b := ip.As4()
	return net.HardwareAddr{0x02, 0x6e, b[0], b[1], b[2], b[3]}
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

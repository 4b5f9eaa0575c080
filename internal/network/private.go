package network

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"

	"nacre/internal/network/bridge"
	"nacre/internal/network/netns"
	"nacre/internal/network/usernet"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// StateDir is where the addresses of the bridge are kept: the same for all stores of the host.
// A test may have another.
var StateDir = "/run/nacre/network"

// openPrivate makes a network of the container's own. Published ports are in use at once, so that
// who cannot have them learns it before anything is started.
func (n *Network) openPrivate(ctx context.Context, a *Ask) (err error) {
	if err := n.publish(a); err != nil {
		return err
	}
	if !a.OwnUser {
		if n.ns, err = netns.New(); err != nil {
			return err
		}
		n.path = netns.Path(n.ns)
	}
	bridgeErr := n.reserve(ctx, a)
	if bridgeErr != nil && (!errors.Is(bridgeErr, bridge.ErrUnavailable) || a.IP != "" || a.MAC != "") {
		return bridgeErr
	}
	connect := func(ctx context.Context, pid int) error {
		return n.connect(ctx, a, pid, bridgeErr)
	}
	if a.OwnUser {
		n.Created = connect
	} else if err := connect(ctx, 0); err != nil {
		return err
	}
	return n.files(a)
}

// reserve takes an address on the bridge.
func (n *Network) reserve(ctx context.Context, a *Ask) (err error) {
	w := bridge.Want{ID: a.ID, Names: []string{a.Name, a.Hostname}}
	if a.IP != "" {
		w.IP, _ = netip.ParseAddr(a.IP) // both have been checked
	}
	if a.MAC != "" {
		w.MAC, _ = net.ParseMAC(a.MAC)
	}
	if n.link, err = bridge.New(StateDir).Reserve(ctx, w); err != nil {
		return err
	}
	n.Notes = append(n.Notes, n.link.Notes...)
	n.Info.Way, n.Info.MAC = WayBridge, n.link.MAC.String()
	n.Info.IP, n.Info.Bits, n.Info.Gateway = n.link.Addr.Addr().String(), n.link.Addr.Bits(), n.link.Gateway.String()
	return nil
}

// connect gives the namespace, which is that of pid where we have not made it, its way out.
func (n *Network) connect(ctx context.Context, a *Ask, pid int, bridgeErr error) (err error) {
	if n.ns == nil {
		if n.ns, err = os.Open(fmt.Sprintf("/proc/%d/ns/net", pid)); err != nil {
			return err
		}
	}
	if n.link != nil {
		if err = n.link.Connect(n.ns); err == nil {
			n.start()
			return nil
		}
		n.link.Close()
		n.link, n.Info, bridgeErr = nil, Info{Mode: n.Info.Mode, Ports: n.Info.Ports}, err
		if a.IP != "" || a.MAC != "" {
			return err
		}
	}
	n.connectUser(ctx, a, pid, bridgeErr)
	n.start()
	return nil
}

// connectUser has a program be the way out; where there is none, there is none, and a note.
func (n *Network) connectUser(ctx context.Context, a *Ask, pid int, bridgeErr error) {
	space := usernet.Space{Pid: pid}
	if pid == 0 {
		space.Namespace = n.ns
	}
	out, err := usernet.Attach(ctx, space, a.Guard)
	if err == nil {
		n.out, n.Info.Way, n.Info.DNS = out, out.Name, out.DNS.String()
		if own := ownAddress(n.ns); own.IsValid() {
			n.Info.IP = own.String()
		}
		return
	}
	n.Info.Way = WayNone
	note := "the network has no way out: install pasta (package passt), or use --network host"
	if !errors.Is(err, usernet.ErrNone) {
		note = "the network has no way out: " + oneLine(err)
	}
	if os.Geteuid() == 0 && !errors.Is(bridgeErr, unix.EPERM) && !errors.Is(bridgeErr, unix.EACCES) {
		note += " (" + oneLine(bridgeErr) + ")"
	}
	n.Notes = append(n.Notes, note)
	if err := netns.Do(n.ns, dummyAddress); err != nil {
		n.Notes = append(n.Notes, oneLine(err))
		return
	}
	n.Info.IP, n.Info.Bits = dummyIP.String(), 32
}

func oneLine(err error) string { return strings.ReplaceAll(err.Error(), "\n", "; ") }

// dummyIP is for what has no other address (RFC 7600).
var dummyIP = netip.AddrFrom4([4]byte{192, 0, 0, 8})

// dummyAddress gives loopback one more address, to which published ports lead: what trusts who comes
// from 127.0.0.1 shall not trust all.
func dummyAddress() error {
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer h.Close()
	lo, err := h.LinkByName("lo")
	if err != nil {
		return err
	}
	err = h.AddrAdd(lo, &netlink.Addr{IPNet: &net.IPNet{IP: dummyIP.AsSlice(), Mask: net.CIDRMask(32, 32)}})
	if err != nil {
		return fmt.Errorf("give loopback an address: %w", err)
	}
	return nil
}

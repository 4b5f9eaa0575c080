package network

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"strings"

	"nacre/internal/network/bridge"
	"nacre/internal/network/forward"
	"nacre/internal/network/netns"
	"nacre/internal/network/port"
	"nacre/internal/network/usernet"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// Ask is a container that is to get a network.
type Ask struct {
	Options
	ID, Name             string // for those who look who has an address
	Hostname, Domainname string
	Exposed              []string // "80/tcp", of the image
	// OwnUser says that the sandbox has a user namespace of its own: its network namespace is made
	// with it, and connected once it is there. See Created.
	OwnUser bool
	// Join finds the container of ModeContainer; it must be running.
	Join func(ctx context.Context, name string) (Joined, error)
	// Guard has a process killed when this one ends, until what it returns is called.
	Guard func(*os.Process) (stop func())
}

// Joined is what a container shares with another.
type Joined struct {
	Path  string // of the network namespace
	Files []File
}

// File is a file by which a container sees names.
type File struct {
	Path string
	Data []byte
}

// Ways out of a private network.
const (
	WayBridge = "bridge"
	WayNone   = "loopback"
)

// Info is what a container got. It is kept as JSON: names are stable.
type Info struct {
	Mode    string `json:"mode,omitempty"`
	Way     string `json:"way,omitempty"` // of ModePrivate: WayBridge, WayNone, or the name of the program
	IP      string `json:"ip,omitempty"`
	Bits    int    `json:"bits,omitempty"` // of IP's network
	Gateway string `json:"gateway,omitempty"`
	MAC     string `json:"mac,omitempty"`
	DNS     string `json:"dns,omitempty"`   // stands for the host's resolvers, which are not reached else
	Ports   []Port `json:"ports,omitempty"` // as they are published
}

// Network is a container's network while it runs.
type Network struct {
	Info  Info
	Files []File
	// Notes are for the user: what was changed on the host, and what is missing.
	Notes []string
	// Created is to be called when the sandbox's namespaces exist; nil if there is no need.
	Created func(ctx context.Context, pid int) error

	path  string // of a namespace to be joined; empty: the sandbox makes its own
	ns    *os.File
	link  *bridge.Link
	ports *forward.Forwarder
	out   *usernet.Process
	// nameless tells that the host finds names, and the container does not.
	nameless bool
}

// Open makes what is asked for. Close undoes it, and so does the end of this process.
func Open(ctx context.Context, a Ask) (*Network, error) {
	if err := a.Check(); err != nil {
		return nil, err
	}
	n := &Network{Info: Info{Mode: a.Mode}}
	var err error
	switch {
	case a.Mode == ModePrivate:
		err = n.openPrivate(ctx, &a)
	case strings.HasPrefix(a.Mode, ModeContainer):
		err = n.join(ctx, &a)
	default:
		if len(a.Ports) > 0 || a.PublishAll {
			n.Notes = append(n.Notes, "published ports are discarded with --network "+a.Mode)
		}
		err = n.files(&a)
	}
	if err != nil {
		n.Close()
		return nil, err
	}
	return n, nil
}

// ErrForeign is why a container has no namespace of another's.
var ErrForeign = errors.New("its user namespace is another one, as it was started again or with another --isolation; start this container again, by itself")

// join shares the network of another container, and its files.
func (n *Network) join(ctx context.Context, a *Ask) error {
	j, err := a.Join(ctx, strings.TrimPrefix(a.Mode, ModeContainer))
	if err != nil {
		return fmt.Errorf("--network %s: %w", a.Mode, err)
	}
	// By a descriptor: the process that is named by the path may end, and its number be another's.
	if n.ns, err = os.Open(j.Path); errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("--network %s: %w: %w", a.Mode, err, ErrForeign)
	}
	if err != nil {
		return fmt.Errorf("--network %s: %w", a.Mode, err)
	}
	n.path, n.Files = netns.Path(n.ns), j.Files
	return nil
}

// Gateway is the host's address on the bridge; not valid where there is none.
func (n *Network) Gateway() netip.Addr {
	ip, _ := netip.ParseAddr(n.Info.Gateway)
	return ip
}

// Resolv is the /etc/resolv.conf among Files.
func (n *Network) Resolv() []byte {
	for _, f := range n.Files {
		if f.Path == resolvFile {
			return f.Data
		}
	}
	return nil
}

// Apply makes a spec, which has a network namespace unless the network is the host's, use this one.
func (n *Network) Apply(s *specs.Spec) {
	for i := range s.Linux.Namespaces {
		if s.Linux.Namespaces[i].Type == specs.NetworkNamespace {
			s.Linux.Namespaces[i].Path = n.path
		}
	}
}

// Close ends what was made for the network.
func (n *Network) Close() {
	if n.ports != nil {
		n.ports.Close()
	}
	if n.out != nil {
		n.out.Close()
	}
	if n.link != nil {
		n.link.Close()
	}
	if n.ns != nil {
		n.ns.Close()
	}
	*n = Network{Info: n.Info}
}

// publish takes the ports of the host. Who comes has to wait until start.
func (n *Network) publish(a *Ask) (err error) {
	ports := a.Ports
	if a.PublishAll {
		if ports, err = port.Expose(ports, append(append([]string(nil), a.Exposed...), a.Expose...)); err != nil {
			return err
		}
	}
	if len(ports) == 0 {
		return nil
	}
	n.ports, err = forward.Listen(ports)
	if err == nil {
		n.Info.Ports = n.ports.Ports()
	}
	return err
}

// sockets makes sockets in a namespace.
type sockets struct{ ns *os.File }

func (s sockets) Socket(domain, kind int) (int, error) { return netns.Socket(s.ns, domain, kind) }

// loopbacks are tried after the container's own address.
var loopbacks = []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()}

// start lets those in who come to published ports.
func (n *Network) start() {
	if n.ports == nil {
		return
	}
	var addrs []netip.Addr
	// What is on the loopback would take a stranger for one of its own machine.
	if own, err := netip.ParseAddr(n.Info.IP); err == nil {
		addrs = append(addrs, own)
	}
	n.ports.Start(forward.Target{Dialer: sockets{n.ns}, Addrs: append(addrs, loopbacks...)})
}

// ownAddress is the address by which a namespace would send to the world; not valid if it has none.
func ownAddress(ns *os.File) (own netip.Addr) {
	netns.Do(ns, func() error {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		// Nothing is sent: to connect chooses the address.
		if err := unix.Connect(fd, &unix.SockaddrInet4{Port: 9, Addr: [4]byte{192, 0, 2, 1}}); err != nil {
			return err
		}
		if sa, err := unix.Getsockname(fd); err == nil {
			if in, ok := sa.(*unix.SockaddrInet4); ok {
				own = netip.AddrFrom4(in.Addr)
			}
		}
		return nil
	})
	return own
}

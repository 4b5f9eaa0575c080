// Package forward carries what comes to ports of the host into a network namespace.
//
// It listens in the host's namespace, and the connections it makes begin in the container's:
// neither a bridge nor a rule of a firewall is needed, nor any right but that to enter the
// namespace. What listens in the container sees as its peer the container's own address.
package forward

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"syscall"

	"nacre/internal/network/port"
)

// Dialer makes sockets in the container's namespace (socket(2)), which do not block.
type Dialer interface {
	Socket(domain, kind int) (fd int, err error)
}

// Target is where to.
type Target struct {
	Dialer
	// Addrs are tried in this order: what a program does not listen on it may on the next.
	Addrs []netip.Addr
}

// Forwarder is a set of published ports.
type Forwarder struct {
	ports []port.Port
	tcp   []*tcpPort
	udp   []*udpPort
	ctx   context.Context
	stop  context.CancelFunc
	wg    sync.WaitGroup
}

// TakenError says that a port of the host cannot be had because somebody has it, in docker's words.
type TakenError struct{ Address string }

func (e *TakenError) Error() string {
	return fmt.Sprintf("Bind for %s failed: port is already allocated", e.Address)
}

// Listen takes ports of the host, all or none. Nothing is accepted before Start.
func Listen(ports []port.Port) (*Forwarder, error) {
	f := &Forwarder{}
	f.ctx, f.stop = context.WithCancel(context.Background())
	for _, p := range ports {
		if err := f.listen(p); err != nil {
			f.Close()
			return nil, err
		}
	}
	return f, nil
}

// Ports are the ports as they are: each with its address, and none of them any.
func (f *Forwarder) Ports() []port.Port { return f.ports }

// Start begins to accept.
func (f *Forwarder) Start(t Target) {
	for _, p := range f.tcp {
		f.wg.Go(func() { p.serve(f.ctx, t) })
	}
	for _, p := range f.udp {
		f.wg.Go(func() { p.serve(f.ctx, t) })
	}
}

// Close ends all connections and gives the ports back.
func (f *Forwarder) Close() {
	f.stop()
	for _, p := range f.tcp {
		p.listener.Close()
	}
	for _, p := range f.udp {
		p.conn.Close()
	}
	f.wg.Wait()
}

// anyTries is how often another port is tried where any will do, and what is free at one
// address is taken at the other.
const anyTries = 20

// listen takes one port, at both kinds of addresses if none is said.
func (f *Forwarder) listen(p port.Port) error {
	hosts := []string{p.HostIP}
	if p.HostIP == "" {
		hosts = []string{"0.0.0.0", "::"}
	}
	numbers := []uint16{p.HostPort}
	for n := p.HostPort; n < p.HostEnd; n++ {
		numbers = append(numbers, n+1)
	}
	for p.HostPort == 0 && len(numbers) < anyTries {
		numbers = append(numbers, 0)
	}
	var err error
	for _, n := range numbers {
		if err = f.listenAt(hosts, n, p); err == nil {
			return nil
		}
		if !errors.Is(err, syscall.EADDRINUSE) {
			break
		}
	}
	if errors.Is(err, syscall.EADDRINUSE) {
		return &TakenError{net.JoinHostPort(hosts[0], strconv.Itoa(int(p.HostPort)))}
	}
	return fmt.Errorf("publish port %s: %w", p.Key(), err)
}

// listenAt takes one number at all addresses, or at none.
func (f *Forwarder) listenAt(hosts []string, number uint16, p port.Port) error {
	var undo []func() error
	ports, tcp, udp := f.ports, f.tcp, f.udp
	for i, host := range hosts {
		bound := p
		bound.HostIP, bound.HostPort, bound.HostEnd = host, number, 0
		one, err := f.open(&bound)
		if i > 0 && noSuchAddress(err) {
			continue // this host has no IPv6
		}
		if err != nil {
			for _, c := range undo {
				c()
			}
			f.ports, f.tcp, f.udp = ports, tcp, udp
			return err
		}
		undo = append(undo, one)
		number = bound.HostPort
		f.ports = append(f.ports, bound)
	}
	return nil
}

// open opens the socket of one port, and sets the number it got.
func (f *Forwarder) open(p *port.Port) (undo func() error, err error) {
	ip, err := netip.ParseAddr(p.HostIP)
	if err != nil {
		return nil, err
	}
	at := netip.AddrPortFrom(ip, p.HostPort)
	network := p.Proto + "4"
	if ip.Is6() {
		network = p.Proto + "6"
	}
	if p.Proto == port.UDP {
		u, err := listenUDP(network, at, p.ContainerPort)
		if err != nil {
			return nil, err
		}
		f.udp = append(f.udp, u)
		p.HostPort = u.conn.LocalAddr().(*net.UDPAddr).AddrPort().Port()
		return u.conn.Close, nil
	}
	l, err := net.ListenTCP(network, net.TCPAddrFromAddrPort(at))
	if err != nil {
		return nil, err
	}
	f.tcp = append(f.tcp, &tcpPort{listener: l, port: p.ContainerPort})
	p.HostPort = l.Addr().(*net.TCPAddr).AddrPort().Port()
	return l.Close, nil
}

func noSuchAddress(err error) bool {
	return errors.Is(err, syscall.EAFNOSUPPORT) || errors.Is(err, syscall.EADDRNOTAVAIL) || errors.Is(err, syscall.EPROTONOSUPPORT)
}

package forward

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Limits of what a port keeps of its clients.
const (
	udpIdle       = 90 * time.Second // a client that is silent for as long, in both directions, is forgotten
	udpMaxClients = 4096             // of one port; the next ones get no answer until one is forgotten
	udpMaxPacket  = 64 << 10
)

// udpPort is one socket that datagrams come to.
type udpPort struct {
	conn *net.UDPConn
	port uint16 // in the container
	idle time.Duration
	max  int

	mu      sync.Mutex
	clients map[client]*net.UDPConn // nil while it is being connected
	wg      sync.WaitGroup
}

// client is who sent a datagram and which address of ours it was sent to: the answer comes from there.
type client struct{ from, to netip.AddrPort }

func listenUDP(network string, at netip.AddrPort, port uint16) (*udpPort, error) {
	c, err := net.ListenUDP(network, net.UDPAddrFromAddrPort(at))
	if err != nil {
		return nil, err
	}
	if err := wantOwnAddress(c, at.Addr()); err != nil {
		c.Close()
		return nil, err
	}
	return &udpPort{conn: c, port: port, idle: udpIdle, max: udpMaxClients, clients: map[client]*net.UDPConn{}}, nil
}

// serve passes datagrams on until the socket is closed, and returns when all clients are forgotten.
func (p *udpPort) serve(ctx context.Context, t Target) {
	defer p.wg.Wait()
	defer p.forgetAll()
	buf, control := make([]byte, udpMaxPacket), make([]byte, controlSize)
	for {
		n, cn, _, from, err := p.conn.ReadMsgUDPAddrPort(buf, control)
		if errors.Is(err, net.ErrClosed) || ctx.Err() != nil {
			return
		}
		if err != nil {
			continue // what an earlier answer brought back; the socket is as good as before
		}
		who := client{from, netip.AddrPortFrom(ownAddress(control[:cn]), 0)}
		if inner := p.inner(ctx, t, who); inner != nil {
			inner.SetReadDeadline(time.Now().Add(p.idle))
			inner.Write(buf[:n]) // what cannot be delivered is lost, as datagrams are
		}
	}
}

// inner is the socket of a client in the container; nil if there can be none.
func (p *udpPort) inner(ctx context.Context, t Target, who client) *net.UDPConn {
	p.mu.Lock()
	c, known := p.clients[who]
	full := len(p.clients) >= p.max
	p.mu.Unlock()
	if known || full {
		return c
	}
	conn, err := t.dial(ctx, unix.SOCK_DGRAM, p.port)
	if err != nil {
		return nil
	}
	c, ok := conn.(*net.UDPConn)
	if !ok {
		conn.Close()
		return nil
	}
	c.SetReadDeadline(time.Now().Add(p.idle))
	p.mu.Lock()
	p.clients[who] = c
	p.mu.Unlock()
	p.wg.Go(func() { p.answer(who, c) })
	return c
}

// answer passes a client's answers back until there have been none for long.
func (p *udpPort) answer(who client, c *net.UDPConn) {
	defer func() {
		p.mu.Lock()
		delete(p.clients, who)
		p.mu.Unlock()
		c.Close()
	}()
	buf := make([]byte, udpMaxPacket)
	control := fromAddress(who.to.Addr())
	for {
		n, err := c.Read(buf)
		switch {
		case errors.Is(err, unix.ECONNREFUSED):
			continue // nobody listens there, yet: the client will ask again
		case err != nil:
			return
		}
		c.SetReadDeadline(time.Now().Add(p.idle))
		if _, _, err := p.conn.WriteMsgUDPAddrPort(buf[:n], control, who.from); errors.Is(err, net.ErrClosed) {
			return
		}
	}
}

func (p *udpPort) forgetAll() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.clients {
		c.Close()
	}
}

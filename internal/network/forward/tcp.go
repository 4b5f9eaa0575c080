package forward

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// tcpPort is one listening socket.
type tcpPort struct {
	listener *net.TCPListener
	port     uint16 // in the container
}

// Waits after an accept that failed for want of something, descriptors most likely.
const (
	firstWait = 5 * time.Millisecond
	lastWait  = time.Second
)

// serve accepts until the listener is closed, and returns when all connections have ended.
func (p *tcpPort) serve(ctx context.Context, t Target) {
	var wg sync.WaitGroup
	defer wg.Wait()
	wait := firstWait
	for {
		c, err := p.listener.AcceptTCP()
		switch {
		case err == nil:
			wait = firstWait
			wg.Go(func() { p.carry(ctx, t, c) })
			continue
		case errors.Is(err, net.ErrClosed) || ctx.Err() != nil:
			return
		}
		select {
		case <-time.After(wait):
			wait = min(2*wait, lastWait)
		case <-ctx.Done():
			return
		}
	}
}

// carry carries one connection, to its end.
func (p *tcpPort) carry(ctx context.Context, t Target, outer *net.TCPConn) {
	c, err := t.dial(ctx, unix.SOCK_STREAM, p.port)
	if err != nil {
		abort(outer) // as one who is not listening would
		return
	}
	inner, ok := c.(*net.TCPConn)
	if !ok {
		c.Close()
		abort(outer)
		return
	}
	stop := context.AfterFunc(ctx, func() { abort(outer); abort(inner) })
	defer stop()
	var wg sync.WaitGroup
	wg.Go(func() { pass(inner, outer) })
	pass(outer, inner)
	wg.Wait()
	inner.Close()
	outer.Close()
}

// pass copies one direction; the kernel does it (splice(2)). Its end is passed on alone: the
// other direction may go on. What breaks it ends both.
func pass(to, from *net.TCPConn) {
	if _, err := io.Copy(to, from); err != nil {
		abort(to)
		abort(from)
		return
	}
	to.CloseWrite()
}

// abort closes a connection so that the other side does not take it for a proper end.
func abort(c *net.TCPConn) {
	c.SetLinger(0)
	c.Close()
}

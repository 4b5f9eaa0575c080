package forward

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// dialPatience is how long one address is tried.
const dialPatience = 10 * time.Second

// dial connects to the first address that answers. Kind is SOCK_STREAM or SOCK_DGRAM.
func (t Target) dial(ctx context.Context, kind int, port uint16) (net.Conn, error) {
	err := error(unix.EHOSTUNREACH)
	for _, ip := range t.Addrs {
		var c net.Conn
		if c, err = t.dialOne(ctx, kind, netip.AddrPortFrom(ip, port)); err == nil {
			return c, nil
		}
		if ctx.Err() != nil || !errors.Is(err, unix.ECONNREFUSED) {
			break
		}
	}
	return nil, err
}

func (t Target) dialOne(ctx context.Context, kind int, to netip.AddrPort) (net.Conn, error) {
	domain := unix.AF_INET
	if to.Addr().Is6() {
		domain = unix.AF_INET6
	}
	fd, err := t.Socket(domain, kind)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), "socket") // it does not block, so the runtime waits for it
	defer f.Close()
	if err := connect(ctx, f, to); err != nil {
		return nil, &net.OpError{Op: "dial", Addr: net.TCPAddrFromAddrPort(to), Err: err}
	}
	return net.FileConn(f)
}

// connect connects f, waiting for as long as ctx and dialPatience let it.
func connect(ctx context.Context, f *os.File, to netip.AddrPort) error {
	if err := f.SetWriteDeadline(time.Now().Add(dialPatience)); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { f.SetWriteDeadline(time.Unix(1, 0)) })
	defer stop()
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	begun := false
	var result error
	err = raw.Write(func(fd uintptr) bool {
		if !begun {
			begun = true
			result = unix.Connect(int(fd), sockaddr(to))
			return !errors.Is(result, unix.EINPROGRESS) && !errors.Is(result, unix.EINTR)
		}
		n, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_ERROR)
		switch {
		case err != nil:
			result = err
		case n != 0:
			result = syscall.Errno(n)
		default:
			// Woken up, maybe, without having been connected.
			if _, err := unix.Getpeername(int(fd)); err != nil {
				return false
			}
			result = nil
		}
		return true
	})
	if err != nil {
		return err
	}
	return result
}

func sockaddr(a netip.AddrPort) unix.Sockaddr {
	if a.Addr().Is4() {
		return &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}
	}
	return &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16()}
}

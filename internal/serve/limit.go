package serve

import (
	"net"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// limiter bounds how often a client asks: a user, wherever from, or an address.
type limiter struct {
	rate  rate.Limit
	burst int
	now   func() time.Time

	mu      sync.Mutex
	buckets map[string]*rate.Limiter
}

// maxBuckets bounds the memory of a limiter: some 20 MB.
const maxBuckets = 100_000

func newLimiter(perSecond float64, burst int, now func() time.Time) *limiter {
	return &limiter{rate: rate.Limit(perSecond), burst: burst, now: now, buckets: map[string]*rate.Limiter{}}
}

// ask counts a request; a positive answer is after what time it may be made.
func (l *limiter) ask(addr, user string) time.Duration {
	if l.rate == 0 {
		return 0
	}
	key := "user:" + user
	if user == "" {
		key = "addr:" + network(addr)
	}
	now := l.now()
	b := l.bucket(key, now)
	if b.AllowN(now, 1) {
		return 0
	}
	r := b.ReserveN(now, 1)
	defer r.CancelAt(now)
	return max(r.DelayFrom(now), time.Millisecond)
}

// failed is the time an address has to wait that has used up what it may, whoever it says it is:
// looking at credentials costs more than anything else.
func (l *limiter) failed(addr string) time.Duration {
	if l.rate == 0 {
		return 0
	}
	now := l.now()
	l.mu.Lock()
	b := l.buckets["addr:"+network(addr)]
	l.mu.Unlock()
	if b == nil || b.TokensAt(now) >= 1 {
		return 0
	}
	return time.Duration(float64(time.Second) * (1 - b.TokensAt(now)) / float64(l.rate))
}

func (l *limiter) bucket(key string, now time.Time) *rate.Limiter {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.buckets[key]
	if b == nil {
		if len(l.buckets) >= maxBuckets {
			l.makeRoom(now)
		}
		b = rate.NewLimiter(l.rate, l.burst)
		l.buckets[key] = b
	}
	return b
}

// makeRoom drops who has not asked for a while, and then anybody.
func (l *limiter) makeRoom(now time.Time) {
	for k, b := range l.buckets {
		if b.TokensAt(now) >= float64(l.burst) {
			delete(l.buckets, k)
		}
	}
	for k := range l.buckets {
		if len(l.buckets) < maxBuckets {
			return
		}
		delete(l.buckets, k)
	}
}

// network is what one client has of addresses: all of IPv6's last 64 bits.
func network(addr string) string {
	a, err := netip.ParseAddr(addr)
	if err != nil || a.Is4() {
		return addr
	}
	p, err := a.Prefix(64)
	if err != nil {
		return addr
	}
	return p.String()
}

// limitConnections lets n connections be open; further clients wait to be accepted.
func limitConnections(l net.Listener, n int) net.Listener {
	return &limitedListener{Listener: l, places: make(chan struct{}, n), closed: make(chan struct{})}
}

// limitedListener does what that of golang.org/x/net/netutil does, but its connections still have
// ReadFrom: by it the kernel sends blobs from files, for a third of the CPU.
type limitedListener struct {
	net.Listener
	places chan struct{}
	closed chan struct{}
	once   sync.Once
}

func (l *limitedListener) Accept() (net.Conn, error) {
	select {
	case l.places <- struct{}{}:
	case <-l.closed:
		return nil, net.ErrClosed
	}
	c, err := l.Listener.Accept()
	if err != nil {
		<-l.places
		return nil, err
	}
	free := sync.OnceFunc(func() { <-l.places })
	if tcp, ok := c.(*net.TCPConn); ok {
		return &limitedTCP{tcp, free}, nil
	}
	return &limitedConn{c, free}, nil
}

func (l *limitedListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return l.Listener.Close()
}

// limitedTCP frees its place when it is closed.
type limitedTCP struct {
	*net.TCPConn
	free func()
}

func (c *limitedTCP) Close() error {
	defer c.free()
	return c.TCPConn.Close()
}

// limitedConn is the same for connections of other kinds.
type limitedConn struct {
	net.Conn
	free func()
}

func (c *limitedConn) Close() error {
	defer c.free()
	return c.Conn.Close()
}

package network

import (
	"context"
	"fmt"
	"net/netip"
	"net/url"
	"strings"
	"sync"
)

// Pool keeps networks that were made for short-lived sandboxes, so that the next one need not wait
// for its own. It is for use by several goroutines at once.
type Pool struct {
	ask  Ask
	note func(string)

	mu   sync.Mutex
	idle []*Network
	host bool // private networks are not to be had here
	told map[string]bool
}

// NewPool is a pool of networks that are alike. Note gets what the user is to know of them, each
// text once.
func NewPool(a Ask, note func(string)) *Pool {
	a.Options = Options{Mode: ModePrivate}
	return &Pool{ask: a, note: note, told: map[string]bool{}}
}

// Get is a private network with a way out; nil is the host's, where there is none. Env are the
// variables of who is to use it: a proxy on the host's loopback is reached from there alone.
func (p *Pool) Get(ctx context.Context, env []string) (*Network, error) {
	if proxy := loopbackProxy(env); proxy != "" {
		p.tell(fmt.Sprintf("the network is the host's: the proxy %s is on its loopback", proxy))
		return nil, nil
	}
	p.mu.Lock()
	if p.host {
		p.mu.Unlock()
		return nil, nil
	}
	if last := len(p.idle) - 1; last >= 0 {
		n := p.idle[last]
		p.idle = p.idle[:last]
		p.mu.Unlock()
		return n, nil
	}
	p.mu.Unlock()
	n, err := Open(ctx, p.ask)
	why := ""
	switch {
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case err != nil:
		why = oneLine(err)
	case n.Info.Way == WayNone || n.nameless:
		why = strings.Join(n.Notes, "; ")
		n.Close()
	default:
		for _, text := range n.Notes {
			p.tell(text)
		}
		return n, nil
	}
	p.mu.Lock()
	p.host = true
	p.mu.Unlock()
	p.tell("the network is the host's: " + why)
	return nil, nil
}

// Put gives a network back that is as it was. Nil is nothing.
func (p *Pool) Put(n *Network) {
	if n == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.idle = append(p.idle, n)
}

// Close closes all networks that were given back.
func (p *Pool) Close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, n := range p.idle {
		n.Close()
	}
	p.idle = nil
}

func (p *Pool) tell(text string) {
	p.mu.Lock()
	known := p.told[text]
	p.told[text] = true
	p.mu.Unlock()
	if !known {
		p.note(text)
	}
}

// loopbackProxy is the first proxy among variables that is on the host's loopback.
func loopbackProxy(env []string) string {
	for _, e := range env {
		name, value, _ := strings.Cut(e, "=")
		switch strings.ToLower(name) {
		case "http_proxy", "https_proxy", "ftp_proxy", "all_proxy":
		default:
			continue
		}
		if !strings.Contains(value, "://") {
			value = "http://" + value
		}
		u, err := url.Parse(value)
		if err == nil && isLoopback(u.Hostname()) {
			return u.Redacted()
		}
	}
	return ""
}

func isLoopback(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback()
}

package serve

import (
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"nacre/internal/serve/config"
)

// proxies are the networks whose X-Forwarded-For is believed.
type proxies []netip.Prefix

func newProxies(all []string) (proxies, error) {
	var p proxies
	for _, s := range all {
		prefix, err := config.ParsePrefix(s)
		if err != nil {
			return nil, fmt.Errorf("trusted-proxies: %w", err)
		}
		p = append(p, prefix.Masked())
	}
	return p, nil
}

// client is the address a request comes from: the last one that no trusted proxy has.
// Whatever is further left in X-Forwarded-For could have been written by anybody.
func (p proxies) client(r *http.Request) string {
	addr, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	at := addr.Addr().Unmap()
	if len(p) == 0 {
		return at.String()
	}
	var hops []string
	for _, h := range r.Header.Values("X-Forwarded-For") {
		hops = append(hops, strings.Split(h, ",")...)
	}
	for i := len(hops) - 1; i >= 0 && p.trust(at); i-- {
		next, err := netip.ParseAddr(strings.TrimSpace(hops[i]))
		if err != nil {
			break
		}
		at = next.Unmap().WithZone("")
	}
	return at.String()
}

func (p proxies) trust(a netip.Addr) bool {
	return slices.ContainsFunc(p, func(n netip.Prefix) bool { return n.Contains(a) })
}

package graph

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
)

// maxPorts is how many ports there are: of three protocols.
const maxPorts = 3 << 16

// expose is EXPOSE. Unlike other instructions, one word may expand to several.
func (p *planner) expose(s *stage, c *instructions.ExposeCommand) error {
	var ports []string
	for _, word := range c.Ports {
		if bound(word, s.env) > maxExpansion {
			return errExpansion
		}
		words, err := p.lex.ProcessWords(word, s.env)
		if err != nil {
			return err
		}
		for _, w := range words {
			more, err := p.parsePort(c, w)
			if err != nil {
				return err
			}
			if ports = append(ports, more...); len(ports) > maxPorts {
				return errors.New("more ports than there are")
			}
		}
	}
	if s.config().ExposedPorts == nil {
		s.config().ExposedPorts = map[string]struct{}{}
	}
	for _, port := range ports {
		s.config().ExposedPorts[port] = struct{}{}
	}
	s.record(fmt.Sprintf("EXPOSE %v", ports), nil)
	return nil
}

// parsePort reads [[ip:]hostPort:]port[-last][/proto] and returns "port/proto" of each
// port. Docker has always taken the address and host port, and ignored them.
func (p *planner) parsePort(c *instructions.ExposeCommand, raw string) ([]string, error) {
	host, port := "", raw
	if i := strings.LastIndexByte(raw, ':'); i >= 0 {
		host, port = raw[:i], raw[i+1:]
	}
	port, proto, _ := strings.Cut(port, "/")
	if port == "" {
		return nil, fmt.Errorf("invalid port: %q: no port specified", raw)
	}
	switch strings.ToLower(proto) {
	case "":
		proto = "tcp"
	case "tcp", "udp", "sctp":
	default:
		return nil, fmt.Errorf("invalid port: %q: invalid proto: %s", raw, proto)
	}
	if proto != strings.ToLower(proto) {
		p.lint.Run(&linter.RuleExposeProtoCasing, c.Location(), linter.RuleExposeProtoCasing.Format(raw))
	}
	first, last, err := portRange(port)
	if err != nil {
		return nil, fmt.Errorf("invalid containerPort: %s: %w", port, err)
	}
	if host != "" {
		p.lint.Run(&linter.RuleExposeInvalidFormat, c.Location(), linter.RuleExposeInvalidFormat.Format(raw))
		if err := checkHostPort(host, last-first); err != nil {
			return nil, err
		}
	}
	ports := make([]string, 0, last-first+1)
	for n := first; n <= last; n++ {
		ports = append(ports, strconv.Itoa(n)+"/"+strings.ToLower(proto))
	}
	return ports, nil
}

// checkHostPort checks the ignored part: "ip:port", ":port" or "port", as wide as
// the port range, which spans extra ports beyond the first.
func checkHostPort(host string, extra int) error {
	ip, port := "", host
	if i := strings.LastIndexByte(host, ':'); i >= 0 {
		ip, port = host[:i], host[i+1:]
	}
	if _, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(ip, "["), "]")); ip != "" && err != nil {
		return fmt.Errorf("invalid IP address: %s", ip)
	}
	if port == "" {
		return nil
	}
	first, last, err := portRange(port)
	if err != nil {
		return fmt.Errorf("invalid hostPort: %s: %w", port, err)
	}
	if last-first != extra && extra != 0 {
		return fmt.Errorf("invalid ranges specified for container and host ports: %s", host)
	}
	return nil
}

func portRange(s string) (first, last int, err error) {
	a, b, isRange := strings.Cut(s, "-")
	if first, err = portNumber(a); err != nil || !isRange {
		return first, first, err
	}
	if last, err = portNumber(b); err == nil && last < first {
		err = errors.New("the range ends before it begins")
	}
	return first, last, err
}

func portNumber(s string) (int, error) {
	n, err := strconv.Atoi(s)
	if err != nil || n < 0 || n > 65535 {
		return 0, errors.New("a port is a number from 0 to 65535")
	}
	return n, nil
}

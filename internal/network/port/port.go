// Package port is the ports of containers: as users write them, and as they are published.
package port

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// Protocols of ports.
const (
	TCP = "tcp"
	UDP = "udp"
)

// Port is a port of a container, and of the host if it is published there.
type Port struct {
	HostIP        string `json:"hostIP,omitempty"`   // an address as netip.Addr prints it; empty: all there are
	HostPort      uint16 `json:"hostPort,omitempty"` // 0: any that is free
	HostEnd       uint16 `json:"hostEnd,omitempty"`  // not 0: the first that is free from HostPort to here
	ContainerPort uint16 `json:"containerPort"`
	Proto         string `json:"proto"` // TCP or UDP
}

// String is a port as docker ps shows it: 0.0.0.0:8080->80/tcp.
func (p Port) String() string {
	host := ""
	if p.HostPort != 0 {
		ip := p.HostIP
		if ip == "" {
			ip = "0.0.0.0"
		}
		if strings.Contains(ip, ":") {
			ip = "[" + ip + "]"
		}
		host = ip + ":" + strconv.Itoa(int(p.HostPort)) + "->"
	}
	return host + p.Key()
}

// Key is the container's port with its protocol, "80/tcp".
func (p Port) Key() string { return strconv.Itoa(int(p.ContainerPort)) + "/" + p.Proto }

// maxPublished is how many ports one -p may name: each is a socket, or several.
const maxPublished = 4096

// ParsePublish reads what docker's --publish takes: [[HOSTIP:][HOSTPORT[-END]]:]PORT[-END][/PROTO],
// where an address of IPv6 may be in brackets, or published=HOSTPORT,target=PORT,protocol=PROTO.
func ParsePublish(s string) ([]Port, error) {
	ports, err := parsePublish(s)
	if err != nil {
		return nil, fmt.Errorf("--publish %q: %w", s, err)
	}
	return ports, nil
}

func parsePublish(s string) ([]Port, error) {
	if strings.Contains(s, "=") {
		short, err := shortForm(s)
		if err != nil {
			return nil, err
		}
		s = short
	}
	s, proto, err := cutProto(s)
	if err != nil {
		return nil, err
	}
	ip, host, ctr := splitPublish(s)
	if ip, err = parseHostIP(ip); err != nil {
		return nil, err
	}
	first, last, err := parseRange("container port", ctr)
	if err != nil {
		return nil, err
	}
	if host == "" {
		return portRange(Port{HostIP: ip, ContainerPort: first, Proto: proto}, last, 0), nil
	}
	hostFirst, hostLast, err := parseRange("host port", host)
	if err != nil {
		return nil, err
	}
	p := Port{HostIP: ip, HostPort: hostFirst, ContainerPort: first, Proto: proto}
	switch {
	case hostLast-hostFirst == last-first:
		return portRange(p, last, 1), nil
	case first == last:
		p.HostEnd = hostLast
		return []Port{p}, nil
	}
	return nil, fmt.Errorf("invalid ranges specified for container and host ports: %s and %s", ctr, host)
}

// portRange repeats p up to the container's port last; the host's ports go along by step.
func portRange(p Port, last, step uint16) []Port {
	ports := []Port{p}
	for p.ContainerPort < last {
		p.ContainerPort++
		p.HostPort += step
		ports = append(ports, p)
	}
	return ports
}

// splitPublish splits at the last two colons that are not in brackets.
func splitPublish(s string) (ip, host, ctr string) {
	i := strings.LastIndexByte(s, ':')
	if i < 0 || strings.HasSuffix(s, "]") {
		return "", "", s
	}
	s, ctr = s[:i], s[i+1:]
	i = strings.LastIndexByte(s, ':')
	if i < 0 {
		return "", s, ctr
	}
	return s[:i], s[i+1:], ctr
}

func cutProto(s string) (rest, proto string, err error) {
	rest, proto, has := strings.Cut(s, "/")
	if !has {
		return s, TCP, nil
	}
	switch proto = strings.ToLower(proto); proto {
	case TCP, UDP:
		return rest, proto, nil
	case "sctp":
		return "", "", errors.New("ports of sctp cannot be published: want tcp or udp")
	}
	return "", "", fmt.Errorf("invalid protocol %q: want tcp or udp", proto)
}

func parseHostIP(s string) (string, error) {
	if s == "" {
		return "", nil
	}
	bare := s
	if strings.HasPrefix(s, "[") && strings.HasSuffix(s, "]") {
		bare = s[1 : len(s)-1]
	}
	ip, err := netip.ParseAddr(bare)
	if err != nil || ip.Zone() != "" {
		return "", fmt.Errorf("invalid IP address %q", s)
	}
	return ip.Unmap().String(), nil
}

// parseRange reads PORT or FIRST-LAST.
func parseRange(what, s string) (first, last uint16, err error) {
	if s == "" {
		return 0, 0, fmt.Errorf("no %s", what)
	}
	from, to, isRange := strings.Cut(s, "-")
	if !isRange {
		to = from
	}
	a, err1 := strconv.ParseUint(from, 10, 16)
	b, err2 := strconv.ParseUint(to, 10, 16)
	switch {
	case err1 != nil || err2 != nil || a == 0 || b == 0:
		return 0, 0, fmt.Errorf("invalid %s %q: want 1 to 65535", what, s)
	case b < a:
		return 0, 0, fmt.Errorf("invalid %s %q: it ends before it begins", what, s)
	case b-a >= maxPublished:
		return 0, 0, fmt.Errorf("invalid %s %q: %d ports at once are too many, want at most %d", what, s, b-a+1, maxPublished)
	}
	return uint16(a), uint16(b), nil
}

// shortForm translates the form of names and values into the other.
func shortForm(s string) (string, error) {
	var published, target, proto, ip string
	for part := range strings.SplitSeq(s, ",") {
		name, value, _ := strings.Cut(part, "=")
		switch strings.TrimSpace(name) {
		case "published":
			published = value
		case "target":
			target = value
		case "protocol":
			proto = "/" + value
		case "host_ip":
			ip = value + ":"
		case "mode":
			if value != "host" && value != "ingress" {
				return "", fmt.Errorf("invalid mode %q", value)
			}
		default:
			return "", fmt.Errorf("invalid field %q: want published, target, protocol, host_ip or mode", name)
		}
	}
	if target == "" {
		return "", errors.New("there is no target=PORT")
	}
	return ip + published + ":" + target + proto, nil
}

// ParseExpose reads PORT[-END][/PROTO], as --expose and an image's config have it.
func ParseExpose(s string) ([]Port, error) {
	rest, proto, err := cutProto(s)
	if err != nil {
		return nil, fmt.Errorf("exposed port %q: %w", s, err)
	}
	first, last, err := parseRange("port", rest)
	if err != nil {
		return nil, fmt.Errorf("exposed port %q: %w", s, err)
	}
	return portRange(Port{ContainerPort: first, Proto: proto}, last, 0), nil
}

// Expose adds the exposed ports that are not published yet, each at any port of the host.
func Expose(ports []Port, exposed []string) ([]Port, error) {
	exposed = slices.Sorted(slices.Values(exposed))
	for _, e := range exposed {
		list, err := ParseExpose(e)
		if err != nil {
			return nil, err
		}
		for _, p := range list {
			same := func(o Port) bool { return o.Key() == p.Key() }
			if !slices.ContainsFunc(ports, same) {
				ports = append(ports, p)
			}
		}
	}
	return ports, nil
}

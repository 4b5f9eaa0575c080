package remote

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strings"

	"nacre/internal/registry"
)

// Hosts says, by the domain of their names, how registries are reached. One that is not
// there is reached by https, a loopback address by whatever it speaks.
type Hosts map[string]HostConfig

// HostConfig is how one registry is reached. The zero value is https with the system's
// certificates. Paths are absolute.
type HostConfig struct {
	// Mirrors are asked first when reading, in order: "[http://]host[:port][/prefix]". The
	// prefix comes before the repository's name. Their own certificates and limits are
	// what Hosts says for them.
	Mirrors  []string
	HTTP     bool // plain HTTP
	Insecure bool // any certificate will do
	CA       []string
	// ClientCert and ClientKey are PEM files of who we are; both or none.
	ClientCert, ClientKey string
	MaxRequests           int               // that wait for an answer at once; 0: any number
	Rate                  float64           // requests begun in a second; 0: any number
	Chunk                 int64             // uploads in pieces of so many bytes; 0: in one, unless the registry asks
	Headers               map[string]string // sent with every request to it
}

// dockerHub is where the repositories named docker.io are.
const (
	dockerHub    = "docker.io"
	dockerHubAPI = "registry-1.docker.io"
)

// mirror is a parsed entry of HostConfig.Mirrors.
type mirror struct {
	host, prefix string // prefix ends in a slash, or is empty
	http         bool
}

func parseMirror(s string) (mirror, error) {
	full := s
	if !strings.Contains(s, "://") {
		full = "https://" + s
	}
	u, err := url.Parse(full)
	if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || u.Scheme != "http" && u.Scheme != "https" {
		return mirror{}, fmt.Errorf("%w: mirror %q: want [http://]host[:port][/prefix]", registry.ErrInvalid, plain(s, 100))
	}
	m := mirror{host: u.Host, http: u.Scheme == "http", prefix: strings.Trim(u.Path, "/")}
	if m.prefix != "" {
		m.prefix += "/"
	}
	return m, nil
}

// check finds what cannot be right. Errors: ErrInvalid.
func (h Hosts) check() error {
	for domain, c := range h {
		for _, m := range c.Mirrors {
			if _, err := parseMirror(m); err != nil {
				return fmt.Errorf("host %s: %w", domain, err)
			}
		}
		if (c.ClientCert == "") != (c.ClientKey == "") {
			return fmt.Errorf("%w: host %s: a client certificate needs its key, and a key its certificate", registry.ErrInvalid, domain)
		}
		if c.HTTP && (c.Insecure || len(c.CA) > 0 || c.ClientCert != "") {
			return fmt.Errorf("%w: host %s: plain HTTP has no certificates", registry.ErrInvalid, domain)
		}
		if c.MaxRequests < 0 || c.Rate < 0 || c.Chunk < 0 || c.Chunk > maxChunk {
			return fmt.Errorf("%w: host %s: a limit is negative, or a chunk larger than %d bytes", registry.ErrInvalid, domain, maxChunk)
		}
	}
	return nil
}

// loopback tells whether host[:port] is this machine whatever a name server says.
func loopback(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.Trim(host, "[]")
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback()
}

// site is one registry: where it is, and what may be read in its place.
type site struct {
	r       *Registry
	domain  string
	origin  *endpoint
	mirrors []*endpoint
}

// site finds the registry of a domain.
func (r *Registry) site(domain string) (*site, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if s := r.sites[domain]; s != nil {
		return s, nil
	}
	host := domain
	if domain == dockerHub {
		host = dockerHubAPI
	}
	origin, err := r.endpoint(domain, host, mirror{})
	if err != nil {
		return nil, err
	}
	s := &site{r: r, domain: domain, origin: origin}
	for _, text := range r.o.Hosts[domain].Mirrors {
		m, err := parseMirror(text)
		if err != nil {
			return nil, err
		}
		e, err := r.endpoint(m.host, m.host, m)
		if err != nil {
			return nil, err
		}
		s.mirrors = append(s.mirrors, e)
	}
	r.sites[domain] = s
	return s, nil
}

package config

import (
	"encoding/hex"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// checker collects what is wrong with values that were read well.
type checker struct {
	problems Problems
	lines    map[string]int
}

// bad notes a problem of a key, at its line or that of the nearest key around it.
func (c *checker) bad(key, format string, args ...any) {
	p := Problem{Key: key, Text: fmt.Sprintf(format, args...)}
	for at := key; p.Line == 0 && at != ""; {
		p.Line = c.lines[at]
		at = at[:max(strings.LastIndexAny(at, ".["), 0)]
	}
	c.problems = append(c.problems, p)
}

func (c *checker) want(ok bool, key, format string, args ...any) {
	if !ok {
		c.bad(key, format, args...)
	}
}

func (c *checker) oneOf(key, value string, options ...string) {
	c.want(slices.Contains(options, value), key, "%q: want %s", value, strings.Join(options, ", "))
}

func between[T int | float64 | time.Duration | Size](c *checker, key string, v, low, high T) {
	c.want(v >= low && v <= high, key, "%v is out of range: want %v to %v", v, low, high)
}

func (c Config) check(lines map[string]int) Problems {
	k := &checker{lines: lines}
	k.addr("addr", c.Addr)
	if c.URL != "" {
		k.url("url", c.URL, "http", "https")
	}
	for i, p := range c.TrustedProxies {
		_, err := ParsePrefix(p)
		k.want(err == nil, at("trusted-proxies", i), "%q is neither an address nor a network such as 10.0.0.0/8", p)
	}
	k.oneOf("log.format", c.Log.Format, "auto", "json", "text")
	k.oneOf("log.level", c.Log.Level, "debug", "info", "warn", "error")
	k.want((c.TLS.Cert == "") == (c.TLS.Key == ""), "tls", "cert and key go together")
	k.want(c.TLS.ClientCA == "" || c.TLS.Cert != "", "tls.client-ca", "needs cert and key")
	if c.Metrics.Addr != "" {
		k.addr("metrics.addr", c.Metrics.Addr)
		k.want(c.Metrics.Addr != c.Addr || strings.HasSuffix(c.Addr, ":0"), "metrics.addr", "is the same as addr; leave it out to serve metrics there")
	}
	k.auth(c.Auth)
	k.limits(c.Limits)
	k.webhooks(c.Webhooks)
	k.content(c)
	k.proxies(c.Proxy)
	return k.problems
}

func at(key string, i int) string { return fmt.Sprintf("%s[%d]", key, i) }

// ParsePrefix reads an address or a network.
func ParsePrefix(s string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(s); err == nil {
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	return netip.ParsePrefix(s)
}

func (c *checker) addr(key, s string) {
	_, port, err := net.SplitHostPort(s)
	n, perr := strconv.ParseUint(port, 10, 16)
	c.want(err == nil && perr == nil && n <= 65535, key, "%q: want HOST:PORT, as 127.0.0.1:5000 or :5000", s)
}

func (c *checker) url(key, s string, schemes ...string) {
	u, err := url.Parse(s)
	ok := err == nil && u.Host != "" && slices.Contains(schemes, u.Scheme)
	c.want(ok, key, "%q: want a whole URL with %s", s, strings.Join(schemes, " or "))
	c.want(!ok || u.User == nil, key, "credentials do not belong into a URL")
}

func (c *checker) patterns(key string, all []string, need bool) {
	c.want(!need || len(all) > 0, key, `want at least one pattern; "**" is every repository`)
	for i, p := range all {
		ok := p != "" && !strings.ContainsAny(p, " \\[]{}") && !strings.HasPrefix(p, "/") && !strings.HasSuffix(p, "/")
		c.want(ok, at(key, i), "%q is not a pattern: ** is anything, * anything without a slash, ? one letter", p)
	}
}

func (c *checker) limits(l Limits) {
	between(c, "limits.header", l.Header, 4<<10, 1<<20)
	between(c, "limits.manifest", l.Manifest, 64<<10, 4<<20)
	between(c, "limits.uploads", l.Uploads, 1, 100_000)
	between(c, "limits.connections", l.Connections, 1, 1_000_000)
	between(c, "limits.requests", l.Requests, 0, 1e6)
	between(c, "limits.burst", l.Burst, 1, 1_000_000)
	for _, d := range []struct {
		key       string
		v         time.Duration
		low, high time.Duration
	}{
		{"limits.header-time", l.HeaderTime, time.Second, 10 * time.Minute},
		{"limits.stall", l.Stall, time.Second, time.Hour},
		{"limits.idle", l.Idle, time.Second, 24 * time.Hour},
		{"limits.drain", l.Drain, 0, time.Hour},
	} {
		between(c, d.key, d.v, d.low, d.high)
	}
}

func (c *checker) webhooks(all []Webhook) {
	names := map[string]bool{}
	for i, w := range all {
		key := at("webhooks", i)
		c.want(isName(w.Name), key+".name", "%q: want a name of letters, digits, - and _", w.Name)
		c.want(!names[w.Name], key+".name", "%q: another has this name", w.Name)
		names[w.Name] = true
		c.url(key+".url", w.URL, "http", "https")
		c.want(w.Secret == "" || w.SecretFile == "", key, "secret or secret-file, not both")
		for name, value := range w.Headers {
			c.want(isName(name) && !strings.ContainsAny(value, "\r\n\x00"), key+".headers."+name, "not a header")
		}
		c.patterns(key+".repositories", w.Repositories, false)
		for j, a := range w.Actions {
			c.oneOf(at(key+".actions", j), a, "push", "pull", "delete", "mount")
		}
		between(c, key+".timeout", w.Timeout, 100*time.Millisecond, 10*time.Minute)
		between(c, key+".attempts", w.Attempts, 1, 1000)
		between(c, key+".backoff", w.Backoff, 10*time.Millisecond, time.Hour)
		between(c, key+".queue", w.Queue, 1, 10_000_000)
	}
}

func (c *checker) content(all Config) {
	c.want(all.GC.Interval == 0 || all.GC.Interval >= time.Minute, "gc.interval", "%v is too short: want at least 1m, or 0 for never", all.GC.Interval)
	c.want(all.GC.Grace >= time.Minute, "gc.grace", "%v is too short for pushes under way: want at least 1m", all.GC.Grace)
	for i, r := range all.Retention {
		key := at("retention", i)
		c.patterns(key+".repositories", r.Repositories, true)
		c.patterns(key+".keep-tags", r.KeepTags, false)
		c.want(r.KeepLast >= 0, key+".keep-last", "cannot be negative")
		c.want(r.KeepLast > 0 || r.PulledWithin > 0 || r.PushedWithin > 0 || len(r.KeepTags) > 0, key, "want keep-last, keep-tags, pulled-within or pushed-within")
	}
	for i, p := range all.Immutable {
		repo, tag, ok := strings.Cut(p, ":")
		c.want(ok && repo != "" && tag != "", at("immutable", i), `%q: want REPOSITORIES:TAGS, as "release/**:v*"`, p)
	}
	for i, q := range all.Quotas {
		key := at("quotas", i)
		c.patterns(key+".repositories", q.Repositories, true)
		c.want(q.Size > 0, key+".size", "want a size")
	}
}

func (c *checker) proxies(all []Proxy) {
	seen := map[string]bool{}
	for i, p := range all {
		key := at("proxy", i)
		c.want(isRepo(p.Prefix), key+".prefix", "%q: want the beginning of a repository's name, as docker.io", p.Prefix)
		c.want(p.Prefix != "library" && !strings.HasPrefix(p.Prefix, "library/"), key+".prefix", "%q: library is what docker leaves out of names", p.Prefix)
		c.want(!seen[p.Prefix], key+".prefix", "%q: another has this prefix", p.Prefix)
		seen[p.Prefix] = true
		c.url(key+".remote", p.Remote, "http", "https")
		c.want(p.Repository == "" || isRepo(p.Repository), key+".repository", "%q is not the beginning of a repository's name", p.Repository)
		c.want((p.Username == "") == (p.PasswordFile == ""), key, "username and password-file go together")
		between(c, key+".ttl", p.TTL, time.Second, 365*24*time.Hour)
		c.want(p.Keep >= 0, key+".keep", "cannot be negative")
	}
}

func (c *checker) auth(a Auth) {
	c.want(!strings.ContainsAny(a.Realm, "\"\\\r\n") && a.Realm != "", "auth.realm", "%q: want words without quotes", a.Realm)
	names := map[string]bool{}
	for i, t := range a.Tokens {
		key := at("auth.tokens", i)
		c.want(isName(t.Name), key+".name", "%q: want a name of letters, digits, - and _", t.Name)
		c.want(!names[t.Name], key+".name", "%q: another token has this name", t.Name)
		names[t.Name] = true
		sum, err := hex.DecodeString(t.SHA256)
		c.want(err == nil && len(sum) == 32, key+".sha256", "want 64 hexadecimal digits; nacre serve token NAME makes a token and prints them")
	}
	if t := a.TokenService; t != nil {
		between(c, "auth.token-service.ttl", t.TTL, 10*time.Second, 24*time.Hour)
		c.want(t.RefreshTTL >= 0, "auth.token-service.refresh-ttl", "cannot be negative")
		c.want(!strings.ContainsAny(t.Service, "\"\\\r\n"), "auth.token-service.service", "%q: want words without quotes", t.Service)
		c.want(a.On(), "auth.token-service", "gives tokens to nobody: there are neither htpasswd, tokens nor rules")
		c.want(a.External == nil, "auth.token-service", "token-service or external, not both: clients are sent to one of them")
	}
	if e := a.External; e != nil {
		c.url("auth.external.realm", e.Realm, "http", "https")
		for _, f := range []struct{ key, v string }{{"service", e.Service}, {"issuer", e.Issuer}, {"keys", e.Keys}} {
			c.want(f.v != "" && !strings.ContainsAny(f.v, "\"\r\n"), "auth.external."+f.key, "is missing")
		}
	}
	for i, r := range a.Rules {
		c.rule(at("auth.rules", i), r, a)
	}
	f := a.Failures
	between(c, "auth.failures.free", f.Free, 1, 1000)
	between(c, "auth.failures.pause", f.Pause, 10*time.Millisecond, time.Hour)
	between(c, "auth.failures.max", f.Max, f.Pause, 24*time.Hour)
}

func (c *checker) rule(key string, r Rule, a Auth) {
	c.patterns(key+".repositories", r.Repositories, true)
	c.want(len(r.Users)+len(r.Groups) > 0 || r.Anonymous, key, `is for nobody: want users ("*" is everybody known), groups or anonymous`)
	c.want(len(r.Allow) > 0, key+".allow", "want at least one of %s", strings.Join(Verbs, ", "))
	for i, v := range r.Allow {
		c.oneOf(at(key+".allow", i), v, Verbs...)
	}
	for i, g := range r.Groups {
		known := a.Groups[g] != nil || a.External != nil || slices.ContainsFunc(a.Tokens, func(t Token) bool { return slices.Contains(t.Groups, g) })
		c.want(known, at(key+".groups", i), "%q: no such group in auth.groups", g)
	}
}

// Verbs are what a rule may allow. read is pull and list; write is read and push; all is
// everything.
var Verbs = []string{"pull", "push", "delete", "list", "read", "write", "all"}

func isName(s string) bool {
	return s != "" && len(s) < 128 && strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_") == ""
}

// isRepo tells whether s is a repository's name by the distribution spec.
func isRepo(s string) bool {
	ok, err := regexp.MatchString(`^[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*$`, s)
	return err == nil && ok && len(s) < 256
}

package config

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestDefaultsAreValid(t *testing.T) {
	for _, text := range []string{"", "# nothing\n", "---\n", "{}\n"} {
		c, err := Parse("f", []byte(text))
		if err != nil {
			t.Errorf("%q: %v", text, err)
		}
		if !reflect.DeepEqual(c, Default()) {
			t.Errorf("%q: got %+v", text, c)
		}
	}
}

func TestValues(t *testing.T) {
	c, err := Parse("f", []byte(`
addr: :5000
read-only: true
sparse: true
limits: {body: 10GiB, manifest: 4194304, stall: 90s, requests: 2.5}
auth:
  tokens: [{name: ci, sha256: "`+strings.Repeat("ab", 32)+`", expires: 2027-01-31}]
  token-service: {}
  groups: {dev: [alice, bob]}
  rules:
    - {repositories: "**", groups: dev, allow: pull}
gc: {interval: 30d, grace: 1d12h}
proxy: [{prefix: docker.io, remote: "https://registry.example"}]
webhooks: [{name: a, url: "http://127.0.0.1/"}]
`))
	if err != nil {
		t.Fatal(err)
	}
	for what, ok := range map[string]bool{
		"addr":             c.Addr == ":5000",
		"read-only":        c.ReadOnly,
		"sparse":           c.Sparse,
		"body":             c.Limits.Body == 10<<30,
		"manifest":         c.Limits.Manifest == 4<<20,
		"stall":            c.Limits.Stall == 90*time.Second,
		"idle's default":   c.Limits.Idle == 2*time.Minute,
		"requests":         c.Limits.Requests == 2.5,
		"expires":          c.Auth.Tokens[0].Expires.Equal(time.Date(2027, 1, 31, 0, 0, 0, 0, time.UTC)),
		"interval":         c.GC.Interval == 30*24*time.Hour,
		"grace":            c.GC.Grace == 36*time.Hour,
		"list of one":      reflect.DeepEqual(c.Auth.Rules[0].Groups, []string{"dev"}),
		"proxy's ttl":      c.Proxy[0].TTL == 5*time.Minute,
		"webhook's queue":  c.Webhooks[0].Queue == 10_000,
		"token service":    c.Auth.TokenService != nil && c.Auth.TokenService.TTL == 5*time.Minute,
		"webhook's events": reflect.DeepEqual(c.Webhooks[0].Actions, []string{"push", "delete", "mount"}),
	} {
		if !ok {
			t.Errorf("%s: not as written: %+v", what, c)
		}
	}
}

func TestProblems(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"adr: :5000", "f:1: adr: unknown key; did you mean addr?"},
		{"read_only: true", "f:1: read_only: unknown key; did you mean read-only?"},
		{"\nlimits:\n  bdy: 1", "f:3: limits.bdy: unknown key; did you mean body?"},
		{"gc:\n  whatever: 1", "f:2: gc.whatever: unknown key; known are grace, interval"},
		{"read-only: yes", `f:1: read-only: "yes": want true or false`},
		{"read-only: [true]", "f:1: read-only: want true or false, not a list"},
		{"addr: {a: b}", "f:1: addr: want text, not keys and values"},
		{"limits: 5", "f:1: limits: want keys and values, not a single value"},
		{"limits: {body: 10 giraffes}", `f:1: limits.body: "10 giraffes" is not a size`},
		{"limits: {body: -1}", `f:1: limits.body: "-1": a size cannot be negative`},
		{"gc: {interval: 3 days}", `f:1: gc.interval: "3 days" is not a duration`},
		{"gc: {interval: 5}", `f:1: gc.interval: "5" is not a duration`},
		{"limits:\n  uploads: 0", "f:2: limits.uploads: 0 is out of range: want 1 to 100000"},
		{"limits: {uploads: 1.5}", `f:1: limits.uploads: "1.5" is not a whole number`},
		{"addr: :5000\naddr: :5001", "f:2: addr: is there already, at line 1"},
		{"addr: a: b", "f:1: not YAML: mapping values are not allowed"},
		{"a: b\n---\nc: d", "a second document"},
		{"addr: localhost", `f:1: addr: "localhost": want HOST:PORT`},
		{"addr: localhost:99999", "want HOST:PORT"},
		{"tls: {cert: a}", "f:1: tls: cert and key go together"},
		{"trusted-proxies: [everyone]", `f:1: trusted-proxies[0]: "everyone" is neither`},
		{"log: {level: loud}", `f:1: log.level: "loud": want debug, info, warn, error`},
		{"auth:\n  rules:\n    - repositories: ['**']\n      allow: [pull]", "f:3: auth.rules[0]: is for nobody"},
		{"auth:\n  rules:\n    - repositories: ['**']\n      anonymous: true\n      allow: [pul]", `f:5: auth.rules[0].allow[0]: "pul": want pull`},
		{"auth: {rules: [{repositories: 'a b', anonymous: true, allow: all}]}", "is not a pattern"},
		{"auth: {rules: [{repositories: a, groups: [x], allow: all}]}", `"x": no such group`},
		{"auth: {tokens: [{name: a, sha256: secret}]}", "want 64 hexadecimal digits"},
		{"auth: {token-service: {}}", "gives tokens to nobody"},
		{"auth: {external: {realm: x}}", "want a whole URL"},
		{"webhooks: [{name: a, url: 'ftp://x/'}]", "want a whole URL"},
		{"webhooks: [{name: a, url: 'http://u:p@x/'}]", "credentials do not belong"},
		{"webhooks: [{name: a, url: 'http://x/'}, {name: a, url: 'http://x/'}]", "another has this name"},
		{`webhooks: [{name: a, url: 'http://x/', headers: {X: "a\nb"}}]`, "not a header"},
		{"retention: [{repositories: '**'}]", "want keep-last, keep-tags"},
		{"immutable: [v1]", "want REPOSITORIES:TAGS"},
		{"quotas: [{repositories: '**'}]", "want a size"},
		{"proxy: [{prefix: Docker, remote: 'https://x'}]", "want the beginning of a repository's name"},
		{"proxy: [{prefix: a, remote: 'https://x', username: u}]", "go together"},
		{"- a", "f:1: want keys and values, not a list"},
	} {
		_, err := Parse("f", []byte(c.text))
		if err == nil {
			t.Errorf("%q: no error", c.text)
		} else if !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q:\n got %s\nwant %s", c.text, err, c.want)
		}
	}
}

func TestAllProblemsAtOnce(t *testing.T) {
	_, err := Parse("f", []byte("a: 1\nb: 2\nlimits: {uploads: x}\n"))
	p, ok := err.(Problems)
	if !ok || len(p) != 3 || p[0].Line != 1 || p[1].Line != 2 || p[2].Line != 3 {
		t.Errorf("got %v", err)
	}
}

func TestLoad(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "serve.yaml")
	if err := os.WriteFile(path, []byte("dir: data\ntls: {cert: /etc/c, key: k}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := Load(path)
	if err != nil || c.Dir != filepath.Join(dir, "data") || c.TLS.Cert != "/etc/c" || c.TLS.Key != filepath.Join(dir, "k") || c.State != "" {
		t.Errorf("%v %+v", err, c)
	}
	if _, err := Load(filepath.Join(dir, "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

func TestAliases(t *testing.T) {
	c, err := Parse("f", []byte("immutable: &x ['a:b']\ntrusted-proxies: []\nquotas: []\nauth: {groups: {a: *x}}\n"))
	if err != nil || c.Auth.Groups["a"][0] != "a:b" {
		t.Errorf("%v %+v", err, c.Auth)
	}
	var bomb strings.Builder
	bomb.WriteString("auth:\n  groups:\n    a: &a0 [x,x,x,x,x,x,x,x,x,x]\n")
	for i := range 9 {
		prev := "*a" + string(rune('0'+i))
		bomb.WriteString("    b" + string(rune('0'+i)) + ": &a" + string(rune('1'+i)) + " [" + strings.Repeat(prev+",", 9) + prev + "]\n")
	}
	if _, err := Parse("f", []byte(bomb.String())); err == nil {
		t.Error("a bomb of aliases is taken")
	}
}

func TestUnits(t *testing.T) {
	for s, want := range map[string]Size{"0": 0, "1": 1, "5B": 5, "1KiB": 1024, "1.5MiB": 3 << 19, "2 GB": 2e9, "10GiB": 10 << 30} {
		if got, err := ParseSize(s); err != nil || got != want {
			t.Errorf("%s: %d, %v", s, got, err)
		}
	}
	for _, s := range []string{"", "GiB", "1e3", "0x10", "-1", "NaN", "Inf", "1PiB", "99999999999TiB"} {
		if got, err := ParseSize(s); err == nil {
			t.Errorf("%q: %d", s, got)
		}
	}
	for s, want := range map[string]time.Duration{"0": 0, "30s": 30 * time.Second, "72h": 72 * time.Hour, "30d": 720 * time.Hour, "2w": 336 * time.Hour, "1w1d1h": 193 * time.Hour} {
		if got, err := ParseDuration(s); err != nil || got != want {
			t.Errorf("%s: %s, %v", s, got, err)
		}
	}
	for _, s := range []string{"", "d", "-1h", "1d-1h", "5", "1y", "1.5d", "9999999w", "65000w"} {
		if got, err := ParseDuration(s); err == nil {
			t.Errorf("%q: %s", s, got)
		}
	}
}

// TestSizePrints shows that what String writes is read as the same size.
func TestSizePrints(t *testing.T) {
	for _, n := range []Size{0, 1, 1023, 1024, 5 << 20, 10 << 30, 3<<40 + 1} {
		if got, err := ParseSize(n.String()); err != nil || got != n {
			t.Errorf("%d prints as %s, read as %d, %v", n, n, got, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("auth: {rules: [{repositories: '**', anonymous: true, allow: all}]}"))
	f.Add([]byte("gc: &a {interval: 1d}\nlimits: {body: 1GiB}"))
	f.Add([]byte("a: &a [*a]"))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := Parse("f", data)
		if err == nil {
			if err := c.Check(); err != nil {
				t.Errorf("valid, and not: %v", err)
			}
		}
	})
}

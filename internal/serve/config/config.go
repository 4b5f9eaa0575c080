// Package config turns the YAML file of nacre serve into a Config, or into a list of
// everything that is wrong with it, each with its line. It opens no other file: what the
// file names is read by those who use it.
//
// Every key is a field below and a paragraph of docs/serve.md. Unknown keys, wrong
// types and values out of range are refused.
package config

import "time"

// Config is the whole of nacre serve. Default gives it its defaults.
type Config struct {
	Dir      string `yaml:"dir"`       // folder of the registry; empty: the local store
	Addr     string `yaml:"addr"`      // where to listen
	URL      string `yaml:"url"`       // how clients call the registry, where that differs
	ReadOnly bool   `yaml:"read-only"` // refuse everything that changes content
	Sparse   bool   `yaml:"sparse"`    // accept manifests that refer to what is not there
	State    string `yaml:"state"`     // folder for uploads, keys and queues; empty: "serve" in dir

	TrustedProxies []string `yaml:"trusted-proxies"` // addresses or CIDR whose X-Forwarded-* count

	Log       Log         `yaml:"log"`
	TLS       TLS         `yaml:"tls"`
	Auth      Auth        `yaml:"auth"`
	Metrics   Metrics     `yaml:"metrics"`
	Limits    Limits      `yaml:"limits"`
	Webhooks  []Webhook   `yaml:"webhooks"`
	GC        GC          `yaml:"gc"`
	Retention []Retention `yaml:"retention"`
	Immutable []string    `yaml:"immutable"` // REPOSITORY-PATTERN:TAG-PATTERN
	Quotas    []Quota     `yaml:"quotas"`
	Proxy     []Proxy     `yaml:"proxy"`
}

// Log says what is logged and how.
type Log struct {
	Format string `yaml:"format"` // auto, json or text
	Level  string `yaml:"level"`  // debug, info, warn or error
	Access bool   `yaml:"access"` // a line for each request
}

// TLS names the files of the certificate.
type TLS struct {
	Cert     string `yaml:"cert"`
	Key      string `yaml:"key"`
	ClientCA string `yaml:"client-ca"` // clients need a certificate signed by one of these
}

// Auth says who may do what. The zero Auth lets everybody do everything.
type Auth struct {
	Realm        string              `yaml:"realm"`
	Htpasswd     string              `yaml:"htpasswd"`
	Groups       map[string][]string `yaml:"groups"`
	Tokens       []Token             `yaml:"tokens"`
	TokenService *TokenService       `yaml:"token-service"`
	External     *External           `yaml:"external"`
	Rules        []Rule              `yaml:"rules"`
	Failures     Failures            `yaml:"failures"`
}

// On tells whether callers have to say who they are.
func (a Auth) On() bool {
	return a.Htpasswd != "" || len(a.Tokens) > 0 || a.External != nil || len(a.Rules) > 0
}

// Token is a fixed token, known by its hash alone.
type Token struct {
	Name    string    `yaml:"name"`
	SHA256  string    `yaml:"sha256"`
	Groups  []string  `yaml:"groups"`
	Expires time.Time `yaml:"expires"`
}

// TokenService is the built-in /token endpoint.
type TokenService struct {
	Service    string        `yaml:"service"`
	Issuer     string        `yaml:"issuer"`
	TTL        time.Duration `yaml:"ttl"`
	RefreshTTL time.Duration `yaml:"refresh-ttl"` // 0: no refresh tokens
	Key        string        `yaml:"key"`         // file; empty: made in state
}

// External is a token endpoint that somebody else runs.
type External struct {
	Realm   string `yaml:"realm"`
	Service string `yaml:"service"`
	Issuer  string `yaml:"issuer"`
	Keys    string `yaml:"keys"` // file with PEM public keys or certificates, or a JWKS
}

// Rule allows some callers some verbs on some repositories.
type Rule struct {
	Repositories []string `yaml:"repositories"`
	Users        []string `yaml:"users"`
	Groups       []string `yaml:"groups"`
	Anonymous    bool     `yaml:"anonymous"`
	Allow        []string `yaml:"allow"`
}

// Failures slows down who guesses passwords.
type Failures struct {
	Free  int           `yaml:"free"`  // wrong answers in a row before the first pause
	Pause time.Duration `yaml:"pause"` // the first pause; each next is twice as long
	Max   time.Duration `yaml:"max"`   // the longest pause
}

// Metrics says where /metrics is.
type Metrics struct {
	Enabled   bool   `yaml:"enabled"`
	Addr      string `yaml:"addr"`      // an address of its own; empty: the main one
	Anonymous bool   `yaml:"anonymous"` // without credentials on the main address too
}

// Limits bound what clients may use.
type Limits struct {
	Header      Size          `yaml:"header"`
	Body        Size          `yaml:"body"` // of one blob; 0: none
	Manifest    Size          `yaml:"manifest"`
	Uploads     int           `yaml:"uploads"`
	Connections int           `yaml:"connections"`
	Requests    float64       `yaml:"requests"` // a second and client; 0: none
	Burst       int           `yaml:"burst"`
	HeaderTime  time.Duration `yaml:"header-time"`
	Stall       time.Duration `yaml:"stall"`
	Idle        time.Duration `yaml:"idle"`
	Drain       time.Duration `yaml:"drain"`
}

// Webhook is one endpoint that is told of events.
type Webhook struct {
	Name         string            `yaml:"name"`
	URL          string            `yaml:"url"`
	Secret       string            `yaml:"secret"`
	SecretFile   string            `yaml:"secret-file"`
	Headers      map[string]string `yaml:"headers"`
	Repositories []string          `yaml:"repositories"`
	Actions      []string          `yaml:"actions"`
	Timeout      time.Duration     `yaml:"timeout"`
	Attempts     int               `yaml:"attempts"`
	Backoff      time.Duration     `yaml:"backoff"`
	Queue        int               `yaml:"queue"`
}

// GC is the collection of content that nothing refers to.
type GC struct {
	Interval time.Duration `yaml:"interval"` // 0: never by itself
	Grace    time.Duration `yaml:"grace"`
}

// Retention removes tags. A tag that any condition keeps stays; a repository's first
// matching entry decides.
type Retention struct {
	Repositories []string      `yaml:"repositories"`
	KeepTags     []string      `yaml:"keep-tags"`
	KeepLast     int           `yaml:"keep-last"`
	PulledWithin time.Duration `yaml:"pulled-within"`
	PushedWithin time.Duration `yaml:"pushed-within"`
}

// Quota bounds the bytes of each repository that matches; a repository's first matching
// entry decides.
type Quota struct {
	Repositories []string `yaml:"repositories"`
	Size         Size     `yaml:"size"`
}

// Proxy fetches from elsewhere what the registry does not have.
type Proxy struct {
	Prefix       string        `yaml:"prefix"`
	Remote       string        `yaml:"remote"`
	Repository   string        `yaml:"repository"`
	TTL          time.Duration `yaml:"ttl"`
	Keep         time.Duration `yaml:"keep"`
	Username     string        `yaml:"username"`
	PasswordFile string        `yaml:"password-file"`
}

// Default is what holds where the file says nothing.
func Default() Config {
	return Config{
		Addr:    "127.0.0.1:5000",
		Log:     Log{Format: "auto", Level: "info", Access: true},
		Auth:    Auth{Realm: "nacre", Failures: Failures{Free: 5, Pause: time.Second, Max: 5 * time.Minute}},
		Metrics: Metrics{Enabled: true},
		Limits: Limits{
			Header: 32 << 10, Manifest: 4 << 20, // 4 MiB: what the distribution spec asks servers to take
			Uploads: 256, Connections: 4096, Burst: 100,
			HeaderTime: 10 * time.Second, Stall: time.Minute, Idle: 2 * time.Minute, Drain: 30 * time.Second,
		},
		GC: GC{Interval: 24 * time.Hour, Grace: 24 * time.Hour}, // time for a slow push to end
	}
}

// fill gives the entries of lists their defaults; those are not in Default, as there is no
// entry yet.
func (c *Config) fill() {
	for i := range c.Webhooks {
		w := &c.Webhooks[i]
		orDefault(&w.Timeout, 10*time.Second)
		orDefault(&w.Attempts, 12) // with doubling pauses from 1 s: over an hour
		orDefault(&w.Backoff, time.Second)
		orDefault(&w.Queue, 10_000)
		if len(w.Actions) == 0 {
			w.Actions = []string{"push", "delete", "mount"}
		}
	}
	for i := range c.Proxy {
		orDefault(&c.Proxy[i].TTL, 5*time.Minute)
	}
	if t := c.Auth.TokenService; t != nil {
		orDefault(&t.TTL, 5*time.Minute)
		orDefault(&t.Service, "nacre")
		orDefault(&t.Issuer, "nacre")
	}
}

func orDefault[T comparable](p *T, v T) {
	var zero T
	if *p == zero {
		*p = v
	}
}

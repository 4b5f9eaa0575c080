package auth

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"time"

	"nacre/internal/serve/config"
	"nacre/internal/serve/watch"
)

// Options is what a Gate needs besides its configuration. Zero values work but for Key,
// which is where the key of signed tokens is kept.
type Options struct {
	Key  string
	URL  string // what clients call the registry; empty: what their request says
	Log  *slog.Logger
	Now  func() time.Time
	Addr func(*http.Request) string // whom to slow down
}

// Gate says who may do what.
type Gate struct {
	o         Options
	c         config.Auth
	rules     rules
	fixed     fixed
	users     func() users
	passwords *passwords
	addrs     *slow
	signer    signer
	own       *verifier // nil: no token endpoint
	refresh   *verifier
	external  *verifier
}

// New makes a Gate of a configuration. Errors: those of the files it names.
func New(c config.Auth, o Options) (*Gate, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Addr == nil {
		o.Addr = func(r *http.Request) string { return r.RemoteAddr }
	}
	g := &Gate{o: o, c: c}
	var err error
	if g.rules, err = newRules(c); err != nil {
		return nil, err
	}
	if g.fixed, err = newFixed(c.Tokens); err != nil {
		return nil, err
	}
	if err := g.loadUsers(); err != nil {
		return nil, err
	}
	slower := func(free int) *slow {
		return &slow{free: free, pause: c.Failures.Pause, max: c.Failures.Max, now: o.Now, keys: map[string]*failures{}}
	}
	// Many people may share an address.
	g.addrs = slower(c.Failures.Free * 10)
	g.passwords = newPasswords(g.users, slower(c.Failures.Free), g.addrs, o.Now)
	if err := g.loadExternal(); err != nil {
		return nil, err
	}
	return g, g.loadService()
}

func (g *Gate) loadUsers() error {
	none := users{cost: 10} // so that logins without a file do not answer at once
	g.users = func() users { return none }
	if g.c.Htpasswd == "" {
		return nil
	}
	v, err := watch.New(func() (users, error) { return readUsers(g.c.Htpasswd) }, g.warn("htpasswd"), g.o.Now, g.c.Htpasswd)
	if err != nil {
		return err
	}
	g.users = v.Get
	return nil
}

func (g *Gate) loadExternal() error {
	e := g.c.External
	if e == nil {
		return nil
	}
	v, err := watch.New(func() (publicKeys, error) { return readKeys(e.Keys) }, g.warn("keys"), g.o.Now, e.Keys)
	if err != nil {
		return err
	}
	g.external = &verifier{issuer: e.Issuer, audience: e.Service, keys: v.Get, now: g.o.Now, leeway: leeway}
	return nil
}

func (g *Gate) loadService() error {
	if !g.ServesTokens() {
		return nil
	}
	if g.c.TokenService == nil {
		g.c.TokenService = &config.TokenService{Service: "nacre", Issuer: "nacre", TTL: 5 * time.Minute}
	}
	s := g.c.TokenService
	path := s.Key
	if path == "" {
		path = g.o.Key
	}
	var err error
	if g.signer, err = loadSigner(path); err != nil {
		return err
	}
	keys := g.signer.keys()
	get := func() publicKeys { return keys }
	g.own = &verifier{issuer: s.Issuer, audience: s.Service, keys: get, now: g.o.Now}
	g.refresh = &verifier{issuer: s.Issuer, audience: s.Service + "/refresh", keys: get, now: g.o.Now}
	return nil
}

// warn logs that a file cannot be used, and that the old one is.
func (g *Gate) warn(what string) func(error) {
	return func(err error) {
		g.o.Log.Error("the new file cannot be used; the old one stays in force", "file", what, "error", err.Error())
	}
}

// ServesTokens tells whether clients are to fetch tokens at /token. docker sends nothing at
// all to a registry that wants a password when it has none, so that anonymous pulls need them.
func (g *Gate) ServesTokens() bool {
	return g.c.External == nil && (g.c.TokenService != nil || g.rules.anonymous())
}

// Identify says who a request is from. Errors: *Refusal, where what it brings is wrong.
func (g *Gate) Identify(r *http.Request) (Caller, error) {
	header := r.Header.Get("Authorization")
	if header == "" {
		return Caller{}, nil
	}
	kind, rest, _ := strings.Cut(header, " ")
	switch {
	case len(header) > maxToken:
	case strings.EqualFold(kind, "Basic"):
		name, password, ok := r.BasicAuth()
		if ok {
			return g.login(r, name, password)
		}
	case strings.EqualFold(kind, "Bearer"):
		return g.bearer(r, strings.TrimSpace(rest))
	}
	return Caller{}, g.unauthorized(r, "", "invalid credentials", "Authorization cannot be read")
}

// login checks a name with its password, or with a fixed token in its place.
func (g *Gate) login(r *http.Request, name, password string) (Caller, error) {
	if c, ok := g.fixed.find(password, g.o.Now()); ok && c.Name == name {
		return c, nil
	}
	ok, wait, err := g.passwords.check(r.Context(), name, password, g.o.Addr(r))
	switch {
	case err != nil:
		return Caller{}, err
	case wait > 0:
		return Caller{}, slowDown(wait)
	case !ok:
		reason := "wrong password of user " + name
		if _, known := g.users().hashes[name]; !known {
			reason = "unknown user" // people type passwords where names belong: it is not shown
		}
		return Caller{}, g.unauthorized(r, "", "wrong user name or password", reason)
	}
	return Caller{Name: name, via: viaPassword}, nil
}

// bearer checks a token: a fixed one, our own signed ones, or the external issuer's.
func (g *Gate) bearer(r *http.Request, token string) (Caller, error) {
	now := g.o.Now()
	if c, ok := g.fixed.find(token, now); ok {
		return c, nil
	}
	addr := g.o.Addr(r)
	if wait := g.addrs.begin(addr); wait > 0 {
		return Caller{}, slowDown(wait)
	}
	c, err := g.signed(token)
	if err == nil {
		g.addrs.undo(addr)
		return c, nil
	}
	if errExpired(err) { // is no guess: its signature is right
		g.addrs.undo(addr)
	}
	return Caller{}, g.unauthorized(r, "invalid_token", "invalid token", fmt.Sprintf("token: %v", err))
}

func (g *Gate) signed(token string) (Caller, error) {
	if g.own == nil && g.external == nil {
		return Caller{}, fmt.Errorf("no issuer of tokens is configured")
	}
	if g.external != nil {
		cl, err := g.external.verify(token)
		if err != nil {
			return Caller{}, err
		}
		return Caller{Name: cl.Subject, Groups: cl.Groups, via: viaIssuer, grants: newGrants(cl.Access)}, nil
	}
	cl, err := g.own.verify(token)
	if err != nil {
		return Caller{}, err
	}
	c, err := g.still(cl)
	if err != nil {
		return Caller{}, err
	}
	c.grants = newGrants(cl.Access)
	return c, nil
}

// still finds who a token was made for: the user must be there still, and in
// the groups of today.
func (g *Gate) still(cl *claims) (Caller, error) {
	switch cl.Via {
	case "":
		return Caller{}, nil
	case viaToken:
		if c, ok := g.fixed.named(cl.Subject, g.o.Now()); ok {
			return c, nil
		}
	case viaPassword:
		if _, ok := g.users().hashes[cl.Subject]; ok {
			return Caller{Name: cl.Subject, via: viaPassword}, nil
		}
	}
	return Caller{}, fmt.Errorf("%s is no user any more", cl.Subject)
}

// CheckFiles reads the files that a configuration names, and makes none.
func CheckFiles(c config.Auth) error {
	var errs []error
	if c.Htpasswd != "" {
		_, err := readUsers(c.Htpasswd)
		errs = append(errs, err)
	}
	if c.External != nil {
		_, err := readKeys(c.External.Keys)
		errs = append(errs, err)
	}
	if s := c.TokenService; s != nil && s.Key != "" {
		if _, err := os.Stat(s.Key); err == nil {
			_, err := loadSigner(s.Key)
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

package remote

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"
)

// authorizer knows how requests to one endpoint are authorized: not at all
// until it asks, then with a password (basic) or with tokens, one per scope.
type authorizer struct {
	host  string // whose credentials these are
	creds func(context.Context) (Credential, error)
	fetch func(*http.Request) (*http.Response, error) // for token servers
	// may tells whether a secret may be sent to u.
	may func(u *url.URL) error
	now func() time.Time

	one   *semaphore.Weighted // held while credentials or a token are fetched; guards those below
	who   Credential
	until time.Time // when who has to be asked for again: helpers give what ends

	mu      sync.Mutex
	offer   *challenge // what the server asked for, once it did
	at      *url.URL   // of the request it asked it for
	tokens  map[string]token
	basic   string   // the header's value
	secrets []string // what must not be told
}

type token struct {
	value   string
	expires time.Time
}

func newAuthorizer(host string) *authorizer {
	return &authorizer{host: host, one: semaphore.NewWeighted(1), tokens: map[string]token{}, now: time.Now}
}

// apply authorizes a request as far as it is known how, fetching a token where
// there is none that is still good.
func (a *authorizer) apply(ctx context.Context, h http.Header, scope string) error {
	a.mu.Lock()
	offer, basic, t := a.offer, a.basic, a.tokens[scope]
	a.mu.Unlock()
	switch {
	case offer == nil:
		return nil
	case offer.scheme == "basic":
		if basic != "" {
			h.Set("Authorization", basic)
		}
		return nil
	case t.value == "" || !a.now().Before(t.expires):
		var err error
		if t, err = a.renew(ctx, scope, t.value); err != nil {
			return err
		}
	}
	h.Set("Authorization", "Bearer "+t.value)
	return nil
}

// challenged is told of an answer 401 to a request with the header sent. It
// tells whether to try again.
func (a *authorizer) challenged(ctx context.Context, resp *http.Response, scope, sent string) (again bool, err error) {
	var offer *challenge
	for _, c := range parseChallenges(resp.Header.Values("WWW-Authenticate")) {
		if c.scheme == "bearer" && c.params["realm"] != "" {
			offer = &c
			break
		}
		if c.scheme == "basic" && offer == nil {
			offer = &c
		}
	}
	if offer == nil {
		return false, nil
	}
	a.mu.Lock()
	a.offer, a.at = offer, resp.Request.URL
	a.mu.Unlock()
	if offer.scheme == "bearer" {
		_, err := a.renew(ctx, scope, strings.TrimPrefix(sent, "Bearer "))
		return err == nil, err
	}
	return a.password(ctx, resp.Request.URL, sent)
}

// password prepares basic authentication. Who was refused with it is not tried again.
func (a *authorizer) password(ctx context.Context, u *url.URL, sent string) (bool, error) {
	c, err := a.credential(ctx)
	if err != nil || c.Password == "" && c.Username == "" {
		return false, err
	}
	if err := a.may(u); err != nil {
		return false, err
	}
	value := c.basic()
	a.mu.Lock()
	a.basic = value
	a.mu.Unlock()
	return sent != value, nil
}

// renew returns a token for scope that is not stale, which the caller has found no good.
func (a *authorizer) renew(ctx context.Context, scope, stale string) (token, error) {
	if err := a.one.Acquire(ctx, 1); err != nil {
		return token{}, err
	}
	defer a.one.Release(1)
	a.mu.Lock()
	t, offer, at := a.tokens[scope], *a.offer, a.at
	a.mu.Unlock()
	if t.value != "" && t.value != stale && a.now().Before(t.expires) {
		return t, nil // another request fetched it meanwhile
	}
	c, err := a.known(ctx)
	if err != nil {
		return token{}, err
	}
	if c.RegistryToken != "" && c.RegistryToken != stale {
		t = token{c.RegistryToken, a.now().Add(time.Hour)}
	} else if t, err = a.request(ctx, offer, at, scope, c); err != nil {
		a.until = time.Time{}
		return token{}, fmt.Errorf("token for %s: %w", a.host, err)
	}
	a.keep(t.value)
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.tokens) > 1000 { // one scope for each repository of a long mirroring
		clear(a.tokens)
	}
	a.tokens[scope] = t
	return t, nil
}

func (a *authorizer) credential(ctx context.Context) (Credential, error) {
	if err := a.one.Acquire(ctx, 1); err != nil {
		return Credential{}, err
	}
	defer a.one.Release(1)
	return a.known(ctx)
}

// credentialLife is how long a credential is used without asking again.
const credentialLife = 10 * time.Minute

// known is who we are. It is called with one held.
func (a *authorizer) known(ctx context.Context) (Credential, error) {
	if a.now().Before(a.until) {
		return a.who, nil
	}
	c, err := a.creds(ctx)
	if err != nil {
		return c, err
	}
	a.keep(c.Password, c.IdentityToken, c.RegistryToken)
	a.who, a.until = c, a.now().Add(credentialLife)
	return c, nil
}

// keep remembers what must not be told; the latest, where there are many.
func (a *authorizer) keep(secrets ...string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, s := range secrets {
		if len(s) > 3 {
			a.secrets = append(a.secrets, s)
		}
	}
	a.secrets = a.secrets[max(0, len(a.secrets)-64):]
}

// redact takes secrets out of what a server said.
func (a *authorizer) redact(s string) string {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, secret := range append(a.secrets, strings.TrimPrefix(a.basic, "Basic ")) {
		if secret != "" {
			s = strings.ReplaceAll(s, secret, "***")
		}
	}
	return s
}

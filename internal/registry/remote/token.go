package remote

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// maxToken bounds the answer of a token server.
const maxToken = 1 << 20

// tokenAnswer is the answer of a token server (Docker's token specification; OAuth 2.0).
type tokenAnswer struct {
	Token       string `json:"token"`
	AccessToken string `json:"access_token"`
	ExpiresIn   int64  `json:"expires_in"` // seconds; 0: 60
}

// request fetches a token from the server that the challenge names, anonymously where there are
// no credentials. at is the URL whose request was challenged: the realm may be relative to it.
func (a *authorizer) request(ctx context.Context, offer challenge, at *url.URL, scope string, c Credential) (token, error) {
	realm, err := at.Parse(offer.params["realm"])
	if err != nil || realm.Host == "" || realm.Scheme != "http" && realm.Scheme != "https" || realm.User != nil {
		return token{}, fmt.Errorf("the token server is no URL: %q", plain(offer.params["realm"], 100))
	}
	if err := a.may(realm); err != nil && c != (Credential{}) {
		return token{}, err
	}
	if loopback(realm.Host) && !loopback(at.Host) {
		return token{}, fmt.Errorf("the token server %s is this machine", plain(realm.Host, 100))
	}
	form := url.Values{"scope": scopes(scope, offer.params["scope"])}
	if s := offer.params["service"]; s != "" {
		form.Set("service", s)
	}
	if c.IdentityToken != "" {
		t, err := a.refresh(ctx, realm, form, c.IdentityToken)
		var refused *Error
		if err == nil || c.Password == "" || !errors.As(err, &refused) || !is(refused.Status, 400, 404, 405) {
			return t, err
		}
	}
	u := *realm
	q := u.Query()
	for k, v := range form {
		q[k] = v
	}
	if c.Username != "" {
		q.Set("account", c.Username)
	}
	u.RawQuery = q.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return token{}, err
	}
	if c.Password != "" {
		req.Header.Set("Authorization", c.basic())
	}
	return a.ask(req)
}

// refresh turns an identity token into one for a scope (OAuth 2.0, section 6).
func (a *authorizer) refresh(ctx context.Context, realm *url.URL, form url.Values, identity string) (token, error) {
	f := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {identity}, "client_id": {"nacre"},
		"service": {form.Get("service")}, "scope": {strings.Join(form["scope"], " ")}}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, realm.String(), strings.NewReader(f.Encode()))
	if err != nil {
		return token{}, err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return a.ask(req)
}

func (a *authorizer) ask(req *http.Request) (token, error) {
	asked := a.now()
	resp, err := a.fetch(req)
	if err != nil {
		return token{}, err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxToken))
	if err != nil {
		return token{}, fmt.Errorf("%s: %w", req.URL.Host, err)
	}
	if resp.StatusCode != http.StatusOK {
		status := resp.StatusCode
		e := &Error{Domain: a.host, Host: req.URL.Host, Op: req.Method + " " + req.URL.Path, Status: status, is: statusError(status)}
		if status == http.StatusBadRequest { // OAuth's invalid_grant: an identity token that is no good any more
			e.is = ErrUnauthorized
		}
		return token{}, e
	}
	var t tokenAnswer
	if err := json.Unmarshal(data, &t); err != nil {
		return token{}, fmt.Errorf("%s: the answer is not a token", req.URL.Host)
	}
	value := t.Token
	if value == "" {
		value = t.AccessToken
	}
	if value == "" || strings.ContainsAny(value, " \r\n\t") {
		return token{}, fmt.Errorf("%s: the answer has no token", req.URL.Host)
	}
	life := time.Duration(min(t.ExpiresIn, 1<<30)) * time.Second
	if life <= 0 {
		life = time.Minute // as the specification has it
	}
	// A part is left for the way there; a request that comes too late nevertheless is
	// answered 401 and sent again with a new token.
	return token{value, asked.Add(life - min(life/10, 10*time.Second))}, nil
}

// scopes is all that is asked for: what the request needs, and what the server said it
// does, each once.
func scopes(ours, theirs string) []string {
	var all []string
	for _, s := range append(strings.Fields(ours), strings.Fields(theirs)...) {
		if !slices.Contains(all, s) {
			all = append(all, s)
		}
	}
	return all
}

package auth

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// asked is a request for a token, by docker's token specification: GET with a query and
// Basic credentials, or POST with a form (its OAuth 2 variant).
type asked struct {
	service string
	scopes  []scope
	offline bool // a refresh token too
	caller  Caller
}

// answer is what clients get. token and access_token are the same: some read the one, some the
// other.
type answer struct {
	Token        string `json:"token"`
	AccessToken  string `json:"access_token"`
	ExpiresIn    int    `json:"expires_in"`
	IssuedAt     string `json:"issued_at"`
	RefreshToken string `json:"refresh_token,omitempty"`
	Scope        string `json:"scope,omitempty"`
}

// Token is the handler of /token. What a token is asked to be good for and its caller may not
// do is left out of it, as the specification has it.
func (g *Gate) Token(w http.ResponseWriter, r *http.Request) {
	a, err := g.ask(w, r)
	if err == nil && a.caller.Anonymous() && !g.rules.anonymous() {
		err = g.basic("authentication required", "")
	}
	var t answer
	if err == nil {
		t, err = g.issue(a)
	}
	if err != nil {
		g.refuse(w, r, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	json.NewEncoder(w).Encode(t)
}

func (g *Gate) ask(w http.ResponseWriter, r *http.Request) (asked, error) {
	switch r.Method {
	case http.MethodGet:
		q := r.URL.Query()
		c, err := g.Identify(r)
		if err == nil && c.grants != nil {
			err = g.basic("a token cannot ask for tokens", "")
		}
		return asked{q.Get("service"), parseScopes(q["scope"]), q.Get("offline_token") == "true", c}, err
	case http.MethodPost:
		r.Body = http.MaxBytesReader(w, r.Body, 64<<10)
		if err := r.ParseForm(); err != nil {
			return asked{}, &Refusal{Status: http.StatusBadRequest, Code: "UNSUPPORTED", Message: "the form cannot be read"}
		}
		f := r.PostForm
		c, err := g.grant(r)
		return asked{f.Get("service"), parseScopes(f["scope"]), f.Get("access_type") == "offline", c}, err
	}
	w.Header().Set("Allow", "GET, POST")
	return asked{}, &Refusal{Status: http.StatusMethodNotAllowed, Code: "UNSUPPORTED", Message: "want GET or POST"}
}

// grant finds the caller of the OAuth 2 variant.
func (g *Gate) grant(r *http.Request) (Caller, error) {
	f := r.PostForm
	switch kind := f.Get("grant_type"); kind {
	case "password":
		return g.login(r, f.Get("username"), f.Get("password"))
	case "refresh_token":
		addr := g.o.Addr(r)
		if wait := g.addrs.begin(addr); wait > 0 {
			return Caller{}, slowDown(wait)
		}
		c, err := g.refreshed(f.Get("refresh_token"))
		if err != nil {
			return Caller{}, g.basic("invalid refresh token", err.Error())
		}
		g.addrs.undo(addr)
		return c, nil
	default:
		return Caller{}, &Refusal{Status: http.StatusBadRequest, Code: "UNSUPPORTED", Message: "grant_type: want password or refresh_token"}
	}
}

func (g *Gate) refreshed(token string) (Caller, error) {
	cl, err := g.refresh.verify(token)
	if err != nil {
		return Caller{}, err
	}
	c, err := g.still(cl)
	if err == nil && (c.Anonymous() || cl.Check != g.fingerprint(c)) {
		err = errors.New("the password is another one now")
	}
	return c, err
}

// fingerprint changes with the password of a user, which thereby ends refresh tokens.
func (g *Gate) fingerprint(c Caller) string {
	sum := sha256.Sum256(append([]byte(c.via+":"), g.users().hashes[c.Name]...))
	return hex.EncodeToString(sum[:16])
}

func (g *Gate) issue(a asked) (answer, error) {
	s := g.c.TokenService
	if a.service != "" && a.service != s.Service {
		return answer{}, &Refusal{Status: http.StatusBadRequest, Code: "UNSUPPORTED", Message: "there is no such service here"}
	}
	now := g.o.Now()
	cl := claims{Access: g.granted(a), Via: a.caller.via}
	cl.RegisteredClaims = jwt.RegisteredClaims{
		Issuer: s.Issuer, Subject: a.caller.Name, Audience: jwt.ClaimStrings{s.Service},
		IssuedAt: jwt.NewNumericDate(now), NotBefore: jwt.NewNumericDate(now.Add(-leeway)), ExpiresAt: jwt.NewNumericDate(now.Add(s.TTL)),
	}
	token, err := g.signer.sign(cl)
	if err != nil {
		return answer{}, err
	}
	names := make([]string, len(cl.Access))
	for i, one := range cl.Access {
		names[i] = one.String()
	}
	t := answer{Token: token, AccessToken: token, ExpiresIn: int(s.TTL / time.Second), IssuedAt: now.UTC().Format(time.RFC3339), Scope: strings.Join(names, " ")}
	if a.offline && s.RefreshTTL > 0 && !a.caller.Anonymous() {
		cl.Access, cl.Check = nil, g.fingerprint(a.caller)
		cl.Audience = jwt.ClaimStrings{s.Service + "/refresh"}
		cl.ExpiresAt = jwt.NewNumericDate(now.Add(s.RefreshTTL))
		t.RefreshToken, err = g.signer.sign(cl)
	}
	return t, err
}

// granted is what of the scopes asked for the caller gets.
func (g *Gate) granted(a asked) []scope {
	var out []scope
	for _, s := range a.scopes {
		switch {
		case s.Type == "repository":
			if v := s.verbs() & g.rules.allow(a.caller, s.Name); v != 0 {
				out = append(out, scope{s.Type, s.Name, v.Names()})
			}
		case s.Type == "registry" && s.Name == "catalog":
			out = append(out, catalogScope) // Sees says what it shows
		}
	}
	return out
}

// basic asks for a password: the token endpoint is where there are no tokens yet.
func (g *Gate) basic(message, reason string) *Refusal {
	return &Refusal{
		Status: http.StatusUnauthorized, Code: "UNAUTHORIZED", Message: message, Reason: reason,
		Challenge: `Basic realm="` + g.c.Realm + `"`,
	}
}

// refuse answers as a registry does.
func (g *Gate) refuse(w http.ResponseWriter, r *http.Request, err error) {
	var ref *Refusal
	if !errors.As(err, &ref) {
		g.o.Log.Error("token endpoint", "error", err.Error())
		ref = &Refusal{Status: http.StatusInternalServerError, Code: "UNKNOWN", Message: "internal error"}
	}
	if ref.Status == http.StatusUnauthorized {
		ref.Challenge = `Basic realm="` + g.c.Realm + `"`
	}
	ref.Write(w)
	if ref.Reason != "" {
		g.o.Log.Info("credentials refused", "reason", ref.Reason, "client", g.o.Addr(r))
	}
}

// Write sends the refusal.
func (ref *Refusal) Write(w http.ResponseWriter) {
	if ref.Challenge != "" {
		w.Header().Set("WWW-Authenticate", ref.Challenge)
	}
	if ref.After > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int((ref.After+time.Second-1)/time.Second)))
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(ref.Status)
	json.NewEncoder(w).Encode(map[string]any{"errors": []map[string]string{{"code": ref.Code, "message": ref.Message}}})
}

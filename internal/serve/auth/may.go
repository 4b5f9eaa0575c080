package auth

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/golang-jwt/jwt/v5"
)

func errExpired(err error) bool {
	return errors.Is(err, jwt.ErrTokenExpired) && !errors.Is(err, jwt.ErrTokenSignatureInvalid)
}

// May tells whether c may do all of v to repo.
func (g *Gate) May(c Caller, v Verbs, repo string) bool { return g.allowed(c, repo)&v == v }

// allowed is what c may do to repo: what the rules say, and no more than its token is
// good for. Where somebody else issues tokens, they alone decide for those.
func (g *Gate) allowed(c Caller, repo string) Verbs {
	if c.via == viaIssuer {
		return c.grants.verbs(repo)
	}
	v := g.rules.allow(c, repo)
	if c.grants != nil {
		v &= c.grants.verbs(repo)
	}
	return v
}

// verbs are those of the grants. Whoever may see the catalog, or pull, may see the name.
func (g *grants) verbs(repo string) Verbs {
	v := g.repos[repo]
	if v&Pull != 0 {
		v |= List
	}
	return v
}

// Sees tells whether the catalog that c asks for has repo: by the rules, what it may pull and
// list. A token for the catalog stands for all of that.
func (g *Gate) Sees(c Caller, repo string) bool {
	const both = Pull | List
	if c.grants == nil {
		return g.May(c, both, repo)
	}
	if c.via == viaIssuer {
		return c.grants.catalog || g.May(c, both, repo)
	}
	return c.grants.catalog && g.rules.allow(c, repo)&both == both
}

// Check is nil where the caller of r may do v to repo. Errors: *Refusal, which is the same whether
// repo is there or not.
func (g *Gate) Check(r *http.Request, c Caller, v Verbs, repo string) error {
	if g.May(c, v, repo) {
		return nil
	}
	// Another token may be good for it; another password is another caller.
	if c.Anonymous() || c.grants != nil && (c.via == viaIssuer || g.rules.allow(c, repo)&v == v) {
		ref := g.unauthorized(r, "", "authentication required", "not allowed")
		if c.grants != nil {
			ref = g.unauthorized(r, "insufficient_scope", "the token is not good for this", "scope too small")
		}
		ref.Challenge += g.scopeOf(repositoryScope(repo, v))
		return ref
	}
	return &Refusal{
		Status: http.StatusForbidden, Code: "DENIED",
		Message: fmt.Sprintf("requested access to the repository is denied: %s needs %s", c.Name, v), Reason: "not allowed",
	}
}

// CheckPing is nil for callers that are known. It tells clients how to become known: some
// ask only here.
func (g *Gate) CheckPing(r *http.Request, c Caller) error {
	// A token, even one for nobody, is what the challenge asked for.
	if !c.Anonymous() || c.grants != nil {
		return nil
	}
	return g.unauthorized(r, "", "authentication required", "")
}

// CheckCatalog is nil for those who may see a catalog, which may be one without entries.
func (g *Gate) CheckCatalog(r *http.Request, c Caller) error {
	switch {
	case c.grants != nil && !c.grants.catalog:
		ref := g.unauthorized(r, "insufficient_scope", "the token is not good for this", "scope too small")
		ref.Challenge += g.scopeOf(catalogScope)
		return ref
	case c.Anonymous() && !g.rules.anonymous() && c.grants == nil:
		ref := g.unauthorized(r, "", "authentication required", "")
		ref.Challenge += g.scopeOf(catalogScope)
		return ref
	}
	return nil
}

// unauthorized asks for credentials.
func (g *Gate) unauthorized(r *http.Request, problem, message, reason string) *Refusal {
	challenge := fmt.Sprintf("Basic realm=%q", g.c.Realm)
	switch {
	case g.external != nil:
		challenge = fmt.Sprintf("Bearer realm=%q,service=%q", g.c.External.Realm, g.c.External.Service)
	case g.own != nil:
		challenge = fmt.Sprintf("Bearer realm=%q,service=%q", g.base(r)+"/token", g.c.TokenService.Service)
	}
	if problem != "" && (g.external != nil || g.own != nil) {
		challenge += fmt.Sprintf(",error=%q", problem)
	}
	return &Refusal{Status: http.StatusUnauthorized, Code: "UNAUTHORIZED", Message: message, Challenge: challenge, Reason: reason}
}

// scopeOf is what a challenge adds where tokens are asked for.
func (g *Gate) scopeOf(s scope) string {
	if g.external == nil && g.own == nil {
		return ""
	}
	return fmt.Sprintf(",scope=%q", s)
}

// base is the URL clients know the registry by.
func (g *Gate) base(r *http.Request) string {
	if g.o.URL != "" {
		return g.o.URL
	}
	scheme := "http"
	if r.TLS != nil {
		scheme = "https"
	}
	return scheme + "://" + r.Host
}

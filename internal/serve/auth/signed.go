package auth

import (
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// claims are those of docker's token specification, and ours.
type claims struct {
	jwt.RegisteredClaims
	Access []scope  `json:"access,omitempty"`
	Via    via      `json:"via,omitempty"`
	Groups []string `json:"groups,omitempty"` // of foreign issuers
	Check  string   `json:"chk,omitempty"`    // of refresh tokens: which password they stand for
}

// maxToken bounds a token in bytes.
const maxToken = 16 << 10

// leeway is how far clocks may be apart.
const leeway = 30 * time.Second

// verifier checks signed tokens of one issuer.
type verifier struct {
	issuer, audience string
	keys             func() publicKeys
	now              func() time.Time
	leeway           time.Duration
}

// verify returns what a token claims, if all of it holds.
func (v verifier) verify(token string) (*claims, error) {
	if len(token) > maxToken {
		return nil, errors.New("the token is too long")
	}
	c := &claims{}
	p := jwt.NewParser(
		jwt.WithIssuer(v.issuer), jwt.WithAudience(v.audience), jwt.WithExpirationRequired(),
		jwt.WithTimeFunc(v.now), jwt.WithLeeway(v.leeway),
		jwt.WithValidMethods([]string{"EdDSA", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512"}),
	)
	_, err := p.ParseWithClaims(token, c, v.candidates)
	if err != nil {
		return nil, err
	}
	return c, nil
}

// candidates are the keys that may have signed t. Each signing method takes keys of its own kind
// alone, so that none is used for what it was not made for.
func (v verifier) candidates(t *jwt.Token) (any, error) {
	keys := v.keys()
	id, _ := t.Header["kid"].(string)
	found := slices.Concat(keys[id])
	if id != "" {
		found = append(found, keys[""]...)
	} else {
		for k, more := range keys {
			if k != "" {
				found = append(found, more...)
			}
		}
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("no key %.40q", id)
	}
	set := jwt.VerificationKeySet{}
	for _, k := range found {
		set.Keys = append(set.Keys, k)
	}
	return set, nil
}

// sign makes a token.
func (s signer) sign(c claims) (string, error) {
	c.ID = rand.Text()
	t := jwt.NewWithClaims(jwt.SigningMethodEdDSA, c)
	t.Header["kid"] = s.id
	return t.SignedString(s.key)
}

func (s signer) keys() publicKeys {
	return publicKeys{s.id: {s.key.Public()}}
}

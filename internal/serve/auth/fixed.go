package auth

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"time"

	"nacre/internal/serve/config"
)

// NewToken makes a fixed token and the hash that the configuration has of it.
func NewToken() (token, sum string) {
	token = "nacre_" + rand.Text() // 26 letters: 130 bits
	s := sha256.Sum256([]byte(token))
	return token, hex.EncodeToString(s[:])
}

// fixed are the tokens of the configuration, by their hash: looking for one takes the same time
// however much of it is right, and their hashes need not be slow since nobody guesses 130 bits.
type fixed map[[32]byte]config.Token

func newFixed(tokens []config.Token) (fixed, error) {
	f := fixed{}
	for i, t := range tokens {
		sum, err := hex.DecodeString(t.SHA256)
		if err != nil || len(sum) != 32 {
			return nil, fmt.Errorf("auth.tokens[%d]: sha256 is not one", i)
		}
		f[[32]byte(sum)] = t
	}
	return f, nil
}

// find is who has this token.
func (f fixed) find(token string, now time.Time) (Caller, bool) {
	t, ok := f[sha256.Sum256([]byte(token))]
	if !ok || expired(t, now) {
		return Caller{}, false
	}
	return Caller{Name: t.Name, Groups: t.Groups, via: viaToken}, true
}

// named is the caller with the token of this name.
func (f fixed) named(name string, now time.Time) (Caller, bool) {
	for _, t := range f {
		if t.Name == name && !expired(t, now) {
			return Caller{Name: t.Name, Groups: t.Groups, via: viaToken}, true
		}
	}
	return Caller{}, false
}

func expired(t config.Token, now time.Time) bool {
	return !t.Expires.IsZero() && !now.Before(t.Expires)
}

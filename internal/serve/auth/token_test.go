package auth

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"nacre/internal/serve/config"
)

func sha(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])
}

func TestTokens(t *testing.T) {
	w := open(t, someRules)
	alice := w.token(t, "alice", "repository:team/a:pull,push,delete", "repository:other:pull", "registry:catalog:*")
	anonymous := w.token(t, "", "repository:public/a:pull repository:team/a:pull")
	for _, c := range []struct {
		as, path string
		want     int
		error    string
	}{
		{alice, "/push/team/a", 200, ""},
		{alice, "/delete/team/a", 403, ""},                 // the rules do not allow it
		{alice, "/pull/team/b", 401, "insufficient_scope"}, // another token would do
		{alice, "/pull/other", 403, ""},
		{alice, "/ping", 200, ""},
		{alice, "/catalog", 200, ""},
		{anonymous, "/pull/public/a", 200, ""},
		{anonymous, "/pull/public/b", 401, "insufficient_scope"},
		{anonymous, "/pull/team/a", 401, "insufficient_scope"},
		{anonymous, "/ping", 200, ""},
		{anonymous, "/catalog", 401, "insufficient_scope"},
	} {
		resp := w.get(t, c.path, "bearer "+c.as)
		challenge := resp.Header.Get("WWW-Authenticate")
		if resp.StatusCode != c.want || c.error != "" && !strings.Contains(challenge, `error="`+c.error+`"`) {
			t.Errorf("%s: %d, want %d; %s", c.path, resp.StatusCode, c.want, challenge)
		}
	}
	resp := w.get(t, "/push/team/a", "")
	want := fmt.Sprintf(`Bearer realm="%s/token",service="nacre",scope="repository:team/a:pull,push"`, w.url)
	if got := resp.Header.Get("WWW-Authenticate"); got != want {
		t.Errorf("challenge\n%s\nwant\n%s", got, want)
	}
	w.clock.add(6 * time.Minute)
	if resp := w.get(t, "/push/team/a", "bearer "+alice); resp.StatusCode != 401 || !strings.Contains(resp.Header.Get("WWW-Authenticate"), "invalid_token") {
		t.Errorf("an expired token: %d %v", resp.StatusCode, resp.Header)
	}
}

// TestTokenEnds: a token ends with its user, and with what the rules allow.
func TestTokenEnds(t *testing.T) {
	w := open(t, someRules)
	token := w.token(t, "alice", "repository:team/a:pull")
	w.write(t, "bob:"+hash(t, "x"))
	if got := w.get(t, "/pull/team/a", "bearer "+token).StatusCode; got != 401 {
		t.Errorf("a user who is gone: %d", got)
	}
}

func TestTokenEndpoint(t *testing.T) {
	w := open(t, someRules+"  token-service: {refresh-ttl: 24h}\n")
	for _, c := range []struct {
		as, query string
		want      int
	}{
		{"alice", "", 200}, {"alice:wrong", "", 401}, {"", "", 200}, {"alice", "service=other", 400},
		{"alice", "scope=nonsense&scope=repository:a&scope=::&scope=repository:x:y", 200},
		{"bearer " + w.token(t, "alice"), "", 401},
	} {
		resp := w.get(t, "/token?"+c.query, c.as)
		if resp.StatusCode != c.want {
			t.Errorf("%q %s: %d, want %d", c.as, c.query, resp.StatusCode, c.want)
		}
		if c.want == 401 && !strings.HasPrefix(resp.Header.Get("WWW-Authenticate"), "Basic ") {
			t.Errorf("%q: challenge %q", c.as, resp.Header.Get("WWW-Authenticate"))
		}
	}
	post := func(f url.Values) (answer, int) {
		req, _ := http.NewRequest("POST", w.url+"/token", strings.NewReader(f.Encode()))
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		resp := do(t, req)
		var a answer
		json.NewDecoder(resp.Body).Decode(&a)
		return a, resp.StatusCode
	}
	a, status := post(url.Values{"grant_type": {"password"}, "username": {"alice"}, "password": {"alice-secret"}, "access_type": {"offline"}, "scope": {"repository:team/a:pull"}})
	if status != 200 || a.RefreshToken == "" || w.get(t, "/pull/team/a", "bearer "+a.Token).StatusCode != 200 {
		t.Fatalf("password: %d %+v", status, a)
	}
	if got := w.get(t, "/pull/team/a", "bearer "+a.RefreshToken).StatusCode; got != 401 {
		t.Errorf("a refresh token opens the registry: %d", got)
	}
	refresh := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {a.RefreshToken}, "scope": {"repository:team/a:pull"}}
	w.clock.add(time.Hour)
	b, status := post(refresh)
	if status != 200 || w.get(t, "/pull/team/a", "bearer "+b.Token).StatusCode != 200 {
		t.Errorf("refresh: %d %+v", status, b)
	}
	for _, bad := range []url.Values{
		{"grant_type": {"refresh_token"}, "refresh_token": {a.Token}},
		{"grant_type": {"password"}, "username": {"alice"}, "password": {"x"}},
	} {
		if _, status := post(bad); status != 401 {
			t.Errorf("%v: %d", bad, status)
		}
	}
	if _, status := post(url.Values{"grant_type": {"magic"}}); status != 400 {
		t.Errorf("another grant: %d", status)
	}
	w.write(t, "alice:"+hash(t, "new")+"\n")
	if _, status := post(refresh); status != 401 {
		t.Errorf("a refresh token outlives the password: %d", status)
	}
}

// TestForgeries are tokens that nobody issued.
func TestForgeries(t *testing.T) {
	w := open(t, someRules)
	now := w.clock.now()
	cl := claims{Access: []scope{{"repository", "team/a", []string{"pull"}}}, Via: viaPassword, RegisteredClaims: jwt.RegisteredClaims{
		Issuer: "nacre", Subject: "alice", Audience: jwt.ClaimStrings{"nacre"}, ExpiresAt: jwt.NewNumericDate(now.Add(time.Minute)),
	}}
	good, err := w.signer.sign(cl)
	if err != nil || w.get(t, "/pull/team/a", "bearer "+good).StatusCode != 200 {
		t.Fatal("the token to forge is not good: ", err)
	}
	public := w.signer.key.Public().(ed25519.PublicKey)
	_, other, _ := ed25519.GenerateKey(rand.Reader)
	sign := func(m jwt.SigningMethod, key any, change func(*claims)) string {
		c := cl
		if change != nil {
			change(&c)
		}
		tok := jwt.NewWithClaims(m, c)
		tok.Header["kid"] = w.signer.id
		s, err := tok.SignedString(key)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	parts := strings.Split(good, ".")
	for name, token := range map[string]string{
		"none":               sign(jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, nil),
		"hmac of the key":    sign(jwt.SigningMethodHS256, []byte(public), nil),
		"another key":        sign(jwt.SigningMethodEdDSA, other, nil),
		"no signature":       parts[0] + "." + parts[1] + ".",
		"another issuer":     sign(jwt.SigningMethodEdDSA, w.signer.key, func(c *claims) { c.Issuer = "x" }),
		"another audience":   sign(jwt.SigningMethodEdDSA, w.signer.key, func(c *claims) { c.Audience = jwt.ClaimStrings{"x"} }),
		"no expiry":          sign(jwt.SigningMethodEdDSA, w.signer.key, func(c *claims) { c.ExpiresAt = nil }),
		"not yet":            sign(jwt.SigningMethodEdDSA, w.signer.key, func(c *claims) { c.NotBefore = jwt.NewNumericDate(now.Add(time.Hour)) }),
		"an unknown user":    sign(jwt.SigningMethodEdDSA, w.signer.key, func(c *claims) { c.Subject = "zoe" }),
		"a foreign issuer's": sign(jwt.SigningMethodEdDSA, w.signer.key, func(c *claims) { c.Via = viaIssuer }),
	} {
		if got := w.get(t, "/pull/team/a", "bearer "+token).StatusCode; got != 401 {
			t.Errorf("%s: %d", name, got)
		}
	}
}

func TestKeyIsKept(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sub", "key")
	a, err := loadSigner(path)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", info.Mode(), err)
	}
	b, err := loadSigner(path)
	if err != nil || !reflect.DeepEqual(a, b) {
		t.Errorf("another key: %v", err)
	}
	for _, bad := range []string{"", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"} {
		os.WriteFile(path, []byte(bad), 0o600)
		if _, err := loadSigner(path); err == nil {
			t.Errorf("%q is taken for a key", bad)
		}
	}
}

// external makes keys of every kind, as PEM and as JWKS.
func TestExternalIssuer(t *testing.T) {
	rsaKey, _ := rsa.GenerateKey(rand.Reader, 2048)
	ecKey, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	_, edKey, _ := ed25519.GenerateKey(rand.Reader)
	weak, _ := rsa.GenerateKey(rand.Reader, 1024)
	pemOf := func(keys ...crypto.PublicKey) (out []byte) {
		for _, k := range keys {
			der, err := x509.MarshalPKIXPublicKey(k)
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})...)
		}
		return out
	}
	b64 := base64.RawURLEncoding.EncodeToString
	point, err := ecKey.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	set := fmt.Sprintf(`{"keys":[{"kty":"oct","k":"AAAA"},{"kty":"RSA","kid":"r","n":%q,"e":"AQAB"},{"kty":"EC","kid":"e","crv":"P-256","x":%q,"y":%q},{"kty":"OKP","crv":"Ed25519","kid":"d","use":"sig","x":%q}]}`,
		b64(rsaKey.N.Bytes()), b64(point[1:33]), b64(point[33:]), b64(edKey.Public().(ed25519.PublicKey)))
	if _, err := parseKeys(pemOf(weak.Public())); err == nil {
		t.Error("a weak key is taken")
	}
	for name, data := range map[string][]byte{"pem": pemOf(rsaKey.Public(), ecKey.Public(), edKey.Public()), "jwks": []byte(set)} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "keys")
			if err := os.WriteFile(file, data, 0o600); err != nil {
				t.Fatal(err)
			}
			w := open(t, fmt.Sprintf("  external: {realm: 'https://id.example/token', service: reg, issuer: id, keys: %s}\n", file))
			for kid, k := range map[string]struct {
				method jwt.SigningMethod
				key    any
			}{"r": {jwt.SigningMethodRS256, rsaKey}, "e": {jwt.SigningMethodES256, ecKey}, "d": {jwt.SigningMethodEdDSA, edKey}} {
				tok := jwt.NewWithClaims(k.method, claims{Access: []scope{{"repository", "a", []string{"pull"}}}, RegisteredClaims: jwt.RegisteredClaims{
					Issuer: "id", Audience: jwt.ClaimStrings{"reg"}, Subject: "zoe", ExpiresAt: jwt.NewNumericDate(w.clock.now().Add(time.Minute))}})
				tok.Header["kid"] = kid
				s, err := tok.SignedString(k.key)
				if err != nil {
					t.Fatal(err)
				}
				for path, want := range map[string]int{"/pull/a": 200, "/push/a": 401, "/pull/b": 401} {
					if got := w.get(t, path, "bearer "+s).StatusCode; got != want {
						t.Errorf("%s %s: %d, want %d", kid, path, got, want)
					}
				}
			}
			want := `Bearer realm="https://id.example/token",service="reg",scope="repository:a:pull"`
			if got := w.get(t, "/pull/a", "").Header.Get("WWW-Authenticate"); got != want {
				t.Errorf("challenge %q", got)
			}
		})
	}
}

func TestCatalog(t *testing.T) {
	w := open(t, someRules)
	repos := []string{"public/a", "team/a", "hidden/a", "other"}
	sees := func(c Caller) (got []string) {
		for _, r := range repos {
			if w.Sees(c, r) {
				got = append(got, r)
			}
		}
		return got
	}
	for _, c := range []struct {
		caller Caller
		want   []string
	}{
		{Caller{}, []string{"public/a"}},
		{Caller{Name: "alice", via: viaPassword}, []string{"public/a", "team/a"}},
		{Caller{Name: "alice", via: viaPassword, grants: newGrants([]scope{catalogScope})}, []string{"public/a", "team/a"}},
		{Caller{Name: "alice", via: viaPassword, grants: newGrants(nil)}, nil},
		{Caller{Name: "zoe", via: viaIssuer, grants: newGrants([]scope{{"repository", "other", []string{"pull"}}})}, []string{"other"}},
	} {
		if got := sees(c.caller); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%+v: %v, want %v", c.caller, got, c.want)
		}
	}
}

func TestNewToken(t *testing.T) {
	token, sum := NewToken()
	f, err := newFixed([]config.Token{{Name: "x", SHA256: sum, Expires: time.Unix(1000, 0)}})
	if err != nil {
		t.Fatal(err)
	}
	if c, ok := f.find(token, time.Unix(999, 0)); !ok || c.Name != "x" {
		t.Error("not found")
	}
	if _, ok := f.find(token, time.Unix(1000, 0)); ok {
		t.Error("found after its end")
	}
}

func FuzzScopes(f *testing.F) {
	f.Add("repository:a/b:pull,push registry:catalog:*")
	f.Add("repository(plugin):a:b:c")
	f.Fuzz(func(t *testing.T, s string) {
		for _, one := range parseScopes([]string{s}) {
			again := parseScopes([]string{one.String()})
			if len(one.Actions) > 0 && !reflect.DeepEqual(again, []scope{one}) {
				t.Errorf("%q: %+v prints as %q, read as %+v", s, one, one, again)
			}
			newGrants([]scope{one})
		}
	})
}

func FuzzKeys(f *testing.F) {
	f.Add([]byte(`{"keys":[{"kty":"EC","crv":"P-256","x":"AA","y":"AA"},{"kty":"RSA","n":"AQAB","e":"AQAB"}]}`))
	f.Add([]byte("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		keys, err := parseKeys(data)
		for _, list := range keys {
			for _, k := range list {
				if err == nil && usable(k) != nil {
					t.Error("an unusable key")
				}
			}
		}
		parseUsers(data)
	})
}

package build

import (
	"encoding/base64"
	"net/url"
)

// httpAuth is the Authorization for a URL: the secret HTTP_AUTH_HEADER_<host> or HTTP_AUTH_TOKEN_<host>.
func (f *fetcher) httpAuth(raw string) (string, error) {
	u, err := url.Parse(raw)
	if err != nil {
		return "", err
	}
	host := u.Hostname()
	if v, err := f.secret("HTTP_AUTH_TOKEN_" + host); v != "" || err != nil {
		return "Bearer " + v, err
	}
	return f.secret("HTTP_AUTH_HEADER_" + host)
}

// gitAuth is the Authorization for a git remote: the secret GIT_AUTH_HEADER or GIT_AUTH_TOKEN, with
// ".<host>" at the end or for any host.
func (f *fetcher) gitAuth(raw string) (string, error) {
	u, err := url.Parse(raw)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" {
		return "", nil
	}
	for _, suffix := range []string{"." + u.Host, ""} {
		if v, err := f.secret("GIT_AUTH_HEADER" + suffix); v != "" || err != nil {
			return v, err
		}
		if v, err := f.secret("GIT_AUTH_TOKEN" + suffix); v != "" || err != nil {
			return "basic " + base64.StdEncoding.EncodeToString([]byte("x-access-token:"+v)), err
		}
	}
	return "", nil
}

// secret is the value of a secret of the build; empty where there is none.
func (f *fetcher) secret(id string) (string, error) {
	if f.o.Secret == nil {
		return "", nil
	}
	v, err := f.o.Secret(id)
	return string(v), err
}

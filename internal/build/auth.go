package build

import (
	"encoding/base64"
	"fmt"
	"net/url"
	"slices"
	"strings"
)

// httpAuth is the Authorization for a URL: the secret HTTP_AUTH_HEADER_<host> or HTTP_AUTH_TOKEN_<host>.
func (f *fetcher) httpAuth(raw string) (string, error) {
	u, err := url.Parse(raw)
	if err != nil {
		return "", err
	}
	host := u.Hostname()
	if v, err := f.secret("HTTP_AUTH_HEADER_" + host); v != "" || err != nil {
		return v, err
	}
	v, err := f.secret("HTTP_AUTH_TOKEN_" + host)
	if v != "" {
		v = "Bearer " + v
	}
	return v, err
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
			encoded := base64.StdEncoding.EncodeToString([]byte("x-access-token:" + v))
			f.hidden = append(f.hidden, encoded)
			return "basic " + encoded, err
		}
	}
	return "", nil
}

// secret is the value of a secret of the build, without the line end that files have; empty where there is
// none. From here on it is kept out of logs and errors.
func (f *fetcher) secret(id string) (string, error) {
	if f.o.Secret == nil {
		return "", nil
	}
	data, err := f.o.Secret(id)
	v := strings.TrimRight(string(data), "\r\n")
	switch {
	case err != nil:
		return "", fmt.Errorf("secret %s: %w", id, err)
	case len(v) > maxSecret:
		return "", fmt.Errorf("secret %s: %d bytes are more than the %d a secret may have", id, len(v), maxSecret)
	case strings.ContainsAny(v, "\r\n\x00"):
		return "", fmt.Errorf("secret %s: it has several lines, which a header cannot have", id)
	}
	// Of a header the last word alone is the secret: "Bearer abc".
	for _, h := range []string{v, v[strings.LastIndexByte(v, ' ')+1:]} {
		if len(h) >= minHidden {
			f.hidden = append(f.hidden, h)
		}
	}
	return v, nil
}

// has tells whether a text that a server sent tells a secret.
func (f *fetcher) has(text string) bool {
	for _, h := range f.hidden {
		if strings.Contains(text, h) {
			return true
		}
	}
	return false
}

// log passes on what a program says. It is told as it comes, progress that is drawn over included.
func (f *fetcher) log() *logger {
	l := &logger{sink: f.Sink, clock: f.Clock, id: f.id, stream: 2, ends: "\r\n", tail: &tail{}}
	for _, h := range f.hidden {
		l.hidden = append(l.hidden, []byte(h))
	}
	slices.SortStableFunc(l.hidden, func(a, b []byte) int { return len(b) - len(a) })
	return l
}

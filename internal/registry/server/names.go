package server

import (
	"strings"

	"github.com/opencontainers/go-digest"
)

const (
	// maxRepo is what clients allow host and repository together (spec, "Pulling manifests").
	maxRepo = 255
	maxTag  = 128
)

// validRepo tells whether s is a repository's name:
// [a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(\/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*
func validRepo(s string) bool {
	if len(s) > maxRepo {
		return false
	}
	for s != "" {
		component, rest, more := strings.Cut(s, "/")
		if !validComponent(component) || (more && rest == "") {
			return false
		}
		if s = rest; !more {
			return true
		}
	}
	return false
}

func validComponent(s string) bool {
	separator := "." // what came since the last letter or digit; none may come first
	for i := range len(s) {
		switch c := s[i]; c {
		case '.':
			if separator != "" {
				return false
			}
			separator = "."
		case '_':
			if separator != "" && separator != "_" {
				return false
			}
			separator += "_"
		case '-':
			if separator != "" && separator != "-" {
				return false
			}
			separator = "-"
		default:
			if (c < 'a' || c > 'z') && (c < '0' || c > '9') {
				return false
			}
			separator = ""
		}
	}
	return separator == ""
}

// validTag tells whether s is a tag: [a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}
func validTag(s string) bool {
	if s == "" || len(s) > maxTag || s[0] == '.' || s[0] == '-' {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '_' || c == '.' || c == '-') {
			return false
		}
	}
	return true
}

// parseDigest checks a digest, without a regular expression: every request of a blob does it.
func parseDigest(s string) (digest.Digest, error) {
	algorithm, hex, ok := strings.Cut(s, ":")
	if !ok {
		return "", Errorf(CodeDigestInvalid, "digest %.200q is not of the form algorithm:hex", s)
	}
	want := 0
	switch digest.Algorithm(algorithm) {
	case digest.SHA256:
		want = 64
	case digest.SHA512:
		want = 128
	default:
		return "", Errorf(CodeDigestInvalid, "digest %.200q: only sha256 and sha512 are supported", s)
	}
	if !isHex(hex, want) {
		return "", Errorf(CodeDigestInvalid, "digest %.200q does not have %d digits 0-9a-f", s, want)
	}
	return digest.Digest(s), nil
}

func isHex(s string, n int) bool {
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return len(s) == n
}

// validSession tells whether s could be the ID of an upload: a UUID as newSession makes it.
func validSession(s string) bool {
	return len(s) == 36 && s[8] == '-' && s[13] == '-' && s[18] == '-' && s[23] == '-' &&
		isHex(s[:8]+s[9:13]+s[14:18]+s[19:23]+s[24:], 32)
}

package remote

import "strings"

// challenge is one way of authentication that a server offers (RFC 9110, 11.6.1).
type challenge struct {
	scheme string // in lower case
	params map[string]string
}

// maxChallenges bounds what is looked at of a header.
const maxChallenges = 16

// parseChallenges reads WWW-Authenticate headers. What it does not understand ends its reading of that
// header: challenges before it are kept.
func parseChallenges(headers []string) []challenge {
	var all []challenge
	for _, h := range headers {
		s := scanner{h}
		for len(all) < maxChallenges {
			c, ok := s.challenge()
			if !ok {
				break
			}
			all = append(all, c)
		}
	}
	return all
}

// scanner reads a header from its beginning.
type scanner struct{ rest string }

// challenge reads `Scheme key=value, key="value"`; a comma and a word without = begin the next.
func (s *scanner) challenge() (challenge, bool) {
	s.skip(" \t,")
	scheme := s.token()
	if scheme == "" || strings.HasPrefix(s.rest, "=") {
		return challenge{}, false
	}
	c := challenge{strings.ToLower(scheme), map[string]string{}}
	for {
		before := s.rest
		s.skip(" \t,")
		key := s.token()
		s.skip(" \t")
		if key == "" || !strings.HasPrefix(s.rest, "=") {
			s.rest = before // the next challenge, or the end
			return c, true
		}
		s.rest = s.rest[1:]
		s.skip(" \t")
		value, ok := s.value()
		if !ok {
			s.rest = ""
			return c, true
		}
		if key = strings.ToLower(key); c.params[key] == "" {
			c.params[key] = value
		}
	}
}

func (s *scanner) value() (string, bool) {
	if !strings.HasPrefix(s.rest, `"`) {
		v := s.token()
		return v, v != ""
	}
	var b strings.Builder
	for i := 1; i < len(s.rest); i++ {
		switch c := s.rest[i]; {
		case c == '\\' && i+1 < len(s.rest):
			i++
			b.WriteByte(s.rest[i])
		case c == '"':
			s.rest = s.rest[i+1:]
			return b.String(), true
		default:
			b.WriteByte(c)
		}
	}
	return "", false // never closed
}

func (s *scanner) skip(chars string) { s.rest = strings.TrimLeft(s.rest, chars) }

// token reads what needs no quotes. Servers leave quotes out around URLs and scopes too,
// so more is taken than RFC 9110 has it.
func (s *scanner) token() string {
	n := strings.IndexAny(s.rest, " \t,=\"")
	if n < 0 {
		n = len(s.rest)
	}
	t := s.rest[:n]
	s.rest = s.rest[n:]
	return t
}

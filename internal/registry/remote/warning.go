package remote

import "strings"

// warning passes on a Warning header of code 299, as the distribution spec has
// registries warn: `299 - "text"`.
func (e *endpoint) warning(header string) {
	rest, ok := strings.CutPrefix(header, "299 ")
	if !ok {
		return
	}
	if _, rest, ok = strings.Cut(rest, " "); !ok {
		return
	}
	s := scanner{rest}
	if text, ok := s.value(); ok && text != "" {
		e.r.warnf("%s: %s", e.name, plain(e.auth.redact(text), maxDetail))
	}
}

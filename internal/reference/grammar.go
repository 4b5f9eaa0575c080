package reference

import "strings"

// isDomain: names separated by dots or an IPv6 address in brackets, and perhaps a port.
func isDomain(s string) bool {
	host := s
	if i := strings.LastIndexByte(s, ':'); i > strings.LastIndexByte(s, ']') {
		host = s[:i]
		if !all(s[i+1:], isDigit) {
			return false
		}
	}
	if inner, ok := strings.CutPrefix(host, "["); ok {
		inner, ok = strings.CutSuffix(inner, "]")
		return ok && all(inner, func(c byte) bool { return c == ':' || isHex(c) })
	}
	for part := range strings.SplitSeq(host, ".") {
		if !all(part, func(c byte) bool { return c == '-' || isAlnum(c) }) || part[0] == '-' || part[len(part)-1] == '-' {
			return false
		}
	}
	return true
}

// isPath: parts between slashes, each of lower case letters and digits with separators
// between them.
func isPath(s string) bool {
	for part := range strings.SplitSeq(s, "/") {
		if !isPart(part) {
			return false
		}
	}
	return true
}

func isPart(s string) bool {
	for {
		n := strings.IndexFunc(s, func(r rune) bool { return r > 'z' || !isLower(byte(r)) })
		if n == 0 || s == "" {
			return false
		}
		if n < 0 {
			return true
		}
		sep := 1
		for n+sep < len(s) && !isLower(s[n+sep]) {
			sep++
		}
		switch between := s[n : n+sep]; {
		case between == ".", between == "_", between == "__", strings.Trim(between, "-") == "":
			s = s[n+sep:]
		default:
			return false
		}
	}
}

func isTag(s string) bool {
	return len(s) <= maxTag && all(s, func(c byte) bool { return c == '_' || c == '.' || c == '-' || isAlnum(c) }) && s[0] != '.' && s[0] != '-'
}

// isDigest: the name of an algorithm, which may have several parts, and at least 32
// hexadecimal digits.
func isDigest(s string) bool {
	algorithm, hex, ok := strings.Cut(s, ":")
	if !ok || len(hex) < 32 || !all(hex, isHex) {
		return false
	}
	start := true // of a part, which is a letter
	for i := range len(algorithm) {
		switch c := algorithm[i]; {
		case start && isAlnum(c) && !isDigit(c):
			start = false
		case !start && strings.IndexByte("-_+.", c) >= 0:
			start = true
		case start || !isAlnum(c):
			return false
		}
	}
	return !start
}

// isIdentifier: what an image's ID looks like, when it has 64 of these.
func isIdentifier(s string) bool {
	return all(s, func(c byte) bool { return isDigit(c) || 'a' <= c && c <= 'f' })
}

// all tells whether s has at least one byte, and ok holds for each.
func all(s string, ok func(byte) bool) bool {
	for i := range len(s) {
		if !ok(s[i]) {
			return false
		}
	}
	return s != ""
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }
func isLower(c byte) bool { return isDigit(c) || 'a' <= c && c <= 'z' }
func isAlnum(c byte) bool { return isLower(c) || 'A' <= c && c <= 'Z' }
func isHex(c byte) bool   { return isDigit(c) || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F' }

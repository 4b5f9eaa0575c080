// Package glob matches names of repositories and tags with patterns: ** is anything, * anything
// without a slash, ? one character that is no slash. There are no classes, so that a pattern means
// what it looks like.
package glob

// Match tells whether the whole of name is as the pattern says. It takes time in proportion to
// the product of their lengths at most, whatever the pattern.
func Match(pattern, name string) bool {
	if pattern == "**" {
		return true
	}
	var room [256]bool // most names; no allocation
	fits := room[:]    // fits[i]: the pattern so far fits the first i bytes of name
	if len(name) >= len(room) {
		fits = make([]bool, len(name)+1)
	}
	fits = fits[:len(name)+1]
	fits[0] = true
	for p := 0; p < len(pattern); p++ {
		if pattern[p] == '*' {
			deep := p+1 < len(pattern) && pattern[p+1] == '*'
			if deep {
				p++
			}
			for i := range len(name) {
				fits[i+1] = fits[i+1] || fits[i] && (deep || name[i] != '/')
			}
			continue
		}
		for i := len(name); i > 0; i-- {
			c := name[i-1]
			fits[i] = fits[i-1] && (pattern[p] == c || pattern[p] == '?' && c != '/')
		}
		fits[0] = false
	}
	return fits[len(name)]
}

// Any tells whether name is as one of the patterns says.
func Any(patterns []string, name string) bool {
	for _, p := range patterns {
		if Match(p, name) {
			return true
		}
	}
	return false
}

// Package glob matches names of repositories and tags with patterns: * is anything
// within a part, ? one letter, ** any number of parts, none among them. "team/**" matches
// team/a and team/a/b, and team itself. There are no classes, so that a pattern means what it
// looks like.
package glob

import "strings"

// Match tells whether name is as the pattern says.
func Match(pattern, name string) bool {
	return parts(strings.Split(pattern, "/"), strings.Split(name, "/"))
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

// parts goes back to the last ** alone when it is stuck, as part does to the last *: the time is
// then at most the product of the lengths, whatever the pattern.
func parts(pattern, name []string) bool {
	p, n, star, mark := 0, 0, -1, 0
	for n < len(name) {
		switch {
		case p < len(pattern) && pattern[p] == "**":
			star, mark = p, n
			p++
		case p < len(pattern) && part(pattern[p], name[n]):
			p++
			n++
		case star >= 0:
			mark++
			p, n = star+1, mark
		default:
			return false
		}
	}
	for p < len(pattern) && pattern[p] == "**" {
		p++
	}
	return p == len(pattern)
}

func part(pattern, name string) bool {
	p, n, star, mark := 0, 0, -1, 0
	for n < len(name) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, mark = p, n
			p++
		case p < len(pattern) && (pattern[p] == '?' || pattern[p] == name[n]):
			p++
			n++
		case star >= 0:
			mark++
			p, n = star+1, mark
		default:
			return false
		}
	}
	return strings.Trim(pattern[p:], "*") == ""
}

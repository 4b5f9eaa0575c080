package dockerfile

import (
	"strings"
	"unicode/utf8"
)

// instructionNames are those of the language, in order.
var instructionNames = []string{
	"ADD", "ARG", "CMD", "COPY", "ENTRYPOINT", "ENV", "EXPOSE", "FROM", "HEALTHCHECK", "LABEL",
	"MAINTAINER", "ONBUILD", "RUN", "SHELL", "STOPSIGNAL", "USER", "VOLUME", "WORKDIR",
}

// flagNames are the flags an instruction takes.
func flagNames(instruction string) []string {
	switch strings.ToUpper(instruction) {
	case "ADD":
		return []string{"--checksum", "--chmod", "--chown", "--exclude", "--keep-git-dir", "--link", "--unpack"}
	case "COPY":
		return []string{"--chmod", "--chown", "--exclude", "--from", "--link", "--parents"}
	case "FROM":
		return []string{"--platform"}
	case "HEALTHCHECK":
		return []string{"--interval", "--retries", "--start-interval", "--start-period", "--timeout"}
	case "RUN":
		return []string{"--device", "--mount", "--network", "--security"}
	}
	return nil
}

// DidYouMean is a hint, "did you mean RUN?", naming the option nearest to word,
// or empty where none is near: more than two letters apart.
func DidYouMean(word string, options []string) string {
	best, least := "", 3
	if utf8.RuneCountInString(word) > 100 {
		return ""
	}
	for _, o := range options {
		if o == word {
			return "" // the word is known: something else is wrong
		}
		if d := distance(word, o); least > 0 && len(word) > 4 && strings.HasPrefix(o, strings.TrimSuffix(word, "y")) {
			best, least = o, min(d, 1) // the beginning of it: --retry
		} else if d < least && d < utf8.RuneCountInString(o) {
			best, least = o, d
		}
	}
	if best == "" {
		return ""
	}
	return "did you mean " + best + "?"
}

// oneOf is a hint for a value that can be one of a few.
func oneOf(word string, options ...string) string {
	if h := DidYouMean(word, options); h != "" {
		return h
	}
	last := len(options) - 1
	return "want " + strings.Join(options[:last], ", ") + " or " + options[last]
}

// distance counts the letters to insert, delete, replace or swap with their
// neighbour (restricted Damerau-Levenshtein) to make b of a.
func distance(a, b string) int {
	r, s := []rune(a), []rune(b)
	prev2, prev, row := make([]int, len(s)+1), make([]int, len(s)+1), make([]int, len(s)+1)
	for j := range row {
		row[j] = j
	}
	for i := range r {
		prev2, prev, row = prev, row, prev2
		row[0] = i + 1
		for j := range s {
			cost := 1
			if r[i] == s[j] {
				cost = 0
			}
			d := min(prev[j]+cost, prev[j+1]+1, row[j]+1)
			if i > 0 && j > 0 && r[i] == s[j-1] && r[i-1] == s[j] {
				d = min(d, prev2[j-1]+1)
			}
			row[j+1] = d
		}
	}
	return row[len(s)]
}

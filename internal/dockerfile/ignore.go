package dockerfile

import (
	"fmt"
	"io"
	"path"
	"strings"
	"sync"

	"github.com/moby/patternmatcher"
	"github.com/moby/patternmatcher/ignorefile"
)

// Limits of a .dockerignore: every pattern is tried on every file of a context,
// so that far smaller ones are already slow.
const (
	maxIgnoreSize     = 1 << 20
	maxIgnorePatterns = 10_000
)

// ParseIgnore reads the patterns of a .dockerignore: comments dropped, spaces
// trimmed, paths cleaned and without leading slash.
func ParseIgnore(r io.Reader) ([]string, error) {
	l := &io.LimitedReader{R: r, N: maxIgnoreSize + 1}
	patterns, err := ignorefile.ReadAll(l)
	switch {
	case l.N <= 0:
		return nil, fmt.Errorf("more than %d bytes", maxIgnoreSize)
	case err != nil:
		return nil, err
	case len(patterns) > maxIgnorePatterns:
		return nil, fmt.Errorf("%d patterns; at most %d are allowed", len(patterns), maxIgnorePatterns)
	}
	return patterns, nil
}

// Match is what is known of a directory, for what is in it. The zero Match is
// that of a context's root.
type Match = patternmatcher.MatchInfo

// Matcher tells which paths of a context are ignored. It is safe for concurrent
// use. The rules are those of docker: the last pattern that matches a path or one of
// its parents decides, "!" re-includes.
type Matcher struct {
	patterns []string
	keep     []exception
	// BuildKit's matcher compiles patterns on first use, unguarded: each
	// goroutine takes its own.
	pool sync.Pool
}

// exception is a "!" pattern: how far its path is plain text, and whether it goes
// on with wildcards.
type exception struct {
	prefix string // clean, "" is the root
	wild   bool
}

// NewMatcher prepares patterns as ParseIgnore returns them. A malformed one is
// an error that names it.
func NewMatcher(patterns []string) (*Matcher, error) {
	m := &Matcher{patterns: patterns}
	for _, p := range patterns {
		if strings.TrimSpace(p) == "" {
			continue
		}
		// Patterns are compiled when first tried, and a "!" pattern is tried only on
		// what matched before it: this tries each, so that a bad one is found now.
		one, err := patternmatcher.New([]string{"**", "!" + strings.TrimPrefix(p, "!")})
		if err == nil {
			_, err = one.MatchesOrParentMatches("x")
		}
		if err != nil {
			return nil, fmt.Errorf("pattern %q: %w", p, err)
		}
	}
	all, err := patternmatcher.New(patterns)
	if err != nil {
		return nil, err
	}
	for _, p := range all.Patterns() {
		if p.Exclusion() {
			m.keep = append(m.keep, newException(p.String()))
		}
	}
	m.pool.New = func() any {
		pm, _ := patternmatcher.New(patterns) // it was fine above
		return pm
	}
	m.pool.Put(all)
	return m, nil
}

// Patterns are those the matcher was made of.
func (m *Matcher) Patterns() []string { return m.patterns }

// MatchesUsingParentResults tells whether name, slash separated and relative to
// the context, is ignored. Parent is what this method returned for the directory it is in.
func (m *Matcher) MatchesUsingParentResults(name string, parent Match) (ignored bool, info Match, err error) {
	pm := m.pool.Get().(*patternmatcher.PatternMatcher)
	defer m.pool.Put(pm)
	return pm.MatchesUsingParentResults(name, parent)
}

// Ignored tells whether name is ignored, where nothing is known of its parents.
func (m *Matcher) Ignored(name string) (bool, error) {
	ignored, _, err := m.MatchesUsingParentResults(name, Match{})
	return ignored, err
}

// SkipDir tells whether nothing below the directory name, which is ignored,
// can be re-included by a "!" pattern, so that it need not be read.
func (m *Matcher) SkipDir(name string) bool {
	for _, k := range m.keep {
		if within(k.prefix, name) || k.wild && within(name, k.prefix) {
			return false
		}
	}
	return true
}

func newException(pattern string) exception {
	i := strings.IndexAny(pattern, `*?[\`)
	if i < 0 {
		return exception{prefix: path.Clean("/" + pattern)[1:]}
	}
	dir := pattern[:i]
	dir = dir[:strings.LastIndexByte(dir, '/')+1]
	return exception{prefix: path.Clean("/" + dir)[1:], wild: true}
}

// within tells whether name is dir or below it.
func within(name, dir string) bool {
	return dir == "" || dir == "." || name == dir || strings.HasPrefix(name, dir+"/")
}

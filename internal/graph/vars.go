package graph

import (
	"errors"
	"maps"
	"slices"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/shell"
)

// vars are variables in scope, in the order they were set last.
type vars struct {
	keys    []string
	values  map[string]string
	longest int // bytes of the longest value ever set
	list    []string
}

var _ shell.EnvGetter = (*vars)(nil)

// Get implements shell.EnvGetter.
func (v *vars) Get(key string) (string, bool) {
	s, ok := v.values[key]
	return s, ok
}

// Keys implements shell.EnvGetter.
func (v *vars) Keys() []string { return v.keys }

func (v *vars) set(key, value string) {
	if v.values == nil {
		v.values = map[string]string{}
	}
	if _, ok := v.values[key]; ok {
		v.keys = slices.DeleteFunc(v.keys, func(k string) bool { return k == key })
	}
	v.keys = append(v.keys, key)
	v.values[key] = value
	v.longest = max(v.longest, len(value))
	v.list = nil
}

func (v *vars) clone() *vars {
	return &vars{keys: slices.Clone(v.keys), values: maps.Clone(v.values), longest: v.longest}
}

// environ is the variables as NAME=value. The result is shared: it must not be changed.
func (v *vars) environ() []string {
	if v.list == nil {
		v.list = make([]string, len(v.keys))
		for i, k := range v.keys {
			v.list[i] = k + "=" + v.values[k]
		}
	}
	return v.list
}

// maxExpansion bounds what variables may make of one word. The kernel takes no
// argument or variable beyond 128 KiB; without a bound forty times
// `ENV A=$A$A` are a terabyte.
const maxExpansion = 32 << 20

var errExpansion = errors.New("variables expand to too much text")

// expand replaces the variables in word.
func expand(lex *shell.Lex, word string, v *vars) (result string, matches shell.ProcessWordResult, err error) {
	if !strings.Contains(word, "$") {
		// Nothing to look up; quotes and escapes are still to be resolved.
		matches, err = lex.ProcessWordWithMatches(word, v)
		return matches.Result, matches, err
	}
	if bound(word, v) > maxExpansion {
		return "", matches, errExpansion
	}
	matches, err = lex.ProcessWordWithMatches(word, v)
	return matches.Result, matches, err
}

// bound is the most bytes that word can expand to. Each ${name//pattern/text}
// can repeat its text for every byte of a value.
func bound(word string, v *vars) float64 {
	n := strings.Count(word, "$")
	size := float64(len(word) + n*v.longest)
	inner := float64(len(word) + (n-1)*v.longest)
	for rest := word; ; {
		_, after, ok := strings.Cut(rest, "${")
		if !ok {
			return size
		}
		rest = after
		if strings.HasPrefix(strings.TrimLeft(rest, nameBytes), "//") {
			size *= inner
		}
	}
}

const nameBytes = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_"

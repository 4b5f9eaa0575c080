package config

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/agext/levenshtein"
	"go.yaml.in/yaml/v4"
)

// decoder fills a Config from YAML nodes. yaml's own strictness reports neither all that is
// wrong nor what was meant, and takes `yes`, 1e3 and 0x10 where people mean something else.
type decoder struct {
	problems Problems
	lines    map[string]int // where each key was: "auth.rules[2].allow"
	nodes    int            // those seen, through aliases too
}

// maxNodes bounds what aliases of aliases can make of a short file.
const maxNodes = 100_000

func (d *decoder) fail(line int, path, format string, args ...any) {
	d.problems = append(d.problems, Problem{Line: line, Key: path, Text: fmt.Sprintf(format, args...)})
}

func (d *decoder) decode(n *yaml.Node, v reflect.Value, path string) {
	for n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if d.nodes++; d.nodes > maxNodes {
		return // Parse says so
	}
	d.lines[path] = n.Line
	if v.Kind() == reflect.Pointer {
		p := reflect.New(v.Type().Elem())
		d.decode(n, p.Elem(), path)
		v.Set(p)
		return
	}
	switch v.Interface().(type) {
	case time.Duration:
		scalar(d, n, v, path, "a duration", ParseDuration)
		return
	case Size:
		scalar(d, n, v, path, "a size", ParseSize)
		return
	case time.Time:
		scalar(d, n, v, path, "a date", parseTime)
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		d.structure(n, v, path)
	case reflect.Map:
		d.mapping(n, v, path)
	case reflect.Slice:
		d.sequence(n, v, path)
	case reflect.String:
		scalar(d, n, v, path, "text", func(s string) (string, error) { return s, nil })
	case reflect.Bool:
		scalar(d, n, v, path, "true or false", parseBool)
	case reflect.Int:
		scalar(d, n, v, path, "a whole number", parseInt)
	case reflect.Float64:
		scalar(d, n, v, path, "a number", parseFloat)
	default:
		panic("config: no decoding of " + v.Type().String())
	}
}

func parseTime(s string) (time.Time, error) {
	for _, layout := range []string{time.RFC3339, time.DateOnly} {
		if t, err := time.Parse(layout, s); err == nil {
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf("%q is not a date: want 2027-01-31 or 2027-01-31T12:00:00Z", s)
}

func parseBool(s string) (bool, error) {
	if s != "true" && s != "false" {
		return false, fmt.Errorf("%q: want true or false", s)
	}
	return s == "true", nil
}

func parseInt(s string) (int, error) {
	n, err := strconv.Atoi(s)
	if err != nil {
		return 0, fmt.Errorf("%q is not a whole number", s)
	}
	return n, nil
}

func parseFloat(s string) (float64, error) {
	f, err := strconv.ParseFloat(s, 64)
	if err != nil || f != f || f > 1e12 || strings.ContainsAny(s, "xXpP_") {
		return 0, fmt.Errorf("%q is not a number", s)
	}
	return f, nil
}

func scalar[T any](d *decoder, n *yaml.Node, v reflect.Value, path, want string, parse func(string) (T, error)) {
	if n.Kind != yaml.ScalarNode {
		d.fail(n.Line, path, "want %s, not %s", want, kind(n))
		return
	}
	if n.Tag == "!!null" {
		return // a key with nothing behind it: the default
	}
	got, err := parse(n.Value)
	if err != nil {
		d.fail(n.Line, path, "%v", err)
		return
	}
	v.Set(reflect.ValueOf(got).Convert(v.Type()))
}

func kind(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "keys and values"
	case yaml.SequenceNode:
		return "a list"
	}
	return "a single value"
}

func null(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.Tag == "!!null" }

// pairs calls f for each key of a mapping, once.
func (d *decoder) pairs(n *yaml.Node, path string, f func(key, value *yaml.Node)) {
	if null(n) {
		return
	}
	if n.Kind != yaml.MappingNode {
		d.fail(n.Line, path, "want keys and values, not %s", kind(n))
		return
	}
	seen := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := n.Content[i]
		if key.Kind != yaml.ScalarNode {
			d.fail(key.Line, path, "a key has to be a word")
			continue
		}
		if at, again := seen[key.Value]; again {
			d.fail(key.Line, join(path, key.Value), "is there already, at line %d", at)
			continue
		}
		seen[key.Value] = key.Line
		f(key, n.Content[i+1])
	}
}

func (d *decoder) structure(n *yaml.Node, v reflect.Value, path string) {
	known := fields(v.Type())
	d.pairs(n, path, func(key, value *yaml.Node) {
		i, ok := known[key.Value]
		if !ok {
			d.fail(key.Line, join(path, key.Value), "unknown key%s", suggest(key.Value, known))
			return
		}
		d.decode(value, v.Field(i), join(path, key.Value))
	})
}

func (d *decoder) mapping(n *yaml.Node, v reflect.Value, path string) {
	m := reflect.MakeMap(v.Type())
	d.pairs(n, path, func(key, value *yaml.Node) {
		e := reflect.New(v.Type().Elem()).Elem()
		d.decode(value, e, join(path, key.Value))
		m.SetMapIndex(reflect.ValueOf(key.Value), e)
	})
	v.Set(m)
}

// sequence takes a single text for a list of one.
func (d *decoder) sequence(n *yaml.Node, v reflect.Value, path string) {
	items := n.Content
	switch {
	case null(n):
		return
	case n.Kind == yaml.ScalarNode && v.Type().Elem().Kind() == reflect.String:
		items = []*yaml.Node{n}
	case n.Kind != yaml.SequenceNode:
		d.fail(n.Line, path, "want a list, not %s", kind(n))
		return
	}
	s := reflect.MakeSlice(v.Type(), len(items), len(items))
	for i, item := range items {
		d.decode(item, s.Index(i), fmt.Sprintf("%s[%d]", path, i))
	}
	v.Set(s)
}

// fields maps the keys of a structure to its fields.
func fields(t reflect.Type) map[string]int {
	m := map[string]int{}
	for i := range t.NumField() {
		m[t.Field(i).Tag.Get("yaml")] = i
	}
	return m
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

// suggest names the known key nearest to word.
func suggest(word string, known map[string]int) string {
	best, least := "", 4
	for _, k := range slices.Sorted(maps.Keys(known)) {
		if d := levenshtein.Distance(strings.ToLower(strings.ReplaceAll(word, "_", "-")), k, nil); len(word) < 64 && d < least && d < len(k) {
			best, least = k, d
		}
	}
	if best == "" {
		return "; known are " + strings.Join(slices.Sorted(maps.Keys(known)), ", ")
	}
	return "; did you mean " + best + "?"
}

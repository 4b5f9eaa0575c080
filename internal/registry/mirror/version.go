package mirror

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Version is what the tag of a release says: "1.27", "v2.0.1", "3.19.1-alpine".
type Version struct {
	Numbers []uint64 // one to four
	Suffix  string   // after the first "-" or "+", without it
}

// ParseVersion reads a tag. It tells whether it is a version.
func ParseVersion(tag string) (Version, bool) {
	s := strings.TrimPrefix(tag, "v")
	var v Version
	if i := strings.IndexAny(s, "-+_"); i >= 0 {
		s, v.Suffix = s[:i], s[i+1:]
		if v.Suffix == "" {
			return Version{}, false
		}
	}
	parts := strings.Split(s, ".")
	if len(parts) > 4 {
		return Version{}, false
	}
	for _, p := range parts {
		n, err := strconv.ParseUint(p, 10, 64)
		if err != nil || p[0] == '+' {
			return Version{}, false
		}
		v.Numbers = append(v.Numbers, n)
	}
	return v, true
}

// String is the version without a "v".
func (v Version) String() string {
	var parts []string
	for _, n := range v.Numbers {
		parts = append(parts, strconv.FormatUint(n, 10))
	}
	s := strings.Join(parts, ".")
	if v.Suffix != "" {
		s += "-" + v.Suffix
	}
	return s
}

// Compare orders versions by their numbers, absent ones being 0. Of equal numbers, those with a suffix
// come first (1.0-rc1 before 1.0); of those, numbers within suffixes count as numbers.
func (v Version) Compare(w Version) int {
	for i := range max(len(v.Numbers), len(w.Numbers)) {
		if c := cmp.Compare(v.number(i), w.number(i)); c != 0 {
			return c
		}
	}
	switch {
	case v.Suffix == w.Suffix:
		return 0
	case v.Suffix == "":
		return 1
	case w.Suffix == "":
		return -1
	}
	return compareSuffix(v.Suffix, w.Suffix)
}

func (v Version) number(i int) uint64 {
	if i < len(v.Numbers) {
		return v.Numbers[i]
	}
	return 0
}

// compareSuffix orders "rc2" before "rc10".
func compareSuffix(a, b string) int {
	for a != "" && b != "" {
		if na, nb := digits(a), digits(b); na > 0 && nb > 0 {
			x, y := strings.TrimLeft(a[:na], "0"), strings.TrimLeft(b[:nb], "0")
			if c := cmp.Or(cmp.Compare(len(x), len(y)), strings.Compare(x, y)); c != 0 {
				return c
			}
			a, b = a[na:], b[nb:]
			continue
		}
		if a[0] != b[0] {
			return cmp.Compare(a[0], b[0])
		}
		a, b = a[1:], b[1:]
	}
	return cmp.Compare(len(a), len(b))
}

func digits(s string) int {
	n := 0
	for n < len(s) && s[n] >= '0' && s[n] <= '9' {
		n++
	}
	return n
}

// Range is a set of versions: any of several lists of bounds, all of which have to hold.
type Range [][]bound

type bound struct {
	op string // "=", "!=", "<", "<=", ">", ">="
	v  Version
}

// Holds tells whether v is in the range. A version with a suffix is in it only where the range
// names one with a suffix and the same numbers, as usual: 2.0-rc1 is not meant by ">=1".
func (r Range) Holds(v Version) bool {
	return slices.ContainsFunc(r, func(all []bound) bool {
		named := v.Suffix == ""
		for _, b := range all {
			if !b.holds(v) {
				return false
			}
			named = named || b.v.Suffix != "" && slices.Equal(b.v.Numbers, v.Numbers)
		}
		return named
	})
}

func (b bound) holds(v Version) bool {
	c := v.Compare(b.v)
	switch b.op {
	case "<":
		return c < 0
	case "<=":
		return c <= 0
	case ">":
		return c > 0
	case ">=":
		return c >= 0
	case "!=":
		return c != 0
	}
	return c == 0
}

// operators of ranges, those first that begin with another one.
var operators = [...]string{">=", "<=", "!=", "==", "=", ">", "<", "~>", "~", "^"}

// ParseRange reads ">=1.20 <2", "^1.2 || ~3.4.1", "1.2.x": bounds that all hold, with spaces or commas
// between them, in lists with || between those.
func ParseRange(s string) (Range, error) {
	var r Range
	for list := range strings.SplitSeq(s, "||") {
		var all []bound
		fields := strings.FieldsFunc(list, func(c rune) bool { return c == ' ' || c == ',' || c == '\t' })
		for i := 0; i < len(fields); i++ {
			f := fields[i]
			if slices.Contains(operators[:], f) && i+1 < len(fields) { // ">= 1.2"
				i++
				f += fields[i]
			}
			b, err := parseBound(f)
			if err != nil {
				return nil, fmt.Errorf("version range %q: %w", s, err)
			}
			all = append(all, b...)
		}
		if len(all) == 0 {
			return nil, fmt.Errorf("version range %q: a bound is missing", s)
		}
		r = append(r, all)
	}
	return r, nil
}

func parseBound(f string) ([]bound, error) {
	op := ""
	for _, o := range operators {
		if rest, ok := strings.CutPrefix(f, o); ok {
			op, f = o, rest
			break
		}
	}
	if f == "*" || f == "x" {
		return []bound{{">=", Version{Numbers: []uint64{0}}}}, nil
	}
	wild := false
	for _, w := range []string{".x", ".*", ".X"} {
		for strings.HasSuffix(f, w) {
			f, wild = strings.TrimSuffix(f, w), true
		}
	}
	v, ok := ParseVersion(f)
	if !ok {
		return nil, fmt.Errorf("%q is no version", f)
	}
	n := len(v.Numbers)
	switch {
	case wild && (op == "" || op == "="):
		return below(v, n-1), nil
	case op == "^":
		// Up to the next change of the first number that is not 0.
		i := slices.IndexFunc(v.Numbers, func(n uint64) bool { return n > 0 })
		if i < 0 {
			i = n - 1
		}
		return below(v, i), nil
	case op == "~", op == "~>":
		return below(v, min(1, n-1)), nil
	case op == "", op == "==":
		op = "="
	}
	return []bound{{op, v}}, nil
}

// below is all from v on with the same numbers up to the i-th.
func below(v Version, i int) []bound {
	next := Version{Numbers: slices.Clone(v.Numbers[:i+1])}
	next.Numbers[i]++
	return []bound{{">=", v}, {"<", next}}
}

package cache

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxShown is how many characters of a value a line shows: two of them fit a
// wide terminal.
const maxShown = 60

// Why says in one line what tells now from before, an earlier record of the same
// slot: the first field that differs, in the order in which now has them. It is
// empty where nothing differs, and where before is the zero Record.
func Why(now, before Record) string {
	if len(before.Fields) == 0 || slices.Equal(now.Fields, before.Fields) {
		return ""
	}
	for i, f := range now.Fields {
		if i < len(before.Fields) && before.Fields[i] == f {
			continue
		}
		if line := compare(now, before, i); line != "" {
			return line
		}
	}
	// All of now is a beginning of before.
	return gone(before.Fields[len(now.Fields)])
}

// compare describes how before differs at field i of now.
func compare(now, before Record, i int) string {
	f := now.Fields[i]
	n := countBefore(now.Fields[:i], f.Name) // fields of one name are told apart by their order
	if was, ok := nth(before.Fields, f.Name, n); ok {
		if was.Value != f.Value {
			return show(f.Name) + " changed: " + fromTo(was.Value, f.Value)
		}
		if i < len(before.Fields) {
			if b := before.Fields[i]; b.Name != f.Name {
				if _, still := nth(now.Fields, b.Name, countBefore(before.Fields[:i], b.Name)); !still {
					return gone(b)
				}
				return show(f.Name) + " moved: it came after " + show(b.Name)
			}
		}
		return ""
	}
	return "new " + show(f.Name) + ": " + show(f.Value)
}

func gone(f Field) string { return show(f.Name) + " is gone: it was " + show(f.Value) }

func countBefore(fields []Field, name string) int {
	n := 0
	for _, f := range fields {
		if f.Name == name {
			n++
		}
	}
	return n
}

func nth(fields []Field, name string, n int) (Field, bool) {
	for _, f := range fields {
		if f.Name == name {
			if n == 0 {
				return f, true
			}
			n--
		}
	}
	return Field{}, false
}

// fromTo shows two values. Of long ones it shows where they begin to differ.
func fromTo(was, is string) string {
	if utf8.RuneCountInString(was) <= maxShown && utf8.RuneCountInString(is) <= maxShown {
		return show(was) + " → " + show(is)
	}
	same := 0
	for same < len(was) && same < len(is) && was[same] == is[same] {
		same++
	}
	for same > 0 && same < len(is) && !utf8.RuneStart(is[same]) {
		same--
	}
	if same <= maxShown/2 {
		return show(was) + " → " + show(is)
	}
	// A little of what they share tells where this is.
	from := same - 10
	for from > 0 && from < len(is) && !utf8.RuneStart(is[from]) {
		from--
	}
	return "…" + show(was[from:]) + " → …" + show(is[from:]) + " at byte " + strconv.Itoa(same)
}

// show prints a value on one line: digests short, text in quotes only where it
// would be misread without, long text cut.
func show(v string) string {
	if hex, ok := strings.CutPrefix(v, "sha256:"); ok && len(hex) == 64 {
		return "sha256:" + hex[:12]
	}
	cut := ""
	if utf8.RuneCountInString(v) > maxShown {
		r := []rune(v)
		cut = fmt.Sprintf("… (%d bytes)", len(v))
		v = string(r[:maxShown])
	}
	if v == "" || !utf8.ValidString(v) || strings.ContainsFunc(v, func(r rune) bool { return !unicode.IsPrint(r) || r == '"' }) ||
		v != strings.TrimSpace(v) {
		v = strconv.Quote(v)
	}
	return v + cut
}

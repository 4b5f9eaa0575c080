package explain

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxShown is how many characters of a value a line shows: two of them fit a
// wide terminal.
const maxShown = 60

// item is something that a step says of itself, under a name that people know.
type item struct {
	name, value string
	hidden      bool // its value is nobody's business
}

// why says in one line what tells now from before: the first item that differs, in the order in
// which now has them. It is empty where nothing differs.
func why(now, before []item) string {
	for i, f := range now {
		if i < len(before) && before[i] == f {
			continue
		}
		if line := compare(now, before, i); line != "" {
			return line
		}
	}
	if len(before) > len(now) { // all of now is a beginning of before
		return gone(before[len(now)])
	}
	return ""
}

// compare describes how before differs at item i of now.
func compare(now, before []item, i int) string {
	f := now[i]
	n := countBefore(now[:i], f.name) // items of one name are told apart by their order
	if was, ok := nth(before, f.name, n); ok {
		if was.value != f.value {
			return show(f.name) + " changed" + f.fromTo(was)
		}
		if i < len(before) {
			if b := before[i]; b.name != f.name {
				if _, still := nth(now, b.name, countBefore(before[:i], b.name)); !still {
					return gone(b)
				}
				return show(f.name) + " moved: it came after " + show(b.name)
			}
		}
		return ""
	}
	if f.hidden {
		return show(f.name) + " is new"
	}
	return show(f.name) + " is new: " + show(f.value)
}

func gone(f item) string {
	if f.hidden {
		return show(f.name) + " is gone"
	}
	return show(f.name) + " is gone: it was " + show(f.value)
}

func (f item) fromTo(was item) string {
	if f.hidden || was.hidden {
		return ""
	}
	return ": " + fromTo(was.value, f.value)
}

func countBefore(items []item, name string) int {
	n := 0
	for _, f := range items {
		if f.name == name {
			n++
		}
	}
	return n
}

func nth(items []item, name string, n int) (item, bool) {
	for _, f := range items {
		if f.name == name {
			if n == 0 {
				return f, true
			}
			n--
		}
	}
	return item{}, false
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

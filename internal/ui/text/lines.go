package text

import (
	"bytes"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/docker/go-units"
)

// maxLine is where a line without end is cut, so that a step that prints none
// costs no more memory than this.
const maxLine = 16 << 10

// lineSplitter cuts a stream into lines.
type lineSplitter struct{ part []byte }

// add returns the lines that data completes. What a carriage return overwrites (progress bars)
// is dropped, as a terminal would.
func (l *lineSplitter) add(data []byte) []string {
	var lines []string
	for len(data) > 0 {
		end := bytes.IndexByte(data, '\n')
		if end < 0 {
			end = len(data)
		}
		chunk := data[:end]
		if cut := overwritten(chunk); cut > 0 {
			l.part, chunk = l.part[:0], chunk[cut:]
		}
		for len(l.part)+len(chunk) > maxLine {
			if cut := overwritten(l.part); cut > 0 {
				l.part = append(l.part[:0], l.part[cut:]...)
				continue
			}
			room := max(maxLine-len(l.part), 0)
			lines = append(lines, visible(append(l.part, chunk[:room]...)))
			l.part, chunk = l.part[:0], chunk[room:]
		}
		l.part = append(l.part, chunk...)
		if end == len(data) {
			break
		}
		lines = append(lines, visible(l.part))
		l.part = l.part[:0]
		data = data[end+1:]
	}
	return lines
}

// flush returns what has been waiting for its line end.
func (l *lineSplitter) flush() []string {
	if len(l.part) == 0 {
		return nil
	}
	line := visible(l.part)
	l.part = nil
	return []string{line}
}

// visible is what a terminal would show of a line, escape sequences aside: what is after its last
// carriage return that something follows.
func visible(line []byte) string {
	line = bytes.TrimRight(line, "\r")
	return string(line[overwritten(line):])
}

// overwritten is how much of line a carriage return has made invisible.
func overwritten(line []byte) int {
	return bytes.LastIndexByte(bytes.TrimRight(line, "\r"), '\r') + 1
}

// oneLine makes s fit for one line of a terminal: no control characters or escape
// sequences, tabs and line ends as spaces, invalid UTF-8 as U+FFFD.
func oneLine(s string) string {
	clean := true
	for i := 0; i < len(s) && clean; i++ {
		clean = s[i] >= ' ' && s[i] < 0x7f
	}
	if clean {
		return s
	}
	var b strings.Builder
	for len(s) > 0 {
		if s[0] == 0x1b {
			s = s[escapeLen(s):]
			continue
		}
		r, n := utf8.DecodeRuneInString(s)
		s = s[n:]
		switch {
		case r == '\t' || r == '\n':
			b.WriteByte(' ')
		case unicode.IsControl(r) || isBidi(r):
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

// manyLines is oneLine for each line.
func manyLines(s string) string {
	lines := strings.Split(s, "\n")
	for i, l := range lines {
		lines[i] = oneLine(l)
	}
	return strings.Join(lines, "\n")
}

// isBidi tells characters that reorder the text after them, with which a step could make the
// display say what it does not.
func isBidi(r rune) bool {
	return r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069 || r == 0x200e || r == 0x200f
}

// escapeLen is the length of the escape sequence at the beginning of s (ECMA-48: CSI, strings
// such as OSC, two-byte ones); one that does not end goes to the end of s.
func escapeLen(s string) int {
	if len(s) < 2 {
		return len(s)
	}
	switch s[1] {
	case '[':
		for i := 2; i < len(s); i++ {
			if s[i] >= 0x40 && s[i] <= 0x7e {
				return i + 1
			}
		}
		return len(s)
	case ']', 'P', 'X', '^', '_':
		for i := 2; i < len(s); i++ {
			if s[i] == 0x07 {
				return i + 1
			}
			if s[i] == 0x1b && i+1 < len(s) && s[i+1] == '\\' {
				return i + 2
			}
		}
		return len(s)
	}
	i := 1
	for i < len(s) && s[i] >= 0x20 && s[i] <= 0x2f { // ESC ( B and the like
		i++
	}
	return min(i+1, len(s))
}

// runeWidth is how many columns r takes: 0, 1 or 2.
func runeWidth(r rune) int {
	switch {
	case r < 0x300:
		return 1
	case unicode.In(r, unicode.Mn, unicode.Me, unicode.Cf):
		return 0
	case r >= 0x1100 && r <= 0x115f, r >= 0x2e80 && r <= 0x303e, r >= 0x3041 && r <= 0xa4cf,
		r >= 0xac00 && r <= 0xd7a3, r >= 0xf900 && r <= 0xfaff, r >= 0xfe30 && r <= 0xfe6f,
		r >= 0xff00 && r <= 0xff60, r >= 0xffe0 && r <= 0xffe6,
		r >= 0x1f300 && r <= 0x1f64f, r >= 0x1f680 && r <= 0x1f6ff, r >= 0x1f900 && r <= 0x1f9ff,
		r >= 0x20000 && r <= 0x3fffd:
		return 2
	}
	return 1
}

// width is how many columns s takes, s being as oneLine leaves it.
func width(s string) int {
	n := 0
	for _, r := range s {
		n += runeWidth(r)
	}
	return n
}

// clip is as much of s as fits into n columns.
func clip(s string, n int) string {
	for i, r := range s {
		if n -= runeWidth(r); n < 0 {
			return s[:i]
		}
	}
	return s
}

// stamp prints a time in four digits: 0.123, 12.35, 123.5.
func stamp(d time.Duration) string {
	sec := d.Seconds()
	switch {
	case sec < 10:
		return fmt.Sprintf("%.3f", sec)
	case sec < 100:
		return fmt.Sprintf("%.2f", sec)
	}
	return fmt.Sprintf("%.1f", sec)
}

// seconds prints a duration: 0.0s, 12.3s.
func seconds(d time.Duration) string {
	return fmt.Sprintf("%.1fs", max(d, 0).Seconds())
}

// quantity prints n of unit: 12.34MB, 1200 files.
func quantity(n int64, unit string, withUnit bool) string {
	switch {
	case unit == "B":
		return units.HumanSize(float64(n))
	case withUnit && unit != "":
		return fmt.Sprintf("%d %s", n, unit)
	}
	return fmt.Sprint(n)
}

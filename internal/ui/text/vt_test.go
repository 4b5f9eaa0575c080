package text

import (
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"
)

// vt is a small terminal: what the display may use of one, and a failure for anything else.
type vt struct {
	t       testing.TB
	w, h    int
	rows    [][]rune // scrolled-off rows first
	top     int      // index in rows of the first visible one
	x, y    int      // y counts from top
	hidden  bool     // the cursor
	wrapped bool     // something was too long for a row
	sgr     string
	colors  map[string]bool // all SGR parameters seen
}

func newVT(t testing.TB, w, h int) *vt {
	return &vt{t: t, w: w, h: h, rows: make([][]rune, 1), colors: map[string]bool{}}
}

func (v *vt) Size() (int, int) { return v.w, v.h }

func (v *vt) Write(b []byte) (int, error) {
	for s := string(b); len(s) > 0; {
		if s[0] == 0x1b {
			s = s[v.escape(s):]
			continue
		}
		r, n := utf8.DecodeRuneInString(s)
		s = s[n:]
		switch {
		case r == '\r':
			v.x = 0
		case r == '\n':
			v.x = 0 // the terminal driver adds the \r
			v.newline()
		case r < ' ' || r == 0x7f || r == utf8.RuneError && n == 1:
			v.t.Errorf("control byte %#x reaches the terminal", r)
		default:
			v.put(r)
		}
	}
	return len(b), nil
}

func (v *vt) escape(s string) int {
	if len(s) < 3 || s[1] != '[' {
		v.t.Fatalf("escape sequence %.10q", s)
	}
	end := 2
	for s[end] < 0x40 || s[end] > 0x7e {
		end++
	}
	arg := s[2:end]
	switch s[end] {
	case 'A':
		var n int
		fmt.Sscan(arg, &n)
		if v.y -= n; v.y < 0 {
			v.t.Errorf("cursor moved %d rows above the screen", -v.y)
			v.y = 0
		}
	case 'K':
		if arg != "2" {
			v.t.Errorf("erase in line %q", arg)
		}
		v.rows[v.top+v.y] = nil
	case 'J':
		if v.x != 0 {
			v.t.Error("erase in display in the middle of a row")
		}
		v.rows = append(v.rows[:v.top+v.y], nil)
	case 'h', 'l':
		if arg != "?25" {
			v.t.Errorf("mode %q", arg)
		}
		v.hidden = s[end] == 'l'
	case 'm':
		v.sgr = arg
		v.colors[arg] = true
	default:
		v.t.Errorf("escape sequence %q", s[:end+1])
	}
	return end + 1
}

func (v *vt) newline() {
	v.y++
	if v.top+v.y >= len(v.rows) {
		v.rows = append(v.rows, nil)
	}
	if v.y == v.h {
		v.y--
		v.top++
	}
}

func (v *vt) put(r rune) {
	n := runeWidth(r)
	if v.x+n > v.w {
		v.wrapped = true
		v.x = 0
		v.newline()
	}
	row := &v.rows[v.top+v.y]
	for len(*row) < v.x {
		*row = append(*row, ' ')
	}
	if n > 0 {
		*row = append((*row)[:v.x], r)
		if n == 2 {
			*row = append(*row, -1)
		}
	}
	v.x += n
}

// resize makes the window another size, wrapping rows that no longer fit as most
// terminals do.
func (v *vt) resize(w, h int) {
	cursor := v.top + v.y
	var rows [][]rune
	for i, row := range v.rows {
		if i == cursor {
			v.y = len(rows)
		}
		for len(row) > w {
			rows = append(rows, row[:w])
			row = row[w:]
		}
		rows = append(rows, row)
	}
	v.rows, v.w, v.h = rows, w, h
	v.top = max(len(rows)-h, 0)
	v.y -= v.top
	if v.y < 0 {
		v.t.Fatal("the test is wrong: cursor left the screen")
	}
}

// all is everything there is, scrolled off or not, without trailing blanks.
func (v *vt) all() string {
	var b strings.Builder
	for _, row := range v.rows {
		s := strings.ReplaceAll(string(row), string(rune(-1)), "")
		b.WriteString(strings.TrimRight(s, " ") + "\n")
	}
	return strings.TrimRight(b.String(), "\n") + "\n"
}

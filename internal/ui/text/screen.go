package text

import (
	"bytes"
	"fmt"
)

// screen redraws the same rows of a terminal. Between drawings the cursor is at the
// beginning of the row below them, and visible, so that a killed process
// leaves a usable terminal.
type screen struct {
	widths []int // of the rows drawn last, in columns
}

// draw returns what replaces the rows drawn last by lines, on a terminal of w by h.
func (s *screen) draw(lines []line, w, h int) []byte {
	var b bytes.Buffer
	b.WriteString("\x1b[?25l\r")
	if up := s.up(w, h); up > 0 {
		fmt.Fprintf(&b, "\x1b[%dA", up)
	}
	s.widths = s.widths[:0]
	for _, l := range lines {
		b.WriteString("\x1b[2K") // erased first: after a full line it would hit its last column
		if l.color != "" {
			fmt.Fprintf(&b, "\x1b[%sm%s\x1b[0m", l.color, l.text)
		} else {
			b.WriteString(l.text)
		}
		b.WriteString("\r\n")
		s.widths = append(s.widths, width(l.text))
	}
	b.WriteString("\x1b[J\x1b[?25h")
	return b.Bytes()
}

// up is how many rows above the cursor the first row is now. Where the window has become narrower,
// terminals wrap the rows that no longer fit.
func (s *screen) up(w, h int) int {
	n := 0
	for _, cols := range s.widths {
		n += max((cols+w-1)/w, 1)
	}
	return min(n, h-1) // the cursor cannot go above the top
}

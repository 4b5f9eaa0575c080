package text

import (
	"fmt"
	"strings"
	"time"
)

const (
	// paneLines is how much of a running step's output is shown.
	paneLines = 6
	// minWidth is the narrowest line that is drawn at all.
	minWidth = 10
)

// layout decides what the terminal shows at one moment.
type layout struct {
	model         *model
	verb          string
	color         bool
	now           time.Time
	width, height int
	final         bool // everything, however high, and no panes
}

// line is one row of the terminal. Its text has no control characters.
type line struct {
	text  string
	color string // SGR parameters, empty for none
}

const (
	blue  = "34"
	red   = "31"
	amber = "33"
	faint = "2"
)

// part is what is shown of one step.
type part struct {
	s     *step
	show  bool
	items int // how many of its items
	pane  int // how many lines of its output
}

// lines are the rows from top to bottom.
func (l *layout) lines() []line {
	parts, hidden := l.choose()
	out := []line{l.header()}
	for _, p := range parts {
		if !p.show {
			continue
		}
		out = append(out, l.step(p.s))
		for _, it := range p.s.openItems()[:p.items] {
			out = append(out, l.row(" => => "+it.name, strings.TrimSpace(it.amount()+" "+it.rate()), seconds(l.now.Sub(it.first)), ""))
		}
		for _, text := range p.s.pane(p.pane) {
			out = append(out, line{clip(" => => # "+text, l.columns()), faint})
		}
	}
	if hidden > 0 {
		out = append(out, line{clip(fmt.Sprintf(" => ... and %d more", hidden), l.columns()), ""})
	}
	if !l.color {
		for i := range out {
			out[i].color = ""
		}
	}
	return out
}

// columns are those that may be used. The last one stays free: what terminals do when a line
// ends just there differs.
func (l *layout) columns() int { return max(l.width-1, minWidth) }

func (l *layout) header() line {
	m := l.model
	state := ""
	if l.final {
		state = " FINISHED"
		if m.failed {
			state = " FAILED"
		}
	}
	began := m.began
	if len(m.order) > 0 {
		began = m.order[0].started
	}
	text := fmt.Sprintf("[+] %s %s (%d/%d)%s", l.verb, seconds(l.now.Sub(began)), m.done, len(m.steps), state)
	return line{clip(text, l.columns()), ""}
}

func (l *layout) step(s *step) line {
	name, color := s.name, ""
	switch {
	case !s.isDone:
	case s.canceled:
		name, color = "CANCELED "+name, amber
	case s.err != nil:
		name, color = "ERROR "+name, red
	case s.cached:
		name, color = "CACHED "+name, blue
	default:
		color = blue
	}
	var about []string
	if s.note != "" {
		about = append(about, s.note)
	}
	if it := s.find(""); it != nil && !s.isDone {
		about = append(about, it.amount())
	} else if s.size > 0 {
		about = append(about, quantity(s.size, "B", true))
	}
	return l.row(" => "+name, strings.Join(about, " "), seconds(s.took(l.now)), color)
}

// row is "left      middle right", the middle left out if there is no room for it.
func (l *layout) row(left, middle, right, color string) line {
	room := l.columns()
	right = " " + right
	if middle = " " + middle; middle == " " || width(left)+width(middle)+width(right) > room && room-width(middle)-width(right) < 24 {
		middle = ""
	}
	right = middle + right
	left = clip(left, max(room-width(right), 0))
	pad := max(room-width(left)-width(right), 0)
	return line{clip(left+strings.Repeat(" ", pad)+right, room), color}
}

// choose shares out the rows: first to running and failed steps, then to what they report, then to
// their output, and what is left to the latest of the steps that are done. hidden is the number of running
// steps without a row.
func (l *layout) choose() (parts []part, hidden int) {
	parts = make([]part, len(l.model.order))
	for i, s := range l.model.order {
		parts[i] = part{s: s, show: l.final}
	}
	if l.final {
		return parts, 0
	}
	free := max(l.height-2, 1) // the header, and the row the cursor rests on
	important := 0
	for _, p := range parts {
		if p.s.important() {
			important++
		}
	}
	if important > free {
		free-- // the row that says so
	}
	for i := range parts {
		if !parts[i].s.important() {
			continue
		}
		if free <= 0 {
			hidden++
			continue
		}
		parts[i].show = true
		free--
	}
	free = shareItems(parts, free)
	free = sharePanes(parts, free)
	for i := len(parts) - 1; i >= 0 && free > 0; i-- {
		if !parts[i].show && !parts[i].s.important() {
			parts[i].show = true
			free--
		}
	}
	return parts, hidden
}

func (s *step) important() bool { return !s.isDone || s.err != nil && !s.canceled }

func shareItems(parts []part, free int) int {
	for i := range parts {
		if p := &parts[i]; p.show {
			p.items = min(len(p.s.openItems()), free)
			free -= p.items
		}
	}
	return free
}

// sharePanes gives every running step with output a row in turn until there are no more.
func sharePanes(parts []part, free int) int {
	for given := true; given && free > 0; {
		given = false
		for i := range parts {
			p := &parts[i]
			if !p.show || p.s.isDone || free == 0 || p.pane >= min(paneLines, p.s.printed()) {
				continue
			}
			p.pane++
			free--
			given = true
		}
	}
	return free
}

// openItems are those with a name that are under way.
func (s *step) openItems() []*item {
	if s.isDone {
		return nil
	}
	var open []*item
	for _, it := range s.items {
		if it.name != "" && !it.done() {
			open = append(open, it)
		}
	}
	return open
}

// printed is how many lines of output there are to show, at most paneLines.
func (s *step) printed() int {
	n := len(s.tail)
	for i := range s.streams {
		if len(s.streams[i].part) > 0 {
			n++
		}
	}
	return min(n, paneLines)
}

// pane is the last n lines of output, those that are not ended yet last of all.
func (s *step) pane(n int) []string {
	if n == 0 {
		return nil
	}
	var out []string
	for _, l := range s.tail[max(len(s.tail)-n, 0):] {
		out = append(out, oneLine(clipBytes(l.text)))
	}
	for i := range s.streams {
		if part := s.streams[i].part; len(part) > 0 {
			out = append(out, oneLine(clipBytes(visible(part))))
		}
	}
	return out[max(len(out)-n, 0):]
}

// clipBytes spares the cleaning of what no terminal is wide enough for.
func clipBytes(s string) string { return s[:min(len(s), 4096)] }

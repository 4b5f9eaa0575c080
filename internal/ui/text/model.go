package text

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"nacre/internal/event"

	"github.com/docker/go-units"
)

// tailLines is how much of a step's output is kept, to be repeated if it fails.
const tailLines = 30

// model is what the events so far amount to.
type model struct {
	began    time.Time
	steps    map[int]*step
	order    []*step // those that started, in that order
	done     int
	running  int
	failed   bool
	transfer bool // the steps are blobs, which print nothing: that they failed is all there is to say
	warnings []event.Warning
}

// step is what is known of one.
type step struct {
	event.Step
	name          string // Step.Name, fit for one line of a terminal
	started, ends time.Time
	isStarted     bool
	isDone        bool
	cached        bool
	canceled      bool
	err           error
	size          int64
	note, why     string
	cache         event.Cache
	items         []*item
	streams       [3]lineSplitter // by stream number
	tail          []logLine       // the last ones
}

// item is a part of a step that reports progress of its own.
type item struct {
	key            string
	name           string // key, fit for one line
	current, total int64
	unit           string
	first, last    time.Time
	begun          int64 // current, when it was first heard of: what was there before
}

// logLine is a line that a step printed.
type logLine struct {
	at   time.Duration // since the step started
	text string        // as it came, without its line end
}

func newModel(now time.Time) *model {
	return &model{began: now, steps: map[int]*step{}}
}

// apply takes in e and returns the step it is about, or nil, and the lines it completed.
func (m *model) apply(e event.Event, now time.Time) (*step, []logLine) {
	switch e := e.(type) {
	case event.Plan:
		for _, s := range e.Steps {
			m.step(s.ID).describe(s)
		}
	case event.Started:
		s := m.step(e.Step.ID)
		s.describe(e.Step)
		m.start(s, or(e.Time, now))
		return s, nil
	case event.Done:
		s := m.step(e.ID)
		return s, m.finish(s, e, or(e.Time, now))
	case event.Log:
		s := m.step(e.ID)
		m.start(s, or(e.Time, now))
		return s, s.log(e, or(e.Time, now))
	case event.Progress:
		s := m.step(e.ID)
		m.start(s, or(e.Time, now))
		s.progress(e, or(e.Time, now))
		return s, nil
	case event.Warning:
		m.warnings = append(m.warnings, e)
	}
	return nil, nil
}

func or(t, now time.Time) time.Time {
	if t.IsZero() {
		return now
	}
	return t
}

// step finds the step of that ID, or makes it.
func (m *model) step(id int) *step {
	s := m.steps[id]
	if s == nil {
		s = &step{}
		s.describe(event.Step{ID: id, Name: fmt.Sprintf("step %d", id)})
		m.steps[id] = s
	}
	return s
}

func (s *step) describe(e event.Step) {
	s.Step = e
	s.name = oneLine(e.Name)
}

func (m *model) start(s *step, t time.Time) {
	if s.isStarted {
		return
	}
	s.isStarted, s.started = true, t
	m.order = append(m.order, s)
	m.running++
}

func (m *model) finish(s *step, e event.Done, t time.Time) []logLine {
	m.start(s, t)
	if s.isDone {
		return nil
	}
	m.running--
	m.done++
	s.isDone, s.ends, s.cached = true, t, e.Cached
	s.size, s.note, s.why, s.cache = e.Size, oneLine(e.Note), oneLine(e.Why), e.Cache
	s.err = e.Err
	s.canceled = errors.Is(e.Err, context.Canceled)
	var lines []logLine
	for i := range s.streams {
		for _, text := range s.streams[i].flush() {
			lines = append(lines, logLine{t.Sub(s.started), text})
		}
	}
	s.keep(lines)
	return lines
}

func (s *step) log(e event.Log, t time.Time) []logLine {
	stream := e.Stream
	if stream < 0 || stream >= len(s.streams) {
		stream = 0
	}
	var lines []logLine
	for _, text := range s.streams[stream].add(e.Data) {
		lines = append(lines, logLine{t.Sub(s.started), text})
	}
	s.keep(lines)
	return lines
}

// keep remembers the last lines.
func (s *step) keep(lines []logLine) {
	if len(lines) > tailLines {
		lines = lines[len(lines)-tailLines:]
	}
	if drop := len(s.tail) + len(lines) - tailLines; drop > 0 {
		s.tail = append(s.tail[:0], s.tail[drop:]...)
	}
	s.tail = append(s.tail, lines...)
}

func (s *step) progress(e event.Progress, t time.Time) {
	it := s.find(e.Item)
	if it == nil {
		it = &item{key: e.Item, name: oneLine(e.Item), first: t, begun: e.Current}
		s.items = append(s.items, it)
	}
	it.current, it.total, it.unit, it.last = e.Current, e.Total, e.Unit, t
}

// find returns the item of that name, or nil. Steps have few.
func (s *step) find(key string) *item {
	for _, it := range s.items {
		if it.key == key {
			return it
		}
	}
	return nil
}

func (it *item) done() bool { return it.total > 0 && it.current >= it.total }

// amount is "12.3MB / 28.2MB", or what is known of it.
func (it *item) amount() string {
	switch {
	case it.total > 0:
		return quantity(it.current, it.unit, false) + " / " + quantity(it.total, it.unit, true)
	case it.current > 0:
		return quantity(it.current, it.unit, true)
	}
	return ""
}

// rate is "5.1MB/s" of bytes that took a while, else nothing.
func (it *item) rate() string {
	d := it.last.Sub(it.first)
	if it.unit != "B" || d < time.Second || it.current <= it.begun {
		return ""
	}
	return units.HumanSizeWithPrecision(float64(it.current-it.begun)/d.Seconds(), 3) + "/s"
}

// took is how long the step has been running, or ran.
func (s *step) took(now time.Time) time.Duration {
	if s.isDone {
		now = s.ends
	}
	return max(now.Sub(s.started), 0)
}

// writeFailures repeats the end of what failed steps printed, on the terminal display without the
// escape sequences that could spoil it.
func (m *model) writeFailures(b *bytes.Buffer, clean bool) {
	for _, s := range m.order {
		if s.err == nil || s.canceled || len(s.tail) == 0 && m.transfer {
			continue
		}
		fmt.Fprintf(b, "------\n > %s:\n", s.name)
		for _, l := range s.tail {
			if clean {
				l.text = oneLine(l.text)
			}
			fmt.Fprintf(b, "%s %s\n", stamp(l.at), l.text)
		}
		b.WriteString("------\n")
	}
}

func (m *model) writeWarnings(b *bytes.Buffer) {
	switch n := len(m.warnings); n {
	case 0:
		return
	case 1:
		b.WriteString("\n 1 warning found:\n")
	default:
		fmt.Fprintf(b, "\n %d warnings found:\n", n)
	}
	for _, w := range m.warnings {
		text := oneLine(w.Text)
		if w.Pos != "" {
			text = w.Pos + ": " + text
		}
		fmt.Fprintf(b, " - %s\n", text)
		for line := range strings.SplitSeq(w.Hint, "\n") {
			if line != "" {
				fmt.Fprintf(b, "   %s\n", oneLine(line))
			}
		}
	}
}

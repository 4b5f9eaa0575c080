package text

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"time"

	"nacre/internal/event"
)

const (
	// quiet is how long the step that has the word may say nothing before another gets it.
	quiet = time.Second
	// turn is how long it keeps the word while others wait, so that the lines of one
	// step stay together.
	turn = 5 * time.Second
	// maxHeld is how much the others may have to say before they are let at once.
	maxHeld = 256 << 10
	// progressStep is how often the progress of one item is worth a line.
	progressStep = 5 * time.Second
)

// plain prints events as lines, "#3 ..." each with the number of its step. Steps run
// at once, their lines come one step at a time: one has the word, the others'
// lines are held. What has ended is printed at once.
type plain struct {
	explain bool
	buf     bytes.Buffer // output of the current call
	now     time.Time    // of the current call
	voices  map[*step]*voice
	waiting []*voice // have something to say, in the order of when that began
	current *voice   // has the word; nil: nobody
	since   time.Time
	spoke   time.Time // when current last said something
	held    int       // bytes of lines of waiting voices
	numbers int
	begun   bool
}

// voice is what plain knows of a step.
type voice struct {
	*step
	number int // as printed, counted in the order of appearance; 0: not printed yet
	lines  []string
	shown  map[*item]time.Time // when its progress was last printed
	over   bool                // its end is among lines
}

func newPlain(explain bool) *plain {
	return &plain{explain: explain, voices: map[*step]*voice{}}
}

// event prints what follows from e, which m has taken in: s is its step, lines what it completed.
func (p *plain) event(e event.Event, s *step, lines []logLine, now time.Time) []byte {
	p.buf.Reset()
	if s == nil {
		return nil
	}
	v := p.voices[s]
	if v == nil {
		v = &voice{step: s, shown: map[*item]time.Time{}}
		p.voices[s] = v
	}
	if v.over {
		return nil
	}
	for _, l := range lines {
		p.say(v, stamp(l.at)+" "+l.text)
	}
	switch e := e.(type) {
	case event.Progress:
		p.progress(v, s.find(e.Item))
	case event.Done:
		p.end(v)
	}
	if v != p.current && !slices.Contains(p.waiting, v) && (len(v.lines) > 0 || v.number == 0) {
		p.waiting = append(p.waiting, v)
	}
	p.now = now
	p.flush()
	return p.buf.Bytes()
}

// tick passes the word where it is time to.
func (p *plain) tick(now time.Time) []byte {
	p.buf.Reset()
	p.now = now
	p.flush()
	return p.buf.Bytes()
}

// finish prints all that is held.
func (p *plain) finish() []byte {
	p.buf.Reset()
	for _, v := range p.waiting {
		p.print(v)
	}
	p.waiting = nil
	return p.buf.Bytes()
}

func (p *plain) say(v *voice, line string) {
	v.lines = append(v.lines, line)
	if v != p.current {
		p.held += len(line)
	}
}

// progress says how far an item is, now and then.
func (p *plain) progress(v *voice, it *item) {
	last, shown := v.shown[it]
	if !shown {
		last = it.first
	}
	switch {
	case it.done() && it.name != "":
		if shown && last.IsZero() {
			return // said already
		}
		p.say(v, it.line()+" done")
		v.shown[it] = time.Time{}
	case it.last.Sub(last) >= progressStep:
		p.say(v, it.line())
		v.shown[it] = it.last
	}
}

// line is "sha256:abc 12.3MB / 28.2MB 2.4s 5.1MB/s".
func (it *item) line() string {
	parts := []string{it.name, it.amount()}
	if d := it.last.Sub(it.first); d >= 50*time.Millisecond {
		parts = append(parts, seconds(d), it.rate())
	}
	return strings.TrimSpace(strings.Join(slices.DeleteFunc(parts, func(s string) bool { return s == "" }), " "))
}

// end says how a step ended.
func (p *plain) end(v *voice) {
	s := v.step
	if text := s.lookup(); p.explain && text != "" {
		p.say(v, text)
	} else if s.note != "" {
		p.say(v, s.note)
	}
	switch {
	case s.canceled:
		p.say(v, "CANCELED")
	case s.err != nil:
		p.say(v, "ERROR: "+manyLines(strings.TrimSpace(s.err.Error())))
	case s.cached:
		p.say(v, "CACHED")
	default:
		end := "DONE " + seconds(s.took(s.ends))
		if s.size > 0 {
			end += " " + quantity(s.size, "B", true)
		}
		p.say(v, end)
	}
	v.over = true
}

// flush prints whatever may be printed now.
func (p *plain) flush() {
	if p.current != nil && (len(p.current.lines) > 0 || p.current.number == 0) {
		p.print(p.current)
	}
	for _, v := range p.waiting {
		if v.over {
			p.print(v)
		}
	}
	p.waiting = slices.DeleteFunc(p.waiting, func(v *voice) bool { return v.over })
	if len(p.waiting) == 0 {
		return
	}
	if p.current == nil || p.now.Sub(p.spoke) >= quiet || p.now.Sub(p.since) >= turn || p.held > maxHeld {
		v := p.waiting[0]
		p.waiting = slices.Delete(p.waiting, 0, 1)
		p.print(v)
	}
}

// print gives v the word and prints all it has to say.
func (p *plain) print(v *voice) {
	if p.current != v {
		if p.current != nil {
			fmt.Fprintf(&p.buf, "#%d ...\n", p.current.number)
		}
		if p.begun {
			p.buf.WriteByte('\n')
		}
		p.begun = true
		if v.number == 0 {
			p.numbers++
			v.number = p.numbers
		}
		fmt.Fprintf(&p.buf, "#%d %s\n", v.number, v.name)
		for _, l := range v.lines {
			p.held -= len(l)
		}
		p.current, p.since = v, p.now
	}
	p.spoke = p.now
	for _, l := range v.lines {
		for part := range strings.SplitSeq(l, "\n") {
			fmt.Fprintf(&p.buf, "#%d %s\n", v.number, part)
		}
	}
	v.lines = nil
	if v.over {
		p.current = nil
	}
}

// Package text shows the events of a build or transfer to people: as a display that is
// redrawn in place on a terminal, as lines that are only ever added everywhere else.
//
// Both look like BuildKit's, which is what people's eyes and scripts are used to.
package text

import (
	"bytes"
	"io"
	"sync"
	"time"

	"nacre/internal/event"
)

// Options of a Printer. The zero value prints plain lines.
type Options struct {
	// TTY: redraw in place. The writer must be a terminal then.
	TTY bool
	// Size returns the terminal's columns and rows; it is asked before each
	// drawing, so that a resized window is noticed. Nil or zeros: 80 by 24.
	Size func() (width, height int)
	// Color: use colours on the terminal.
	Color bool
	// Verb heads the terminal display. Default: "Building".
	Verb string
	// Explain: print of each step whether it was cached, and why not, and a table of that at the end.
	Explain bool
	// Now is the clock. Default: time.Now.
	Now func() time.Time
}

const (
	// frame is how often the terminal is redrawn: often enough to look alive, rarely
	// enough to cost nothing.
	frame = 100 * time.Millisecond
	// tick is how often plain output considers passing the word to another step.
	tick = 250 * time.Millisecond
)

// Printer renders the events it is given to one writer.
type Printer struct {
	w    io.Writer
	opts Options

	mu     sync.Mutex // guards what follows but err; held while plain lines are written
	model  *model
	plain  *plain  // nil on a terminal
	screen *screen // nil elsewhere
	dirty  bool    // the terminal does not show the latest
	closed bool
	err    error // of the first write that failed; belongs to who draws

	stop chan struct{}
	wg   sync.WaitGroup
}

// New starts a printer. It must be closed.
func New(w io.Writer, o Options) *Printer {
	p := newPrinter(w, o)
	p.stop = make(chan struct{})
	every := tick
	if o.TTY {
		every = frame
	}
	p.wg.Go(func() {
		t := time.NewTicker(every)
		defer t.Stop()
		for {
			select {
			case <-t.C:
				p.tick()
			case <-p.stop:
				return
			}
		}
	})
	return p
}

// newPrinter is New without the clockwork.
func newPrinter(w io.Writer, o Options) *Printer {
	transfer := o.Verb != ""
	if o.Verb == "" {
		o.Verb = "Building"
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	p := &Printer{w: w, opts: o, model: newModel(o.Now())}
	p.model.transfer = transfer
	if o.TTY {
		p.screen = &screen{}
	} else {
		p.plain = newPlain(o.Explain)
	}
	return p
}

// Sink returns where events go. Plain output is written before it returns, so that a
// slow reader slows down who writes, and nothing piles up.
func (p *Printer) Sink() event.Sink { return p.handle }

func (p *Printer) handle(e event.Event) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	now := p.opts.Now()
	s, lines := p.model.apply(e, now)
	p.dirty = true
	if p.plain != nil {
		p.write(p.plain.event(e, s, lines, now))
	}
}

// tick shows what time alone has changed.
func (p *Printer) tick() {
	p.mu.Lock()
	now := p.opts.Now()
	if p.plain != nil {
		p.write(p.plain.tick(now))
		p.mu.Unlock()
		return
	}
	var b []byte
	if p.dirty || p.model.running > 0 {
		p.dirty = false
		b = p.draw(now, false)
	}
	p.mu.Unlock()
	p.write(b) // a slow terminal holds up nobody but this goroutine
}

// draw is what redraws the terminal; final means for the last time.
func (p *Printer) draw(now time.Time, final bool) []byte {
	if len(p.model.order) == 0 {
		return nil
	}
	w, h := p.size()
	l := layout{model: p.model, verb: p.opts.Verb, color: p.opts.Color, now: now, width: w, height: h, final: final}
	return p.screen.draw(l.lines(), w, h)
}

func (p *Printer) size() (w, h int) {
	if p.opts.Size != nil {
		w, h = p.opts.Size()
	}
	if w <= 0 {
		w = 80
	}
	if h <= 0 {
		h = 24
	}
	return w, h
}

func (p *Printer) write(b []byte) {
	if len(b) == 0 || p.err != nil {
		return
	}
	_, p.err = p.w.Write(b)
}

// Close prints what is left: the final state, the last output of steps that failed,
// warnings. failed is what the whole ended with; a cancelled one has no failures to
// repeat. Events that come later are dropped. The error is that of
// the first write that failed.
func (p *Printer) Close(failed error) error {
	if p.stop != nil {
		close(p.stop)
		p.wg.Wait()
		p.stop = nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return p.err
	}
	p.closed = true
	now := p.opts.Now()
	p.model.failed = failed != nil
	if p.plain != nil {
		p.write(p.plain.finish())
	} else {
		p.write(p.draw(now, true))
	}
	var b bytes.Buffer
	if p.opts.Explain {
		p.model.writeExplanation(&b)
	}
	p.model.writeFailures(&b, p.opts.TTY)
	p.model.writeWarnings(&b)
	p.write(b.Bytes())
	return p.err
}

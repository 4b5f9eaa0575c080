package text

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"nacre/internal/event"
)

var update = flag.Bool("update", false, "rewrite the golden files")

var start = time.Date(2026, 11, 21, 10, 0, 0, 0, time.UTC)

// script is a recorded build: what happened how many milliseconds after its start.
type script []moment

type moment struct {
	ms int
	e  event.Event // nil: only time passes
}

// player feeds scripts to a printer whose clock it is.
type player struct {
	*Printer
	now time.Time
}

func newPlayer(w interface{ Write([]byte) (int, error) }, o Options) *player {
	p := &player{now: start}
	o.Now = func() time.Time { return p.now }
	p.Printer = newPrinter(w, o)
	return p
}

// play sends the events at their times, with ticks before each.
func (p *player) play(s script) {
	for _, m := range s {
		at := start.Add(time.Duration(m.ms) * time.Millisecond)
		for next := p.now.Add(tick); next.Before(at); next = next.Add(tick) {
			p.now = next
			p.tick()
		}
		p.now = at
		if m.e != nil {
			p.Sink()(timed(m.e, at))
		}
	}
}

func timed(e event.Event, at time.Time) event.Event {
	switch e := e.(type) {
	case event.Started:
		e.Time = at
		return e
	case event.Done:
		e.Time = at
		return e
	case event.Log:
		e.Time = at
		return e
	case event.Progress:
		e.Time = at
		return e
	}
	return e
}

func begin(id int, name string) event.Event {
	return event.Started{Step: event.Step{ID: id, Name: name}}
}
func done(id int) event.Event           { return event.Done{ID: id} }
func out(id int, text string) event.Log { return event.Log{ID: id, Stream: 1, Data: []byte(text)} }
func progress(id int, item string, current, total int64) event.Event {
	return event.Progress{ID: id, Item: item, Current: current, Total: total, Unit: "B"}
}

var errExit = errors.New(`process "/bin/sh -c make" did not complete successfully: exit code: 2`)

var scripts = map[string]script{
	"simple": {
		{0, event.Plan{Steps: []event.Step{{ID: 1, Name: "[internal] load build context"}, {ID: 2, Name: "[1/3] FROM docker.io/library/debian:12"}, {ID: 3, Name: "[2/3] RUN make"}, {ID: 4, Name: "[3/3] COPY . /src"}}}},
		{0, begin(1, "[internal] load build context")},
		{40, progress(1, "", 12_340_000, 0)},
		{60, done(1)},
		{60, begin(2, "[1/3] FROM docker.io/library/debian:12")},
		{60, event.Done{ID: 2, Cached: true}},
		{70, begin(3, "[2/3] RUN make")},
		{193, out(3, "cc -o x x.c\nhalf a ")},
		{1300, out(3, "line\n")},
		{2300, event.Log{ID: 3, Stream: 2, Data: []byte("warning: x\n")}},
		{12_420, out(3, "10%\r50%\r100%\r\nno newline at the end")},
		{102_900, event.Done{ID: 3, Size: 12_345_678, Cache: event.CacheMiss, Why: "argument VERSION was 1"}},
		{102_900, begin(4, "[3/3] COPY . /src")},
		{102_930, event.Done{ID: 4, Note: "sha256:0123456789ab"}},
	},
	"parallel": {
		{0, begin(1, "[a 1/1] RUN a")},
		{5, begin(2, "[b 1/1] RUN b")},
		{100, out(1, "a1\n")},
		{110, out(2, "b1\n")},
		{200, out(1, "a2\n")},
		{210, out(2, "b2\nb3\n")},
		{900, out(1, "a3\n")},
		{2500, out(2, "b4\n")}, // a has been quiet: b gets the word
		{2600, out(1, "a4\n")},
		{2700, out(2, "b5\n")},
		{3000, done(1)}, // ended: said at once
		{3100, out(2, "b6\n")},
		{3200, done(2)},
	},
	"turns": {
		{0, begin(1, "chatty")},
		{10, begin(2, "also chatty")},
		{1000, out(1, "1\n")}, {1001, out(2, "1\n")},
		{1900, out(1, "2\n")}, {1901, out(2, "2\n")},
		{2800, out(1, "3\n")}, {2801, out(2, "3\n")},
		{3700, out(1, "4\n")}, {3701, out(2, "4\n")},
		{4600, out(1, "5\n")}, {4601, out(2, "5\n")},
		{5500, out(1, "6\n")}, {5501, out(2, "6\n")},
		{6400, out(1, "7\n")}, {6401, out(2, "7\n")},
		{6500, nil},
	},
	"failure": {
		{0, begin(1, "[a 1/1] RUN sleep 100")},
		{0, begin(2, "[b 2/2] RUN make")},
		{10, out(2, strings.Repeat("line of output\n", 40))},
		{20, out(2, "\x1b[31mred\x1b[0m error\n")},
		{1234, event.Done{ID: 2, Err: errExit}},
		{1240, event.Done{ID: 1, Err: context.Canceled}},
		{1240, event.Warning{Pos: "Dockerfile:3", Text: "MAINTAINER is deprecated", Hint: "use a label:\nLABEL maintainer=..."}},
		{1240, event.Warning{Text: "one or more build-args were not consumed"}},
	},
	"pull": {
		{0, begin(1, "pull docker.io/library/debian:12")},
		{10, progress(1, "sha256:aaa", 0, 28_200_000)},
		{20, progress(1, "sha256:bbb", 0, 1_000)},
		{30, progress(1, "sha256:bbb", 1_000, 1_000)},
		{3000, progress(1, "sha256:aaa", 3_150_000, 28_200_000)},
		{6000, progress(1, "sha256:aaa", 9_150_000, 28_200_000)},
		{8000, progress(1, "sha256:aaa", 18_150_000, 28_200_000)},
		{12000, progress(1, "sha256:aaa", 28_200_000, 28_200_000)},
		{12010, progress(1, "sha256:aaa", 28_200_000, 28_200_000)},
		{12100, event.Progress{ID: 1, Item: "check", Current: 3, Total: 9, Unit: "files"}},
		{12500, done(1)},
	},
	"odd": {
		{0, out(7, "log of a step that never started\n")},
		{10, event.Done{ID: 8}},
		{20, event.Done{ID: 7}},
		{20, event.Done{ID: 7}},
		{30, out(7, "after its end\n")},
		{40, begin(9, "RUN <<EOF\n\tmake\nEOF\x1b[2J\u202e\xff")},
		{50, event.Log{ID: 9, Stream: 77, Data: []byte("stream 77\n\n\nempty lines above\n")}},
		{60, event.Log{ID: 9}},
		{70, event.Done{ID: 9, Err: errors.New("two\nlines")}},
	},
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s:\n--- got\n%s--- want\n%s", name, got, want)
	}
}

func TestPlain(t *testing.T) {
	for name, s := range scripts {
		t.Run(name, func(t *testing.T) {
			var b bytes.Buffer
			p := newPlayer(&b, Options{Explain: true})
			p.play(s)
			if err := p.Close(nil); err != nil {
				t.Error(err)
			}
			golden(t, name+".plain", b.String())
		})
	}
}

// The terminal after some moments of each script, and after its end.
func TestTTY(t *testing.T) {
	for name, s := range scripts {
		t.Run(name, func(t *testing.T) {
			v := newVT(t, 72, 12)
			p := newPlayer(v, Options{TTY: true, Size: v.Size, Color: true})
			var b strings.Builder
			for i := range s {
				p.play(s[i : i+1])
				p.tick()
				fmt.Fprintf(&b, "=== %d ms\n%s", s[i].ms, v.all())
				if v.hidden || v.wrapped || v.x != 0 {
					t.Errorf("after %d ms the cursor is hidden or in column %d, or a row is too long", s[i].ms, v.x)
				}
			}
			var failed error
			if name == "failure" {
				failed = errExit
			}
			if err := p.Close(failed); err != nil {
				t.Error(err)
			}
			fmt.Fprintf(&b, "=== closed\n%s", v.all())
			golden(t, name+".tty", b.String())
		})
	}
}

// busy is a model with many steps in all states, some with much to say.
func busy(p *player, r *rand.Rand, steps int) {
	var s script
	for i := range steps {
		s = append(s, moment{i, begin(i, strings.Repeat(fmt.Sprintf("step %d ünï 漢字 ", i), 1+r.IntN(5)))})
		for range r.IntN(4) {
			s = append(s, moment{i, out(i, strings.Repeat("output\twith\x1b[1mescapes ", r.IntN(200))+"\n"+strings.Repeat("x", r.IntN(40)))})
			s = append(s, moment{i, progress(i, fmt.Sprint("item", r.IntN(3)), r.Int64N(1e9), 1e9)})
		}
		switch r.IntN(4) {
		case 0:
			s = append(s, moment{i, event.Done{ID: i, Size: r.Int64N(1e12), Note: "a note"}})
		case 1:
			s = append(s, moment{i, event.Done{ID: i, Err: errExit}})
		}
	}
	p.play(s)
}

// Whatever the window's size, nothing wraps, nothing scrolls away, and no running step is forgotten.
func TestSizes(t *testing.T) {
	for _, w := range []int{1, 2, 9, 10, 11, 20, 40, 80, 500} {
		for _, h := range []int{1, 2, 3, 4, 8, 24, 200} {
			for _, steps := range []int{1, 3, 30, 300} {
				p := newPlayer(&bytes.Buffer{}, Options{TTY: true})
				busy(p, rand.New(rand.NewPCG(1, uint64(steps))), steps)
				l := layout{model: p.model, verb: "Building", now: p.now, width: w, height: h}
				lines := l.lines()
				if limit := max(h-1, 3); len(lines) > limit {
					t.Errorf("%dx%d, %d steps: %d lines", w, h, steps, len(lines))
				}
				for _, line := range lines {
					if width(line.text) > max(w-1, minWidth) {
						t.Errorf("%dx%d: line %q", w, h, line.text)
					}
				}
				parts, hidden := l.choose()
				for _, part := range parts {
					if part.s.important() && !part.show {
						hidden--
					}
				}
				if hidden != 0 {
					t.Errorf("%dx%d, %d steps: hidden is off by %d", w, h, steps, hidden)
				}
			}
		}
	}
}

func TestResize(t *testing.T) {
	// High enough for the wrapped rows: what has left a screen at its top cannot be redrawn.
	v := newVT(t, 80, 200)
	fmt.Fprintf(v, "$ nacre build .\r\n")
	p := newPlayer(v, Options{TTY: true, Size: v.Size})
	r := rand.New(rand.NewPCG(3, 4))
	busy(p, r, 12)
	for range 40 {
		p.Sink()(out(3, "another line\n"))
		p.now = p.now.Add(frame)
		p.tick()
		if n := strings.Count(v.all(), "[+] Building"); n != 1 {
			t.Fatalf("%d displays on a terminal of %dx%d:\n%s", n, v.w, v.h, v.all())
		}
		if !strings.HasPrefix(v.all(), "$ nacre build .") {
			t.Fatalf("what was there before is gone:\n%s", v.all())
		}
		v.resize(40+r.IntN(80), 200+r.IntN(5))
	}
	p.Close(nil)
	for i := range 12 {
		if !strings.Contains(v.all(), fmt.Sprintf(" step %d ", i)) {
			t.Errorf("step %d is missing at the end:\n%s", i, v.all())
		}
	}
}

// Everything is there at the end, however small the window was.
func TestFinalIsComplete(t *testing.T) {
	v := newVT(t, 60, 5)
	p := newPlayer(v, Options{TTY: true, Size: v.Size})
	var s script
	for i := range 40 {
		s = append(s, moment{i * 300, begin(i, fmt.Sprintf("step-%d-", i))}, moment{i*300 + 100, out(i, "log\n")}, moment{i*300 + 200, done(i)})
	}
	p.play(s)
	p.Close(nil)
	for i := range 40 {
		if n := strings.Count(v.all(), fmt.Sprintf("step-%d-", i)); n != 1 {
			t.Errorf("step %d appears %d times", i, n)
		}
	}
	if strings.Contains(v.all(), "log") {
		t.Error("the output of steps that went well is left over")
	}
}

func TestNoColor(t *testing.T) {
	for _, color := range []bool{false, true} {
		v := newVT(t, 80, 24)
		p := newPlayer(v, Options{TTY: true, Size: v.Size, Color: color})
		p.play(scripts["failure"])
		p.Close(errExit)
		if got := len(v.colors) > 0; got != color {
			t.Errorf("color %v: SGR %v", color, v.colors)
		}
	}
}

// Nothing is printed where nothing happened.
func TestSilence(t *testing.T) {
	for _, tty := range []bool{false, true} {
		var b bytes.Buffer
		p := New(&b, Options{TTY: tty})
		if err := p.Close(nil); err != nil || b.Len() > 0 {
			t.Errorf("tty %v: %q, %v", tty, b.String(), err)
		}
		p.Sink()(begin(1, "late"))
		if err := p.Close(nil); err != nil || b.Len() > 0 {
			t.Errorf("tty %v after Close: %q, %v", tty, b.String(), err)
		}
	}
}

type brokenPipe struct{ writes int }

func (w *brokenPipe) Write([]byte) (int, error) { w.writes++; return 0, os.ErrClosed }

func TestWriteError(t *testing.T) {
	for _, tty := range []bool{false, true} {
		w := &brokenPipe{}
		p := newPlayer(w, Options{TTY: tty})
		p.play(scripts["simple"])
		if err := p.Close(nil); !errors.Is(err, os.ErrClosed) || w.writes != 1 {
			t.Errorf("tty %v: %v after %d writes", tty, err, w.writes)
		}
	}
}

// Steps that run at once send events at once; each line of each arrives, in order.
func TestConcurrent(t *testing.T) {
	for _, tty := range []bool{false, true} {
		var b lockedBuffer
		p := New(&b, Options{TTY: tty})
		sink := p.Sink()
		var wg sync.WaitGroup
		for id := range 20 {
			wg.Go(func() {
				sink(begin(id, fmt.Sprintf("step-%d", id)))
				for i := range 100 {
					sink(out(id, fmt.Sprintf("s%d-%d\n", id, i)))
					sink(progress(id, "x", int64(i), 1000))
				}
				sink(done(id))
			})
		}
		wg.Wait()
		if err := p.Close(nil); err != nil {
			t.Error(err)
		}
		if tty {
			continue
		}
		for id := range 20 {
			at := 0
			for i := range 100 {
				n := strings.Index(b.String()[at:], fmt.Sprintf(" s%d-%d\n", id, i))
				if n < 0 {
					t.Fatalf("line %d of step %d is missing or out of order", i, id)
				}
				at += n
			}
		}
	}
}

type lockedBuffer struct {
	mu sync.Mutex
	bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Buffer.Write(p)
}

// A step that waits for the word does not pile up more than a little.
func TestHeldLinesAreBounded(t *testing.T) {
	var b bytes.Buffer
	p := newPlayer(&b, Options{})
	p.play(script{{0, begin(1, "first")}, {1, begin(2, "second")}, {2, out(1, "x\n")}})
	line := strings.Repeat("y", 1000) + "\n"
	for range 2000 {
		p.Sink()(out(2, line))
		if p.plain.held > maxHeld+2*len(line) {
			t.Fatalf("%d bytes are held", p.plain.held)
		}
	}
	p.Close(nil)
	if n := strings.Count(b.String(), "yyyy\n"); n != 2000 {
		t.Errorf("%d lines arrived", n)
	}
	if p.plain.held != 0 {
		t.Errorf("%d bytes are still counted", p.plain.held)
	}
}

// Package event says what happened, as values. The engine emits events and never
// prints; packages under ui render them.
package event

import "time"

// Sink receives events. It must be safe for concurrent use and quick; a nil Sink
// is not allowed, use Discard.
type Sink func(Event)

// Discard drops events.
func Discard(Event) {}

// Event is one of the types of this package.
type Event interface{ event() }

// Step names one unit of work of a build or transfer that is shown on its own.
type Step struct {
	ID    int
	Name  string // as shown: `[builder 2/5] RUN make`, `[internal] load build context`
	Pos   string // `Dockerfile:7`, or empty
	Stage string // name of the build stage, or empty
	// Inputs are the IDs of the steps whose result this one uses.
	Inputs []int
}

// Plan announces the steps there may be, before any starts.
type Plan struct{ Steps []Step }

// Started: a step began. Steps that come up after the plan are announced by this alone.
type Started struct {
	Step Step
	Time time.Time
}

// Done: a step ended.
type Done struct {
	ID     int
	Time   time.Time
	Cached bool
	// Cache is what came of looking for the step in the build cache; empty for a step that
	// has no record there.
	Cache Cache
	// Why, where it was asked for, of a step that was not found as it is: the first thing that differed
	// from the nearest earlier record, in one line.
	Why  string
	Size int64  // bytes of file content it added, 0 if none
	Note string // one short line shown beside it (a digest, a name), or empty
	Err  error  // nil on success
}

// Cache is what came of looking for a step in the build cache.
type Cache string

// A step is found as it is (hit), or something differs and what it is from came out the same (equal),
// or it is executed (miss).
const (
	CacheHit   Cache = "hit"
	CacheEqual Cache = "equal"
	CacheMiss  Cache = "miss"
)

// Log: a running step printed something. Data is what it wrote, cut at line ends
// where it was possible.
type Log struct {
	ID     int
	Time   time.Time
	Stream int // 1 stdout, 2 stderr
	Data   []byte
}

// Progress: a step got somewhere. Total is 0 where unknown.
type Progress struct {
	ID      int
	Time    time.Time
	Item    string // what of it: a layer digest, a file; empty for the step as a whole
	Current int64
	Total   int64
	Unit    string // "B" for bytes, else a plural noun ("files")
}

// Warning: something the user should know, not tied to success.
type Warning struct {
	Pos  string // `Dockerfile:7`, or empty
	Text string
	Hint string // what to do about it, or empty
}

func (Plan) event()     {}
func (Started) event()  {}
func (Done) event()     {}
func (Log) event()      {}
func (Progress) event() {}
func (Warning) event()  {}

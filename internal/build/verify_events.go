package build

import (
	"slices"
	"strings"
	"sync"

	"nacre/internal/event"
)

// numbering shows two builds as one: steps of the second have IDs after those of the first,
// and names that tell.
type numbering struct {
	sink event.Sink
	mu   sync.Mutex
	last int // the highest ID of the first
}

func (n *numbering) first(e event.Event) {
	switch e := e.(type) {
	case event.Plan:
		for _, s := range e.Steps {
			n.see(s.ID)
		}
	case event.Started:
		n.see(e.Step.ID)
	}
	n.sink(e)
}

func (n *numbering) see(id int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.last = max(n.last, id)
}

func (n *numbering) second(e event.Event) {
	by := n.last // which is final
	switch e := e.(type) {
	case event.Plan:
		e.Steps = slices.Clone(e.Steps)
		for i := range e.Steps {
			e.Steps[i] = moved(e.Steps[i], by)
		}
		n.sink(e)
	case event.Started:
		e.Step = moved(e.Step, by)
		n.sink(e)
	case event.Done:
		e.ID += by
		n.sink(e)
	case event.Log:
		e.ID += by
		n.sink(e)
	case event.Progress:
		e.ID += by
		n.sink(e)
	case event.Warning: // was said the first time
	default:
		n.sink(e)
	}
}

func moved(s event.Step, by int) event.Step {
	s.ID += by
	s.Name = again(s.Name)
	s.Inputs = slices.Clone(s.Inputs)
	for i := range s.Inputs {
		s.Inputs[i] += by
	}
	return s
}

// again is the name of a step of the second build: `[again 2/3] RUN make`.
func again(name string) string {
	if rest, ok := strings.CutPrefix(name, "["); ok {
		return "[again " + rest
	}
	return "[again] " + name
}

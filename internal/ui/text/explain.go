package text

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"strings"

	"nacre/internal/event"
)

// lookup says what came of looking for the step in the cache; empty for one that is not looked for.
func (s *step) lookup() string {
	switch s.cache {
	case event.CacheHit:
		return "cache: hit"
	case event.CacheEqual:
		return join("cache: hit by content", s.why)
	case event.CacheMiss:
		return join("cache: miss", s.why)
	}
	return ""
}

func join(what, why string) string {
	if why == "" {
		return what
	}
	return what + ": " + why
}

// writeExplanation ends a build with what came of the cache: a table of the steps that were not found
// as they are, in the order of the Dockerfile, and a line that sums up.
func (m *model) writeExplanation(b *bytes.Buffer) {
	var counted []*step
	for _, s := range m.order {
		if s.cache != "" && s.err == nil {
			counted = append(counted, s)
		}
	}
	if len(counted) == 0 {
		return
	}
	slices.SortFunc(counted, func(a, b *step) int { return cmp.Compare(a.ID, b.ID) })
	n := map[event.Cache]int{}
	var first *step
	places := 0
	for _, s := range counted {
		n[s.cache]++
		if s.cache == event.CacheMiss && first == nil {
			first = s
		}
		if s.cache != event.CacheHit {
			places = max(places, width(s.Pos)+1+width(s.instruction()))
		}
	}
	b.WriteByte('\n')
	places = min(places, maxPlace)
	for _, s := range counted {
		if s.cache == event.CacheHit {
			continue
		}
		place := clip(strings.TrimSpace(oneLine(s.Pos)+" "+s.instruction()), places)
		fmt.Fprintf(b, " %s%s  %s\n", place, strings.Repeat(" ", max(places-width(place), 0)), strings.TrimPrefix(s.lookup(), "cache: "))
	}
	sum := fmt.Sprintf("%d steps: %d hit, ", len(counted), n[event.CacheHit])
	if len(counted) == 1 {
		sum = strings.Replace(sum, "steps", "step", 1)
	}
	if k := n[event.CacheEqual]; k > 0 {
		sum += fmt.Sprintf("%d hit by content, ", k)
	}
	fmt.Fprintf(b, " cache: %s%d executed", sum, n[event.CacheMiss])
	if first != nil {
		fmt.Fprintf(b, "; first miss %s", strings.TrimSpace(oneLine(first.Pos)+" "+join(clip(first.instruction(), maxPlace), first.why)))
	}
	b.WriteByte('\n')
}

// maxPlace is how wide the column of instructions is at most.
const maxPlace = 48

// instruction is the name of the step without its place: of "[2/3] RUN make" it is "RUN make".
func (s *step) instruction() string {
	if _, name, ok := strings.Cut(s.name, "] "); ok && strings.HasPrefix(s.name, "[") {
		return name
	}
	return s.name
}

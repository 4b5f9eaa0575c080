package build

import (
	"strings"
	"sync/atomic"
	"time"

	"nacre/internal/event"
	"nacre/internal/source"
)

const (
	// shortHashing is over before anybody wonders what goes on; it is not told of.
	shortHashing = 300 * time.Millisecond
	// firstHashing is the ID of the first step that tells of hashing: no graph has so many.
	firstHashing = 1 << 30
)

// hashings counts the steps that told of hashing, in this process: each needs an ID of its own.
var hashings atomic.Int32

// hashing tells of the hashing of the context's files, as a step, where it takes long.
func (c *contextSource) hashing() func(source.Progress) {
	var (
		began, told time.Time
		done        func(event.Done, error) error
		step        event.Step
	)
	return func(p source.Progress) {
		now := c.Clock()
		if began.IsZero() {
			began = now
		}
		if done == nil && (p.Done || now.Sub(began) < shortHashing) {
			if p.Done {
				began = time.Time{}
			}
			return
		}
		if done == nil {
			step = event.Step{ID: firstHashing + int(hashings.Add(1)), Name: strings.Replace(c.step.Name, "load ", "hash ", 1)}
			done = c.begin(step)
		}
		if p.Done || now.Sub(told) >= 100*time.Millisecond {
			told = now
			c.Sink(event.Progress{ID: step.ID, Time: now, Item: "files", Current: p.Files, Total: p.TotalFiles, Unit: "files"})
			c.Sink(event.Progress{ID: step.ID, Time: now, Item: "content", Current: p.Bytes, Total: p.TotalBytes, Unit: "B"})
		}
		if p.Done {
			done(event.Done{}, nil)
			done, began = nil, time.Time{}
		}
	}
}

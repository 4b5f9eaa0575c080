package sandbox

import (
	"maps"
	"slices"
	"sync"

	"nacre/internal/rootfs"
)

// Owners are the owners of what cannot have one recorded itself: links, pipes and the like, all of one root. Programs give
// them away, and who looks at one is told. It may be used by several sandboxes of the root, and processes in them, at once.
type Owners struct {
	keep func(rootfs.Recorded)

	mu    sync.Mutex
	below map[string]rootfs.LinkOwner // by path: of the layers
	links map[uint64]rootfs.Recorded  // by inode
	known map[string]rootfs.Recorded  // by path: those it began with, whose inodes may have other numbers by now
}

// NewOwners begins with those that are known. keep, if not nil, is called with each that is new or another, one at a time.
func NewOwners(known []rootfs.Recorded, keep func(rootfs.Recorded)) *Owners {
	o := &Owners{keep: keep, links: map[uint64]rootfs.Recorded{}, known: map[string]rootfs.Recorded{}}
	for _, r := range known {
		o.links[r.Ino], o.known[r.Path] = r, r
	}
	return o
}

// Record notes an owner.
func (o *Owners) Record(r rootfs.Recorded) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.record(r)
}

func (o *Owners) record(r rootfs.Recorded) {
	o.links[r.Ino] = r
	if o.keep == nil {
		return
	}
	// By another thread: ours has the caller's root, where no path leads to what is our own.
	kept := make(chan struct{})
	go func() {
		defer close(kept)
		o.keep(r)
	}()
	<-kept
}

// list is all that was recorded.
func (o *Owners) list() []rootfs.Recorded {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Collect(maps.Values(o.links))
}

// setBelow says what the layers have.
func (o *Owners) setBelow(list []rootfs.LinkOwner) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.below = make(map[string]rootfs.LinkOwner, len(list))
	for _, l := range list {
		o.below[l.Path] = l
	}
}

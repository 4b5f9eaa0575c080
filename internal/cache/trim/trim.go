// Package trim decides what a cache gives up: pure, of sizes, times and limits. It leaves to others what the
// things are and how they are removed.
package trim

import (
	"cmp"
	"slices"
	"time"
)

// Item is one thing that a cache has.
type Item struct {
	Size int64 // bytes of disk that its removal wins
	Used time.Time
	// Fixed things stay, and count: they are in use, or are not what was asked for.
	Fixed bool
}

// Limits say how much stays. The zero value has everything go.
type Limits struct {
	Reserved int64 // bytes that stay, whatever else is asked for
	// MaxUsed and MinFree are bytes: things go until the cache takes no more than MaxUsed, and the disk has MinFree.
	// 0 is no such limit.
	MaxUsed, MinFree int64
	// Unused has go what was not used for so long, however much room there is. 0 is no such limit.
	Unused time.Duration
}

// none tells that nothing limits what goes but Reserved.
func (l Limits) none() bool { return l.MaxUsed <= 0 && l.MinFree <= 0 && l.Unused <= 0 }

// Choose lists which of items go, as indexes, what was used longest ago first. free is how many bytes of the disk are free.
// The order of use decides alone: where one thing has to stay because of Reserved, all stay that were used after it.
func (l Limits) Choose(items []Item, free int64, now time.Time) (gone []int) {
	var used int64
	order := make([]int, len(items))
	for i, it := range items {
		order[i] = i
		used += it.Size
	}
	slices.SortStableFunc(order, func(a, b int) int {
		return cmp.Or(items[a].Used.Compare(items[b].Used), cmp.Compare(items[b].Size, items[a].Size))
	})
	for _, i := range order {
		it := items[i]
		if it.Fixed {
			continue
		}
		old := l.Unused > 0 && now.Sub(it.Used) > l.Unused
		full := l.MaxUsed > 0 && used > l.MaxUsed || l.MinFree > 0 && free < l.MinFree
		if !l.none() && !old && !full || used-it.Size < l.Reserved && it.Size > 0 {
			break // what follows was used later
		}
		gone = append(gone, i)
		used -= it.Size
		free += it.Size
	}
	return gone
}

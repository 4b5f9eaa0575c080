package main

import (
	"math"
	"testing"
)

func TestKept(t *testing.T) {
	for _, c := range []struct{ used, free, reserved, maxUsed, minFree, want int64 }{
		{100, 50, 0, 30, 0, 30},            // down to the limit
		{20, 50, 0, 30, 0, math.MaxInt64},  // below it: all stays
		{100, 50, 0, 0, 60, 90},            // ten more have to be free
		{100, 50, 0, 0, 40, math.MaxInt64}, // enough is free
		{100, 50, 95, 30, 60, 95},          // what is reserved stays
		{100, 50, 0, 95, 60, 90},           // the stricter of both
		{100, 0, 0, 0, 1000, 0},            // never less than nothing
	} {
		if got := kept(c.used, c.free, c.reserved, c.maxUsed, c.minFree); got != c.want {
			t.Errorf("%+v: %d", c, got)
		}
	}
}

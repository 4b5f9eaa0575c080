package config

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Size is a number of bytes, written "10GiB", "500MB" or plainly.
type Size int64

// sizeUnits are longest first, as each is looked for at the end.
var sizeUnits = [...]struct {
	name string
	n    float64
}{
	{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"TiB", 1 << 40},
	{"kB", 1e3}, {"KB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"TB", 1e12}, {"B", 1},
}

// ParseSize reads a Size.
func ParseSize(s string) (Size, error) {
	number, unit := s, 1.0
	for _, u := range sizeUnits {
		if rest, ok := strings.CutSuffix(s, u.name); ok {
			number, unit = strings.TrimSpace(rest), u.n
			break
		}
	}
	f, err := strconv.ParseFloat(number, 64)
	switch {
	case err != nil || math.IsNaN(f) || strings.ContainsAny(number, "xXpPeE_"):
		return 0, fmt.Errorf("%q is not a size: want a number and B, KiB, MiB, GiB or TiB (kB, MB, GB, TB)", s)
	case f < 0:
		return 0, fmt.Errorf("%q: a size cannot be negative", s)
	case f*unit > 1<<60:
		return 0, fmt.Errorf("%q is more than 1 EiB", s)
	}
	return Size(f * unit), nil
}

// String writes the size so that it can be read again, and by people.
func (s Size) String() string {
	for i := 3; i >= 0; i-- {
		if u := sizeUnits[i]; s != 0 && s%Size(u.n) == 0 {
			return strconv.FormatInt(int64(s/Size(u.n)), 10) + u.name
		}
	}
	return strconv.FormatInt(int64(s), 10)
}

// century is longer than anything here lasts, and shorter than what a Duration holds.
const century = 100 * 365 * 24 * time.Hour

// ParseDuration reads what time.ParseDuration does, and days and weeks: "30d", "2w", "1d12h".
func ParseDuration(s string) (time.Duration, error) {
	bad := fmt.Errorf("%q is not a duration: want a number and a unit, as 30s, 15m, 72h, 30d or 2w", s)
	if s == "0" {
		return 0, nil
	}
	var total time.Duration
	rest := s
	for _, u := range []struct {
		letter string
		d      time.Duration
	}{{"w", 7 * 24 * time.Hour}, {"d", 24 * time.Hour}} {
		before, after, ok := strings.Cut(rest, u.letter)
		if !ok {
			continue
		}
		n, err := strconv.ParseUint(before, 10, 16)
		if err != nil || time.Duration(n) > century/u.d {
			return 0, bad
		}
		total += time.Duration(n) * u.d
		rest = after
	}
	if rest != "" {
		d, err := time.ParseDuration(rest)
		if err != nil || d < 0 || strings.ContainsAny(rest, "+-") {
			return 0, bad
		}
		total += d
	} else if s == "" {
		return 0, bad
	}
	if total < 0 || total > century {
		return 0, bad
	}
	return total, nil
}

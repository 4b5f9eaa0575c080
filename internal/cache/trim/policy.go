package trim

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Policy is by what a cache is trimmed on its own. The zero value trims nothing.
type Policy struct {
	On                         bool
	Reserved, MaxUsed, MinFree Share
	Unused                     time.Duration
	Every                      time.Duration // between two times that it is looked at
}

// Share is a part of a disk: Percent of it, but no more than Bytes; where one of them is 0 the other alone.
type Share struct{ Percent, Bytes int64 }

// Of is the share of a disk of that size, in bytes.
func (s Share) Of(disk int64) int64 {
	n := disk / 100 * s.Percent
	if s.Percent == 0 || s.Bytes > 0 && s.Bytes < n {
		n = s.Bytes
	}
	return n
}

func (s Share) String() string {
	var parts []string
	if s.Percent > 0 {
		parts = append(parts, strconv.FormatInt(s.Percent, 10)+"%")
	}
	if s.Bytes > 0 {
		parts = append(parts, bytesText(s.Bytes))
	}
	if parts == nil {
		return "0"
	}
	return strings.Join(parts, "/")
}

// Default is what holds where nobody says otherwise. A cache that nobody looks after is not to fill a disk, and what a developer
// comes back to after a holiday is to be there: so there is a bound that age has no part in, and time alone takes nothing from a small
// cache, nor what was used in the last two months.
func Default() Policy {
	return Policy{
		On:       true,
		Reserved: Share{10, 10 << 30},
		MaxUsed:  Share{Percent: 50},
		MinFree:  Share{10, 20 << 30},
		Unused:   60 * 24 * time.Hour,
		Every:    time.Hour,
	}
}

// Limits are those of the policy on a disk of that size in bytes.
func (p Policy) Limits(disk int64) Limits {
	return Limits{Reserved: p.Reserved.Of(disk), MaxUsed: p.MaxUsed.Of(disk), MinFree: p.MinFree.Of(disk), Unused: p.Unused}
}

// Parse reads "off", or settings in place of those of p, such as "max-used-space=20GB,unused-for=30d", on one line or several; what
// follows a "#" is a comment. Sizes are bytes or shares of the disk, or both, of which the lesser counts: "10%/20GB". 0 turns a
// limit off.
func (p Policy) Parse(text string) (Policy, error) {
	for line := range strings.Lines(text) {
		line, _, _ = strings.Cut(line, "#")
		for word := range strings.SplitSeq(line, ",") {
			word = strings.TrimSpace(word)
			if word == "" {
				continue
			}
			if err := p.set(word); err != nil {
				return p, err
			}
		}
	}
	return p, nil
}

func (p *Policy) set(word string) (err error) {
	if word == "off" || word == "on" {
		p.On = word == "on"
		return nil
	}
	key, value, _ := strings.Cut(word, "=")
	switch key {
	case "reserved-space":
		p.Reserved, err = ParseShare(value)
	case "max-used-space":
		p.MaxUsed, err = ParseShare(value)
	case "min-free-space":
		p.MinFree, err = ParseShare(value)
	case "unused-for":
		p.Unused, err = parseTime(value)
	case "every":
		p.Every, err = parseTime(value)
	default:
		return fmt.Errorf("%q: want off, or reserved-space, max-used-space, min-free-space, unused-for or every, each with =VALUE", word)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", word, err)
	}
	return nil
}

func (p Policy) String() string {
	if !p.On {
		return "off"
	}
	return fmt.Sprintf("reserved-space=%s,max-used-space=%s,min-free-space=%s,unused-for=%s,every=%s", p.Reserved, p.MaxUsed, p.MinFree, p.Unused, p.Every)
}

// ParseShare reads a size, a share of the disk, or both, of which the lesser counts: 20GB, 10%, 10%/20GB.
func ParseShare(text string) (s Share, err error) {
	for part := range strings.SplitSeq(text, "/") {
		if percent, ok := strings.CutSuffix(part, "%"); ok {
			if s.Percent, err = strconv.ParseInt(percent, 10, 64); err != nil || s.Percent < 0 || s.Percent > 100 {
				return s, fmt.Errorf("%q is no share of a disk", part)
			}
			continue
		}
		if s.Bytes, err = Bytes(part); err != nil {
			return s, err
		}
	}
	return s, nil
}

// units are those of sizes, as docker's are: 1KB is 1,024 bytes.
const units = "KMGTP"

// Bytes reads a size, such as 10GB, 512MiB or 1000. Errors say what is wanted.
func Bytes(text string) (int64, error) {
	digits := strings.TrimSuffix(strings.TrimSuffix(strings.ToUpper(strings.TrimSpace(text)), "B"), "I")
	factor := 1.0
	if n := len(digits); n > 0 {
		if i := strings.IndexByte(units, digits[n-1]); i >= 0 {
			factor, digits = float64(int64(1)<<(10*(i+1))), digits[:n-1]
		}
	}
	f, err := strconv.ParseFloat(strings.TrimSpace(digits), 64)
	if err != nil || !(f >= 0 && f*factor < 1<<62) {
		return 0, fmt.Errorf("%q is no size: want bytes, such as 10GB", text)
	}
	return int64(f * factor), nil
}

func bytesText(n int64) string {
	for i := len(units) - 1; i >= 0; i-- {
		if unit := int64(1) << (10 * (i + 1)); n%unit == 0 {
			return strconv.FormatInt(n/unit, 10) + units[i:i+1] + "B"
		}
	}
	return strconv.FormatInt(n, 10)
}

// parseTime reads a duration, days among its units: 30d.
func parseTime(text string) (time.Duration, error) {
	if days, ok := strings.CutSuffix(text, "d"); ok {
		if n, err := strconv.ParseFloat(days, 64); err == nil && n >= 0 && n < 36500 {
			return time.Duration(n * float64(24*time.Hour)), nil
		}
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 {
		return 0, fmt.Errorf("%q is no time: want one such as 30d or 12h", text)
	}
	return d, nil
}

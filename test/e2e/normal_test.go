package e2e

import (
	"fmt"
	"regexp"
	"strings"
)

// normal takes out of a transcript what differs from one time to the next: IDs, times, sizes that depend on this machine's
// busybox, and the progress of transfers, whose parts go side by side. What stood in columns still does.
type normal struct{ ids map[string]string }

// The patterns of what differs, in the order in which they are looked for.
var (
	longHex  = regexp.MustCompile(`\b[0-9a-f]{64}\b`)
	cacheHex = regexp.MustCompile(`\b[0-9a-f]{32}\b`)
	shortHex = regexp.MustCompile(`\b[0-9a-f]{12}\b`)
	agoText  = regexp.MustCompile(`(Less than a second|About a minute|\d+ seconds?|\d+ minutes?) ago`)
	column   = regexp.MustCompile(`CREATED {2,}`)
	stamp    = regexp.MustCompile(`\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)`)
	duration = regexp.MustCompile(`\b\d+\.\d+s\b`)
	bigSize  = regexp.MustCompile(`\b\d+(\.\d+)?(k|M)B\b`)
	jsonSize = regexp.MustCompile(`("(Virtual)?[sS]ize": )\d+`)
	moving   = regexp.MustCompile(`^(#\d+ .*|)$`)
)

// text is a transcript of commands, each in a line that begins with "$ ".
func (n *normal) text(s string) string {
	s = longHex.ReplaceAllStringFunc(s, func(id string) string { return n.id(id[:12], 64) })
	s = cacheHex.ReplaceAllStringFunc(s, func(id string) string { return n.id(id[:12], 32) })
	s = shortHex.ReplaceAllStringFunc(s, func(id string) string { return n.id(id, 12) })
	s = stamp.ReplaceAllString(s, "2026-01-02T03:04:05Z")
	s = duration.ReplaceAllString(s, "0.1s")
	s = jsonSize.ReplaceAllString(s, "${1}1234567")
	var out strings.Builder
	transfer := false
	from, to := 0, 0 // the column CREATED of the last table
	for line := range strings.Lines(s) {
		line = strings.TrimSuffix(line, "\n")
		if strings.HasPrefix(line, "$ ") {
			from, to = 0, 0
			transfer = false
			for _, verb := range []string{"push", "pull", "load"} {
				transfer = transfer || strings.HasPrefix(line, "$ docker "+verb)
			}
		}
		if strings.HasPrefix(line, "#") && !moving.MatchString(line) || strings.HasPrefix(line, "# ") {
			transfer = false
		}
		if transfer && moving.MatchString(line) {
			continue
		}
		if at := column.FindStringIndex(line); at != nil {
			from, to = at[0], at[1]
		}
		if to > 0 && len(line) >= to {
			cell := agoText.ReplaceAllString(strings.TrimRight(line[from:to], " "), "2 seconds ago")
			line = line[:from] + fmt.Sprintf("%-16s", cell) + line[to:]
		}
		out.WriteString(strings.TrimRight(sized(agoText.ReplaceAllString(line, "2 seconds ago")), " ") + "\n")
	}
	return out.String()
}

// sized is a line with each size replaced, and what follows it where it was.
func sized(line string) string {
	return bigSize.ReplaceAllStringFunc(line, func(size string) string {
		unit := size[len(size)-2:]
		return fmt.Sprintf("%-*s", len(size), "1.2"+unit)[:max(len(size), 5)]
	})
}

// id is what an ID is replaced by: its number, by which it can be told from others.
func (n *normal) id(short string, length int) string {
	if n.ids[short] == "" {
		n.ids[short] = fmt.Sprintf("%012d", len(n.ids)+1)
	}
	return strings.Repeat(n.ids[short], 6)[:length]
}

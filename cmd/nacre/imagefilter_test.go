package main

import (
	"strings"
	"testing"
	"time"

	"nacre/internal/registry"
)

// TestParseUntil: times as docker's filters take them.
func TestParseUntil(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.Local)
	local := func(h, m, s int) time.Time { return time.Date(2026, 1, 2, h, m, s, 0, time.Local) }
	for s, want := range map[string]time.Time{
		"24h": now.Add(-24 * time.Hour), "1h30m": now.Add(-90 * time.Minute), "1700000000": time.Unix(1700000000, 0),
		"1700000000.5": time.Unix(1700000000, 5e8), "1136073600.000000001": time.Unix(1136073600, 1), "-1": time.Unix(-1, 0),
		"2026-01-02": local(0, 0, 0), "2026-01-02T15": local(15, 0, 0), "2026-01-02T15:04": local(15, 4, 0), "2026-01-02T15:04:05": local(15, 4, 5),
		"2026-01-02T15:04:05Z": time.Date(2026, 1, 2, 15, 4, 5, 0, time.UTC), "2026-01-02T15:04:05.25+02:00": time.Date(2026, 1, 2, 13, 4, 5, 25e7, time.UTC),
		"2026-01-02Z": time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC), "2026-01-02+02:00": time.Date(2026, 1, 1, 22, 0, 0, 0, time.UTC),
	} {
		if got, err := parseUntil(s, now); err != nil || !got.Equal(want) {
			t.Errorf("%s is %v, %v; want %v", s, got, err, want)
		}
	}
	for _, s := range []string{"", "soon", "2026", "2026-13-01", "1.2.3", "1.0000000001", "1.-5", "12:00"} {
		if got, err := parseUntil(s, now); err == nil && s != "2026" {
			t.Errorf("%q is %v", s, got)
		}
	}
}

// FuzzNamePattern: a pattern never panics, and a name without wildcards matches itself.
func FuzzNamePattern(f *testing.F) {
	for _, s := range []string{"web", "w*b:1", "[", "a/b", "reg:5000/a/b:c", "a@sha256:" + strings.Repeat("ab", 32), "*/*", `\`, ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p, err := parsePattern(s)
		if err != nil {
			return
		}
		p.match(registry.Ref{Repo: "docker.io/library/web", Tag: "1"})
		ref, err := registry.ParseRef(s)
		if err != nil {
			return
		}
		if ref.Digest != "" {
			ref.Tag = ""
		}
		if !p.match(ref) {
			t.Errorf("%q does not match what it names, %v", s, ref)
		}
	})
}

// FuzzTemplate: no --format template makes a table panic.
func FuzzTemplate(f *testing.F) {
	for _, s := range []string{"{{.A}}", "table {{.A}}\t{{upper .B}}", "{{json .}}", "{{truncate .A -1}}", "{{pad .A -1 -1}}", "table {{join (split .A \"\") .B}}", "{{title .B}}", "json", "table"} {
		f.Add(s)
	}
	type row struct{ A, B string }
	f.Fuzz(func(t *testing.T, s string) {
		var b strings.Builder
		if err := render(&b, s, []column{{"A", "A"}}, []row{{"one", "two"}, {}}); err != nil && b.Len() > 0 {
			t.Errorf("%q printed %q and failed: %v", s, b.String(), err)
		}
	})
}

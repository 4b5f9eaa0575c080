package main

import (
	"encoding/json"
	"fmt"
	"io"
	"reflect"
	"strings"
	"text/tabwriter"
	"text/template"
	"time"
	"unicode"

	"github.com/docker/go-units"
	"github.com/opencontainers/go-digest"
)

// column is one column of a table: docker's header and the template field it shows.
type column struct{ header, field string }

// render prints rows (structs) as docker's --format says: empty or "table" is the
// table of columns, "table TEMPLATE" a table of the template, "json" one
// object a line, anything else a template for each row.
func render[R any](w io.Writer, format string, columns []column, rows []R) error {
	switch {
	case format == "json":
		enc := json.NewEncoder(w)
		enc.SetEscapeHTML(false)
		for _, r := range rows {
			if err := enc.Encode(r); err != nil {
				return err
			}
		}
		return nil
	case format == "" || format == "table":
		fields := make([]string, len(columns))
		for i, c := range columns {
			fields[i] = "{{." + c.field + "}}"
		}
		return renderTable(w, strings.Join(fields, "\t"), columns, rows)
	case strings.HasPrefix(format, "table "):
		return renderTable(w, unescape(strings.TrimPrefix(format, "table ")), columns, rows)
	}
	t, err := parseTemplate(unescape(format))
	if err != nil {
		return err
	}
	for _, r := range rows {
		if err := t.Execute(w, r); err != nil {
			return fmt.Errorf("--format: %w", err)
		}
		fmt.Fprintln(w)
	}
	return nil
}

func renderTable[R any](w io.Writer, text string, columns []column, rows []R) error {
	t, err := parseTemplate(text)
	if err != nil {
		return err
	}
	tw := tabwriter.NewWriter(w, 10, 1, 3, ' ', 0)
	header := headers[R]()
	for _, c := range columns {
		header[c.field] = c.header
	}
	if err := t.Execute(tw, header); err != nil {
		return fmt.Errorf("--format: %w", err)
	}
	fmt.Fprintln(tw)
	for _, r := range rows {
		if err := t.Execute(tw, r); err != nil {
			return fmt.Errorf("--format: %w", err)
		}
		fmt.Fprintln(tw)
	}
	return tw.Flush()
}

// headers names every field of a row as docker does where no column has another
// name for it: CreatedAt is CREATED AT.
func headers[R any]() header {
	h := header{}
	for f := range reflect.TypeFor[R]().Fields() {
		var b strings.Builder
		for i, r := range f.Name {
			if i > 0 && unicode.IsUpper(r) && unicode.IsLower(rune(f.Name[i-1])) {
				b.WriteByte(' ')
			}
			b.WriteRune(unicode.ToUpper(r))
		}
		h[f.Name] = b.String()
	}
	return h
}

// header is the row of names above a table.
type header map[string]string

// Label heads a column of one label, as docker does.
func (header) Label(name string) string {
	return strings.NewReplacer("-", " ", ".", " ", "_", " ").Replace(name)
}

// unescape lets \t and \n be typed in a shell's quotes, as docker does.
func unescape(s string) string { return strings.NewReplacer(`\t`, "\t", `\n`, "\n").Replace(s) }

// parseTemplate parses a --format template with docker's functions.
func parseTemplate(text string) (*template.Template, error) {
	t, err := template.New("").Funcs(template.FuncMap{
		"json": func(v any) (string, error) {
			var b strings.Builder
			enc := json.NewEncoder(&b)
			enc.SetEscapeHTML(false)
			err := enc.Encode(v)
			return strings.TrimRight(b.String(), "\n"), err
		},
		"split": strings.Split,
		"join":  func(list []string, sep string) string { return strings.Join(list, sep) },
		"title": func(s string) string {
			if s == "" {
				return s
			}
			return strings.ToUpper(s[:1]) + s[1:]
		},
		"lower": strings.ToLower,
		"upper": strings.ToUpper,
		"pad": func(s string, before, after int) string {
			if s == "" {
				return s
			}
			return strings.Repeat(" ", before) + s + strings.Repeat(" ", after)
		},
		"truncate": func(s string, n int) string { return s[:min(n, len(s))] },
		"println":  fmt.Sprintln,
	}).Parse(text)
	if err != nil {
		return nil, fmt.Errorf("--format: %w", err)
	}
	return t, nil
}

// shortID is the 12 hex digits that docker shows.
func shortID(d digest.Digest) string {
	if e := d.Encoded(); len(e) > 12 {
		return e[:12]
	}
	return d.Encoded()
}

func humanSize(n int64) string { return units.HumanSizeWithPrecision(float64(n), 3) }

// since is "3 minutes ago"; an image without a time has "N/A".
func since(t, now time.Time) string {
	if t.IsZero() {
		return "N/A"
	}
	return units.HumanDuration(now.Sub(t)) + " ago"
}

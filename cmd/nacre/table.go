package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
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
// object a line, anything else a template for each row. Where the template is wrong, nothing is printed.
//
// The fields of a row are in the order of the alphabet, which is that of docker's objects.
func render[R any](w io.Writer, format string, columns []column, rows []R) error {
	var b bytes.Buffer
	var err error
	switch {
	case format == "json":
		err = renderJSON(&b, rows)
	case format == "" || format == "table":
		fields := make([]string, len(columns))
		for i, c := range columns {
			fields[i] = "{{." + c.field + "}}"
		}
		err = renderTable(&b, strings.Join(fields, "\t"), columns, rows)
	case strings.HasPrefix(format, "table"):
		err = renderTable(&b, strings.TrimPrefix(format, "table"), columns, rows)
	default:
		_, err = renderRows(&b, format, rows)
	}
	if err != nil {
		return err
	}
	text := b.Bytes()
	if format == "json" {
		text = escapedJSON(text)
	}
	_, err = w.Write(text)
	return err
}

func renderJSON[R any](w io.Writer, rows []R) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	for _, r := range rows {
		if err := enc.Encode(r); err != nil {
			return err
		}
	}
	return nil
}

// renderRows prints a line for each row, or more than one if text says so. It returns the template.
func renderRows[R any](w io.Writer, text string, rows []R) (*template.Template, error) {
	t, err := parseTemplate(unescape(strings.Trim(text, " ")))
	if err != nil {
		return nil, err
	}
	for _, r := range rows {
		if err := t.Execute(w, r); err != nil {
			return nil, badTemplate(err, fieldsOf[R]())
		}
		fmt.Fprintln(w)
	}
	return t, nil
}

func renderTable[R any](w io.Writer, text string, columns []column, rows []R) error {
	var body bytes.Buffer
	t, err := renderRows(&body, text, rows)
	if err != nil {
		return err
	}
	names := headers[R]()
	if own, ok := any(*new(R)).(interface{ headings() header }); ok {
		maps.Copy(names, own.headings())
	}
	for _, c := range columns {
		names[c.field] = c.header
	}
	tw := tabwriter.NewWriter(w, 10, 1, 3, ' ', 0)
	// What makes no sense of a header leaves it as far as it came, as with docker.
	t.Funcs(headerFunctions()).Execute(tw, names) //nolint:errcheck
	fmt.Fprintln(tw)
	tw.Write(harmless(body.Bytes())) //nolint:errcheck // so does Flush
	return tw.Flush()
}

// fieldsOf are the names that templates for a row know, as ".ID": its fields, and methods without arguments.
func fieldsOf[R any]() (names []string) {
	row := reflect.TypeFor[R]()
	if row.Kind() != reflect.Struct {
		return nil
	}
	for f := range row.Fields() {
		if f.IsExported() {
			names = append(names, f.Name)
		}
	}
	for m := range row.Methods() {
		if m.Type.NumIn() == 1 {
			names = append(names, m.Name)
		}
	}
	return names
}

// headers names every field of a row as docker does where no column has another
// name for it: CreatedAt is CREATED AT.
func headers[R any]() header {
	h := header{}
	for _, name := range fieldsOf[R]() {
		var b strings.Builder
		for i, r := range name {
			if i > 0 && unicode.IsUpper(r) && unicode.IsLower(rune(name[i-1])) {
				b.WriteByte(' ')
			}
			b.WriteRune(unicode.ToUpper(r))
		}
		h[name] = b.String()
	}
	return h
}

// header is the row of names above a table.
type header map[string]string

// Label heads a column of one label, as docker does.
func (header) Label(name string) string {
	return strings.NewReplacer("-", " ", ".", " ", "_", " ").Replace(name)
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

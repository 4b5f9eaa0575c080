package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/template"
	"unicode"

	"nacre/internal/compare"
	"nacre/internal/image"
	"nacre/internal/layer"

	"golang.org/x/sys/unix"
)

// diffPrinter shows what differs, as it is found.
type diffPrinter interface {
	config(fields []compare.Field, was, is []image.History) error
	file(c compare.Change) error
	end(sum diffSum) error
}

// printer picks one.
func (f diffFlags) printer(a *app) (diffPrinter, error) {
	switch {
	case f.format == "json":
		enc := json.NewEncoder(a.stdout)
		enc.SetEscapeHTML(false)
		return diffJSON{enc}, nil
	case f.format != "":
		t, err := parseTemplate(unescape(f.format))
		return diffTemplate{a.stdout, t}, err
	case f.nameOnly:
		return diffNames{a.stdout}, nil
	}
	return &diffText{w: a.stdout, stat: f.stat}, nil
}

// fileRow is a file for templates.
type fileRow struct {
	Kind, Path, Type, Mode, Owner string
	Size                          int64
	What                          string // names of what differs
}

func rowOf(c compare.Change) fileRow {
	st := c.B
	if st == nil {
		st = c.A
	}
	r := fileRow{Kind: kindOf(c), Path: rooted(c.Name), Type: compare.Kind(st), Mode: fmt.Sprintf("%04o", st.Mode&0o7777), Owner: fmt.Sprintf("%d:%d", st.UID, st.GID), Size: st.Size}
	var what []string
	for _, d := range c.What {
		what = append(what, string(d.What))
	}
	r.What = strings.Join(what, ",")
	return r
}

// kindOf is docker's letter for a change.
func kindOf(c compare.Change) string {
	switch {
	case c.A == nil:
		return "A"
	case c.B == nil:
		return "D"
	}
	return "C"
}

func rooted(name string) string { return "/" + strings.TrimPrefix(name, ".") }

// shownName is a name on a terminal: one that could disturb it, or be taken for several lines, is quoted.
func shownName(name string) string {
	name = rooted(name)
	if strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return strconv.Quote(name)
	}
	return name
}

type diffNames struct{ w io.Writer }

func (diffNames) config([]compare.Field, []image.History, []image.History) error { return nil }
func (diffNames) end(diffSum) error                                              { return nil }
func (d diffNames) file(c compare.Change) error {
	_, err := fmt.Fprintln(d.w, shownName(c.Name))
	return err
}

type diffTemplate struct {
	w io.Writer
	t *template.Template
}

func (diffTemplate) config([]compare.Field, []image.History, []image.History) error { return nil }
func (diffTemplate) end(diffSum) error                                              { return nil }
func (d diffTemplate) file(c compare.Change) error {
	if err := d.t.Execute(d.w, rowOf(c)); err != nil {
		return fmt.Errorf("--format: %w", err)
	}
	_, err := fmt.Fprintln(d.w)
	return err
}

// diffText is for people.
type diffText struct {
	w     io.Writer
	stat  bool
	files bool // their heading is printed
}

func (d *diffText) config(fields []compare.Field, was, is []image.History) error {
	if d.stat {
		return nil
	}
	if len(fields) > 0 {
		fmt.Fprintln(d.w, "config")
	}
	for _, f := range fields {
		name := f.Name
		if f.Key != "" {
			name += " " + printable(f.Key)
		}
		fmt.Fprintf(d.w, "  %s: %s -> %s\n", name, setting(f.A, f.HasA, f.Key), setting(f.B, f.HasB, f.Key))
	}
	if len(was)+len(is) > 0 {
		fmt.Fprintln(d.w, "history")
	}
	historyLines(d.w, "-", was)
	historyLines(d.w, "+", is)
	return nil
}

func historyLines(w io.Writer, sign string, list []image.History) {
	for _, h := range list {
		text := strings.TrimSpace(h.CreatedBy)
		if text == "" {
			text = h.Comment
		}
		fmt.Fprintf(w, "  %s %s\n", sign, printable(strings.ReplaceAll(text, "\n", " ")))
	}
}

// setting is a value; what is there with none, as a port, is shown as such.
func setting(v string, has bool, key string) string {
	switch {
	case !has:
		return "none"
	case v == "" && key != "":
		return "set"
	}
	return printable(v)
}

func (d *diffText) file(c compare.Change) error {
	if !d.files && !d.stat {
		d.files = true
		fmt.Fprintln(d.w, "files")
	}
	_, err := fmt.Fprintf(d.w, "%s %s: %s\n", kindOf(c), shownName(c.Name), d.detail(c))
	return err
}

func (d *diffText) detail(c compare.Change) string {
	if d.stat && c.A != nil && c.B != nil {
		return sizeOf(c.A) + " -> " + sizeOf(c.B)
	}
	if c.A == nil || c.B == nil {
		st := c.A
		if st == nil {
			st = c.B
		}
		if d.stat {
			return sizeOf(st)
		}
		return objectOf(st)
	}
	var parts []string
	for _, x := range c.What {
		parts = append(parts, printable(otherwise(x)))
	}
	return strings.Join(parts, ", ")
}

// sizeOf is how large a file is; of what has no size what it is.
func sizeOf(st *layer.Stat) string {
	if st.Mode&unix.S_IFMT == unix.S_IFREG {
		return humanSize(st.Size)
	}
	return compare.Kind(st)
}

func objectOf(st *layer.Stat) string {
	s := fmt.Sprintf("%s %04o %d:%d", compare.Kind(st), st.Mode&0o7777, st.UID, st.GID)
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		s += " " + humanSize(st.Size)
	case unix.S_IFLNK:
		s += " -> " + printable(st.Link)
	}
	return s
}

func otherwise(x compare.Difference) string {
	switch {
	case x.What == compare.Content && x.Line > 0:
		return fmt.Sprintf("content from byte %d, line %d: %s -> %s", x.Offset, x.Line, x.First, x.Second)
	case x.What == compare.Content:
		return fmt.Sprintf("content from byte %d: %s -> %s", x.Offset, x.First, x.Second)
	case x.What == compare.Attribute:
		return fmt.Sprintf("attribute %s: %s -> %s", x.Attr, none(x.First), none(x.Second))
	case x.What == compare.Link:
		return fmt.Sprintf("hard link to %s -> %s", none(linkOf(x.First)), none(linkOf(x.Second)))
	}
	return fmt.Sprintf("%s %s -> %s", x.What, none(x.First), none(x.Second))
}

// linkOf is another name of a file, if it has one.
func linkOf(name string) string {
	if name == "" {
		return ""
	}
	return rooted(name)
}

func (d *diffText) end(s diffSum) error {
	more := "+" + humanSize(s.Bytes)
	if s.Bytes < 0 {
		more = "-" + humanSize(-s.Bytes)
	}
	_, err := fmt.Fprintf(d.w, "%d settings, %d files: %d added, %d changed, %d deleted, %s\n", s.Settings, s.Added+s.Changed+s.Removed, s.Added, s.Changed, s.Removed, more)
	return err
}

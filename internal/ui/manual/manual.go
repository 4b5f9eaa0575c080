// Package manual turns a tree of commands into manual pages, one for each command, in the language of man(7), and
// into one reference in Markdown. All text comes from the commands: what they are for, how they are used, their flags and
// examples. Nothing is written to disk here.
package manual

import (
	"bytes"
	"fmt"
	"iter"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Options of Pages.
type Options struct {
	// Version is shown at the foot of each page.
	Version string
	// Date is the day of the version, as 2006-01-02.
	Date string
	// Sections end the page of the root command: what concerns all commands.
	Sections []Section
}

// Section is a part of a page: paragraphs, each of which may have a term that it explains.
type Section struct {
	Title string
	Items []Item
}

// Item is a paragraph. Term may be empty.
type Item struct{ Term, Text string }

// Pages gives the page of each command that help shows, with its file's name, such as nacre-image-ls.1.
func Pages(root *cobra.Command, o Options) iter.Seq2[string, []byte] {
	return func(yield func(string, []byte) bool) {
		for c := range shown(root) {
			if !yield(pageName(c)+".1", page(c, o)) {
				return
			}
		}
	}
}

// shown gives root and the commands below it, each before its own, in the order of their names.
func shown(root *cobra.Command) iter.Seq[*cobra.Command] {
	return func(yield func(*cobra.Command) bool) { walk(root, yield) }
}

func walk(c *cobra.Command, yield func(*cobra.Command) bool) bool {
	c.InitDefaultHelpFlag()
	if !yield(c) {
		return false
	}
	for _, sub := range children(c) {
		if !walk(sub, yield) {
			return false
		}
	}
	return true
}

// children are the commands right below c that help shows.
func children(c *cobra.Command) []*cobra.Command {
	list := slices.Clone(c.Commands())
	list = slices.DeleteFunc(list, func(c *cobra.Command) bool { return !c.IsAvailableCommand() })
	slices.SortFunc(list, func(a, b *cobra.Command) int { return strings.Compare(a.Name(), b.Name()) })
	return list
}

func pageName(c *cobra.Command) string { return strings.ReplaceAll(c.CommandPath(), " ", "-") }

// page is the manual page of one command.
func page(c *cobra.Command, o Options) []byte {
	var b roff
	b.macro("TH", strings.ToUpper(pageName(c)), "1", o.Date, "nacre "+o.Version, "User Commands")
	b.section("NAME")
	b.line(escape(pageName(c)) + ` \- ` + escape(c.Short))
	b.section("SYNOPSIS")
	b.line(synopsis(c))
	b.section("DESCRIPTION")
	b.paragraphs(description(c))
	if len(c.Aliases) > 0 {
		b.paragraphs("Other names: " + strings.Join(c.Aliases, ", ") + ".")
	}
	if subs := children(c); len(subs) > 0 {
		b.section("COMMANDS")
		for _, s := range subs {
			b.item(`\fB`+escape(pageName(s))+`\fR(1)`, s.Short)
		}
	}
	b.flags("OPTIONS", c.NonInheritedFlags())
	b.flags("GLOBAL OPTIONS", c.InheritedFlags())
	if c.Example != "" {
		b.section("EXAMPLES")
		b.verbatim(examples(c))
	}
	if !c.HasParent() {
		for _, s := range o.Sections {
			b.section(strings.ToUpper(s.Title))
			for _, i := range s.Items {
				b.item(`\fB`+escape(i.Term)+`\fR`, i.Text)
			}
		}
	} else {
		b.section("SEE ALSO")
		b.line(`\fB` + escape(pageName(c.Parent())) + `\fR(1)`)
	}
	return b.Bytes()
}

// description is the long text of a command, or its short one as a sentence.
func description(c *cobra.Command) string {
	if c.Long != "" {
		return c.Long
	}
	return c.Short + "."
}

// examples are those of a command without the indentation that help shows them with.
func examples(c *cobra.Command) string {
	var lines []string
	for line := range strings.Lines(c.Example) {
		lines = append(lines, strings.TrimPrefix(strings.TrimRight(line, "\n"), "  "))
	}
	return strings.Join(lines, "\n")
}

// synopsis is a command's line of use with its name in bold and the rest as it is.
func synopsis(c *cobra.Command) string {
	use, path := c.UseLine(), c.CommandPath()
	return `\fB` + escape(path) + `\fR` + escape(strings.TrimPrefix(use, path))
}

// roff is a page in the making.
type roff struct{ bytes.Buffer }

func (b *roff) macro(name string, args ...string) {
	b.WriteString("." + name)
	for _, a := range args {
		b.WriteString(` "` + strings.NewReplacer(`\`, `\e`, `"`, `\(dq`).Replace(a) + `"`)
	}
	b.WriteByte('\n')
}

func (b *roff) section(title string) { b.macro("SH", title) }

// line writes text that is escaped already. What would be taken for a macro is protected.
func (b *roff) line(text string) {
	if strings.HasPrefix(text, ".") || strings.HasPrefix(text, "'") {
		b.WriteString(`\&`)
	}
	b.WriteString(text + "\n")
}

// paragraphs writes text; an empty line ends a paragraph.
func (b *roff) paragraphs(text string) {
	for i, p := range strings.Split(strings.TrimSpace(text), "\n\n") {
		if i > 0 || !bytes.HasSuffix(b.Bytes(), []byte("DESCRIPTION\"\n")) {
			b.WriteString(".PP\n")
		}
		for line := range strings.Lines(p) {
			b.line(escape(strings.TrimSpace(line)))
		}
	}
}

// item is a paragraph under a term, which is escaped already.
func (b *roff) item(term, text string) {
	b.WriteString(".TP\n")
	b.line(term)
	b.line(escape(text))
}

func (b *roff) verbatim(text string) {
	b.WriteString(".RS 4\n.nf\n")
	for line := range strings.Lines(text) {
		b.line(escape(strings.TrimRight(line, "\n")))
	}
	b.WriteString(".fi\n.RE\n")
}

// flags lists the flags that help shows.
func (b *roff) flags(title string, set *pflag.FlagSet) {
	if !set.HasAvailableFlags() {
		return
	}
	b.section(title)
	set.VisitAll(func(f *pflag.Flag) {
		if f.Hidden || f.Deprecated != "" {
			return
		}
		value, usage := pflag.UnquoteUsage(f)
		term := `\fB\-\-` + escape(f.Name) + `\fR`
		if f.Shorthand != "" && f.ShorthandDeprecated == "" {
			term = `\fB\-` + escape(f.Shorthand) + `\fR, ` + term
		}
		if value != "" {
			term += ` \fI` + escape(value) + `\fR`
		}
		if d := defaultOf(f); d != "" {
			usage += fmt.Sprintf(" (default %s)", d)
		}
		b.item(term, usage)
	})
}

// defaultOf is the default that is worth telling.
func defaultOf(f *pflag.Flag) string {
	switch f.DefValue {
	case "", "false", "0", "[]", "0s", "<nil>":
		return ""
	}
	return f.DefValue
}

// escape has text come out as it is: backslashes, and hyphens that are meant to be typed.
func escape(s string) string {
	return strings.NewReplacer(`\`, `\e`, "-", `\-`, "…", "...").Replace(s)
}

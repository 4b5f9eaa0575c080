package manual

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

// Markdown is a reference of all commands that help shows, with a table of contents. intro comes first.
func Markdown(root *cobra.Command, intro string) []byte {
	var b bytes.Buffer
	b.WriteString(strings.TrimSpace(intro) + "\n\n")
	for c := range shown(root) {
		if c.HasParent() {
			fmt.Fprintf(&b, "- [%s](#%s): %s\n", c.CommandPath(), pageName(c), c.Short)
		}
	}
	for c := range shown(root) {
		reference(&b, c)
	}
	return b.Bytes()
}

// reference is the section of one command.
func reference(b *bytes.Buffer, c *cobra.Command) {
	fmt.Fprintf(b, "\n## %s\n\n    %s\n\n%s\n", c.CommandPath(), c.UseLine(), description(c))
	if len(c.Aliases) > 0 {
		fmt.Fprintf(b, "\nOther names: %s.\n", strings.Join(c.Aliases, ", "))
	}
	if flags := c.NonInheritedFlags(); flags.HasAvailableFlags() {
		fmt.Fprintf(b, "\nOptions:\n\n%s", indented(flags.FlagUsagesWrapped(110)))
	}
	if c.Example != "" {
		fmt.Fprintf(b, "\nExamples:\n\n%s", indented(examples(c)))
	}
}

// indented is text as a block of code.
func indented(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		b.WriteString(strings.TrimRight("    "+strings.TrimRight(line, "\n"), " ") + "\n")
	}
	return b.String()
}

package main

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// everyCommand calls f with each command that help shows, those below others too.
func everyCommand(t *testing.T, f func(t *testing.T, c *cobra.Command)) {
	t.Helper()
	root := newRoot(&app{}, nil)
	var walk func(c *cobra.Command)
	walk = func(c *cobra.Command) {
		t.Run(c.CommandPath(), func(t *testing.T) { f(t, c) })
		for _, sub := range c.Commands() {
			if sub.IsAvailableCommand() {
				walk(sub)
			}
		}
	}
	walk(root)
}

// TestCommandHelp: each command says in one line what it does, and shows how.
func TestCommandHelp(t *testing.T) {
	everyCommand(t, func(t *testing.T, c *cobra.Command) {
		if c.Short == "" || strings.HasSuffix(c.Short, ".") || strings.ToUpper(c.Short[:1]) != c.Short[:1] {
			t.Errorf("short help %q: want a sentence without a period", c.Short)
		}
		if c.Example == "" {
			t.Error("there is no example")
		}
		if c.RunE == nil {
			t.Error("it does nothing, not even explain itself: groups have RunE: group")
		}
	})
}

// TestCommandExamples: what examples show is right: the commands are there, with their flags and as many arguments as they
// take.
func TestCommandExamples(t *testing.T) {
	everyCommand(t, func(t *testing.T, c *cobra.Command) {
		for _, words := range invocations(t, c.Example) {
			if err := parses(words); err != nil {
				t.Errorf("nacre %s: %v", strings.Join(words, " "), err)
			}
		}
	})
}

// parses tells whether a command line is one of nacre's, as far as that can be told without running it.
func parses(words []string) error {
	root := newRoot(&app{}, words)
	c, rest, err := root.Traverse(words)
	if err != nil {
		return err
	}
	if err := c.ParseFlags(rest); err != nil {
		return err
	}
	return c.ValidateArgs(c.Flags().Args())
}

// invocations are the words after "nacre" in lines of a shell, wherever in a line that is.
func invocations(t *testing.T, text string) (list [][]string) {
	t.Helper()
	inner := regexp.MustCompile(`\$\(([^()]*)\)`)
	for _, m := range inner.FindAllStringSubmatch(text, -1) {
		text += "\n" + m[1]
	}
	text = inner.ReplaceAllString(text, "word")
	for line := range strings.Lines(text) {
		var words []string
		in := false
		flush := func() {
			if in {
				list = append(list, words)
			}
			words, in = nil, false
		}
		for _, w := range shellWords(t, strings.TrimSpace(line)) {
			switch {
			case w.operator:
				flush()
			case !in && w.text == "nacre":
				in = true
			case in:
				words = append(words, w.text)
			}
		}
		flush()
	}
	return list
}

// shellWord is a word of a shell's line, without its quotes; an operator ends a command: | ; & < >, or a comment.
type shellWord struct {
	text     string
	operator bool
}

func shellWords(t *testing.T, line string) (words []shellWord) {
	t.Helper()
	var b strings.Builder
	quote, begun := rune(0), false
	flush := func() {
		if begun {
			words = append(words, shellWord{text: b.String()})
		}
		b.Reset()
		begun = false
	}
	for _, r := range line {
		switch {
		case quote != 0 && r == quote:
			quote = 0
		case quote != 0:
			b.WriteRune(r)
		case r == '"' || r == '\'':
			quote, begun = r, true
		case strings.ContainsRune("|;&<>()", r):
			flush()
			words = append(words, shellWord{operator: true})
		case r == ' ' || r == '\t':
			flush()
		default:
			b.WriteRune(r)
			begun = true
		}
	}
	if quote != 0 {
		t.Errorf("a quote is not closed: %s", line)
	}
	flush()
	return words
}

// lists are the commands that print a table or a list; each has --format, with json.
var lists = []string{
	"nacre images", "nacre image ls", "nacre ps", "nacre container ls", "nacre history", "nacre image history", "nacre volume ls", "nacre network ls",
	"nacre system df", "nacre builder du", "nacre registry ls", "nacre registry tags", "nacre registry referrers", "nacre runtime list", "nacre stats", "nacre info", "nacre version",
}

// TestListsHaveFormat: what lists can be read by programs. testdata/script/format_json.txtar runs them.
func TestListsHaveFormat(t *testing.T) {
	everyCommand(t, func(t *testing.T, c *cobra.Command) {
		listed := slices.Contains(lists, c.CommandPath())
		if !listed && strings.HasPrefix(c.Short, "List ") && c.Name() != "top" && c.Name() != "diff" && c.HasParent() && !c.HasSubCommands() {
			t.Error("it lists, and is not in lists here")
		}
		if f := c.Flags().Lookup("format"); listed && (f == nil || !strings.Contains(f.Usage, "json")) {
			t.Error("it has no --format with json")
		}
	})
}

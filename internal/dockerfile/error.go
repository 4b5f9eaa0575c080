package dockerfile

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
)

// Error is something wrong at a place in a Dockerfile.
type Error struct {
	Pos    string // "Dockerfile:7", or "Dockerfile" where it is the file as a whole
	Line   int    // from 1; 0: the file as a whole
	Column int    // from 1, in characters; 0: the line as a whole
	Text   string // the line, as it is in the file
	Msg    string // without position
	Hint   string // what to do about it ("did you mean RUN?"), or empty
	Err    error  // the cause, for errors.Is; may be nil

	file  *File
	width int // characters from Column that are meant
}

// Error is one line: "Dockerfile:7: unknown instruction: RUNN".
func (e *Error) Error() string { return e.Pos + ": " + printable(e.Msg) }

func (e *Error) Unwrap() error { return e.Err }

// Detail shows the place: the line with its neighbours, a caret below what is
// wrong. It has several lines, each ended; empty where there is no line to show.
//
//	   6 | FROM debian
//	>  7 | RUNN make
//	     | ^^^^
func (e *Error) Detail() string {
	if e.Line <= 0 || e.file == nil || e.Line > len(e.file.lines) {
		return ""
	}
	var b strings.Builder
	for n := max(1, e.Line-2); n <= min(len(e.file.lines), e.Line+1); n++ {
		mark := " "
		if n == e.Line {
			mark = ">"
		}
		text, shift := window(e.file.line(n), e.Column, n == e.Line)
		b.WriteString(strings.TrimRight(fmt.Sprintf("%s%4d | %s", mark, n, text), " ") + "\n")
		if n == e.Line && e.Column > 0 {
			fmt.Fprintf(&b, "      | %s%s\n", strings.Repeat(" ", e.Column-1-shift), strings.Repeat("^", max(1, min(e.width, maxShown))))
		}
	}
	return b.String()
}

// Excerpt shows the place pos, as Detail does; empty where the file has no such place.
func (f *File) Excerpt(pos string) string {
	name, line, _ := strings.Cut(strings.TrimPrefix(pos, f.Name), ":")
	n, err := strconv.Atoi(line)
	if err != nil || name != "" {
		return ""
	}
	return (&Error{Line: n, file: f}).Detail()
}

// maxShown is how many characters of a line Detail shows: enough for any line
// written by hand, little enough not to flood a terminal with a generated one.
const maxShown = 160

// window is what is shown of a line, and how many characters were cut before it
// so that column is in it.
func window(line string, column int, follow bool) (text string, shift int) {
	r := []rune(printable(strings.ReplaceAll(line, "\t", " ")))
	if follow && column > maxShown/2 && len(r) > maxShown {
		shift = column - maxShown/2
		r = r[shift:]
	}
	if len(r) > maxShown {
		r = append(r[:maxShown:maxShown], '…')
	}
	return strings.TrimRight(string(r), " "), shift
}

// printable replaces what could disturb a terminal. One character stays one.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return utf8.RuneError
		}
		return r
	}, s)
}

// ErrorAt is err at the place at. Word, if found there, is what is wrong: the
// column becomes its own. Where it is empty, what err quotes is looked for.
func (f *File) ErrorAt(at []parser.Range, word string, err error) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	msg, hint := splitHint(err.Error())
	if word == "" {
		word = subject(msg)
	}
	msg = plainly(msg)
	s := spanOf(at)
	e := f.errorAt(s.word(word), msg)
	e.Hint, e.Err = cmp.Or(hint, expected(f.instruction(s.first), msg)), err
	return e
}

// locate makes an *Error of an error of BuildKit's packages.
func (f *File) locate(err error) error {
	var s span
	if l, ok := errors.AsType[*parser.LocationError](err); ok {
		if len(l.Locations) > 0 {
			s = spanOf(l.Locations[0])
		}
		err = l.Unwrap()
	}
	msg, hint := splitHint(err.Error())
	if u, ok := errors.AsType[*instructions.UnknownInstructionError](err); ok {
		e := f.errorAt(s.word(u.Instruction), msg)
		e.Hint = DidYouMean(strings.ToUpper(u.Instruction), instructionNames)
		return e
	}
	if flag, ok := strings.CutPrefix(msg, "unknown flag: "); ok {
		e := f.errorAt(s.word(flag), msg)
		e.Hint = flagHint(f.instruction(s.first), flag)
		return e
	}
	switch {
	case strings.HasPrefix(msg, "invalid network mode "):
		hint = oneOf(subject(msg), "default", "none", "host")
	case strings.HasPrefix(msg, "security ") && strings.HasSuffix(msg, " is not valid"):
		hint = oneOf(subject(msg), "sandbox", "insecure")
	case strings.HasPrefix(msg, "invalid escape token"), strings.HasSuffix(msg, "parser directive can be used"):
		s.first++ // the parser counts directives from 0
		s.last = s.first
	case msg == "no build stage in current context":
		hint = "a stage begins with FROM; only ARG may come before it"
	}
	word := subject(msg)
	msg = plainly(msg)
	if msg == "unterminated heredoc" {
		hint = f.unterminated(s.first)
	}
	e := f.errorAt(s.word(word), msg)
	e.Hint, e.Err = cmp.Or(hint, expected(f.instruction(s.first), msg)), err
	return e
}

// instruction is the first word of line n.
func (f *File) instruction(n int) string {
	words := strings.Fields(f.line(n))
	if len(words) == 0 {
		return ""
	}
	return words[0]
}

// unterminated is what would end the heredoc that begins in line n.
func (f *File) unterminated(n int) string {
	_, name, ok := strings.Cut(f.line(n), "<<")
	if !ok {
		return ""
	}
	name, _, _ = strings.Cut(strings.TrimPrefix(name, "-"), " ")
	return "a line of " + strings.Trim(name, `"'`) + " alone ends it"
}

// splitHint parts a message from the suggestion BuildKit ends it with.
func splitHint(msg string) (text, hint string) {
	if rest, ok := strings.CutSuffix(msg, "?)"); ok {
		if i := strings.LastIndex(rest, " (did you mean "); i >= 0 {
			return msg[:i], rest[i+2:] + "?"
		}
	}
	return msg, ""
}

// subject is the word a message is about: what it quotes, a flag, or what follows
// its last colon.
func subject(msg string) string {
	if i := strings.IndexByte(msg, '"'); i >= 0 {
		if q, err := strconv.QuotedPrefix(msg[i:]); err == nil {
			word, _ := strconv.Unquote(q)
			return word
		}
	}
	for _, quote := range []string{"'", "`"} {
		if _, rest, ok := strings.Cut(msg, quote); ok {
			if word, _, ok := strings.Cut(rest, quote); ok {
				return word
			}
		}
	}
	if rest, ok := strings.CutPrefix(msg, "invalid value "); ok {
		if word, _, ok := strings.Cut(rest, " for "); ok {
			return word
		}
	}
	if i := strings.Index(msg, "--"); i >= 0 {
		word, _, _ := strings.Cut(msg[i:], " ")
		return strings.TrimRight(word, ":,")
	}
	if i := strings.LastIndex(msg, ": "); i >= 0 {
		return msg[i+2:]
	}
	return ""
}

func (f *File) errorAt(s span, msg string) *Error {
	e := &Error{Msg: msg, file: f}
	e.Line, e.Column, e.width = f.find(s)
	e.Pos, e.Text = f.pos(e.Line), f.line(e.Line)
	return e
}

// line is line n of the file without its end, empty where there is none.
func (f *File) line(n int) string {
	if n < 1 || n > len(f.lines) {
		return ""
	}
	return strings.TrimSuffix(f.lines[n-1], "\r")
}

// find is the place of a span's word, or of its first character that is not blank.
func (f *File) find(s span) (line, column, width int) {
	if s.first <= 0 {
		return 0, 0, 0
	}
	s.first = min(s.first, len(f.lines))
	for n := s.first; s.text != "" && n <= min(max(s.first, s.last), len(f.lines)); n++ {
		text := f.line(n)
		if i := indexWord(text, s.text); i >= 0 {
			return n, utf8.RuneCountInString(text[:i]) + 1, utf8.RuneCountInString(s.text)
		}
	}
	text := f.line(s.first)
	blank := len(text) - len(strings.TrimLeft(text, " \t\ufeff"))
	word, _, _ := strings.Cut(text[blank:], " ")
	return s.first, utf8.RuneCountInString(text[:blank]) + 1, utf8.RuneCountInString(word)
}

// indexWord is where word is in text, as a word of its own if it is somewhere;
// -1 where it is not at all.
func indexWord(text, word string) int {
	letter := func(i int) bool {
		if i < 0 || i >= len(text) {
			return false
		}
		c := rune(text[i])
		return c >= utf8.RuneSelf || c == '_' || unicode.IsLetter(c) || unicode.IsDigit(c)
	}
	for i := 0; ; {
		j := strings.Index(text[i:], word)
		if j < 0 {
			return strings.Index(text, word)
		}
		if i += j; !letter(i-1) && !letter(i+len(word)) {
			return i
		}
		i++
	}
}

// span is a range of lines, and a word in them that is meant.
type span struct {
	first, last int // from 1; 0: nowhere
	text        string
}

func spanOf(at []parser.Range) span {
	if len(at) == 0 {
		return span{}
	}
	s := span{first: math.MaxInt}
	for _, r := range at {
		s.first, s.last = min(s.first, r.Start.Line), max(s.last, r.End.Line)
	}
	return s
}

func (s span) word(text string) span {
	s.text = text
	return s
}

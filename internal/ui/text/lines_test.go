package text

import (
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"
)

func TestLineSplitter(t *testing.T) {
	long := strings.Repeat("x", maxLine)
	cases := []struct {
		name string
		in   []string
		want []string
	}{
		{"lines", []string{"a\nb\n"}, []string{"a", "b"}},
		{"in pieces", []string{"a", "b\nc", "", "d\n"}, []string{"ab", "cd"}},
		{"no end", []string{"a\nb"}, []string{"a", "b"}},
		{"empty lines", []string{"\n\n", "\n"}, []string{"", "", ""}},
		{"crlf", []string{"a\r\nb\r", "\n"}, []string{"a", "b"}},
		{"progress bar", []string{"1%\r", "50%\r100%\n"}, []string{"100%"}},
		{"progress bar that returns last", []string{"1%\r100%\r"}, []string{"100%"}},
		{"progress bar without end", []string{strings.Repeat("1234567%\r", maxLine), "done\n"}, []string{"done"}},
		{"just long enough", []string{long + "\n"}, []string{long}},
		{"too long", []string{long + "y\n"}, []string{long, "y"}},
		{"far too long", []string{long, long, "z"}, []string{long, long, "z"}},
		{"bytes", []string{"\xff\x00\n"}, []string{"\xff\x00"}},
	}
	for _, c := range cases {
		var l lineSplitter
		var got []string
		for _, s := range c.in {
			got = append(got, l.add([]byte(s))...)
			if len(l.part) > maxLine {
				t.Errorf("%s: holds %d bytes", c.name, len(l.part))
			}
		}
		got = append(got, l.flush()...)
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %.60q, want %.60q", c.name, got, c.want)
		}
	}
}

func TestOneLine(t *testing.T) {
	for in, want := range map[string]string{
		"plain":                       "plain",
		"tab\tand\nline":              "tab and line",
		"\x1b[31mred\x1b[0m":          "red",
		"\x1b]0;title\x07x":           "x",
		"\x1b]8;;http://x\x1b\\link":  "link",
		"\x1b(Bx\x1bcy":               "xy",
		"\x1b[":                       "",
		"\x1b]never ends":             "",
		"\x1b":                        "",
		"a\x00b\x07\x7f\u0085c":       "abc",
		"\u202eevil":                  "evil",
		"bad \xff byte":               "bad \ufffd byte",
		"漢字 é":                        "漢字 é",
		"\x1bP1$r\x1b\\after\x9b31m!": "after\ufffd31m!",
	} {
		if got := oneLine(in); got != want {
			t.Errorf("oneLine(%q) is %q, want %q", in, got, want)
		}
	}
}

func TestClip(t *testing.T) {
	for _, c := range []struct {
		s    string
		n    int
		want string
	}{
		{"abc", 5, "abc"}, {"abc", 3, "abc"}, {"abc", 2, "ab"}, {"abc", 0, ""}, {"漢字", 3, "漢"}, {"漢字", 1, ""},
		{"e\u0301x", 1, "e\u0301"}, {"", 0, ""},
	} {
		if got := clip(c.s, c.n); got != c.want {
			t.Errorf("clip(%q, %d) is %q, want %q", c.s, c.n, got, c.want)
		}
	}
}

func TestStamp(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0.000", 123 * time.Millisecond: "0.123", 12345 * time.Millisecond: "12.35", 123456 * time.Millisecond: "123.5", time.Hour: "3600.0",
	} {
		if got := stamp(d); got != want {
			t.Errorf("stamp(%v) is %q, want %q", d, got, want)
		}
	}
}

func FuzzLines(f *testing.F) {
	f.Add("a\r\nb\x1b[31mc\n", 7)
	f.Add("\x1b]0;x\x07漢字\u202e\xff", 3)
	f.Fuzz(func(t *testing.T, s string, n int) {
		clean := oneLine(s)
		for _, r := range clean {
			if unicode.IsControl(r) {
				t.Errorf("%q has control character %q", clean, r)
			}
		}
		if !utf8.ValidString(clean) || oneLine(clean) != clean {
			t.Errorf("%q is not clean", clean)
		}
		if n >= 0 && width(clip(clean, n)) > n {
			t.Errorf("clip(%q, %d) is too wide", clean, n)
		}
		// However a stream is cut into writes, the lines are the same.
		var whole, pieces lineSplitter
		want := append(whole.add([]byte(s)), whole.flush()...)
		var got []string
		for i := range len(s) {
			got = append(got, pieces.add([]byte(s[i:i+1]))...)
		}
		got = append(got, pieces.flush()...)
		if len(s) < maxLine && !slices.Equal(got, want) {
			t.Errorf("in pieces %q, at once %q", got, want)
		}
	})
}

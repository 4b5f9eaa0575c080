package main

import (
	"bytes"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// What images, containers and volumes say of themselves was written by others, and a terminal does what it is told: it could be given
// another title, or be made to show what is not so. So what is there for people to read has no control characters in it. What
// comes of a template of the user's own is as it is, for programs to read.

// printable replaces what could disturb a terminal: messages quote names and lines
// that others wrote.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r != '\n' && r != '\t' && !unicode.IsPrint(r) {
			return utf8.RuneError
		}
		return r
	}, s)
}

// harmless is a table without what moves the cursor, changes how things are shown or reorders them.
func harmless(table []byte) []byte {
	return bytes.Map(func(r rune) rune {
		if r != '\n' && r != '\t' && (unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r)) {
			return utf8.RuneError
		}
		return r
	}, table)
}

// escapedJSON has no control characters of which JSON allows: DEL, and those that are sequences by themselves (ECMA-48, C1).
func escapedJSON(text []byte) []byte {
	if !bytes.ContainsFunc(text, isLateControl) {
		return text
	}
	var b bytes.Buffer
	for _, r := range string(text) {
		if isLateControl(r) {
			fmt.Fprintf(&b, `\u%04x`, r)
		} else {
			b.WriteRune(r)
		}
	}
	return b.Bytes()
}

func isLateControl(r rune) bool { return r >= 0x7f && r < 0xa0 }

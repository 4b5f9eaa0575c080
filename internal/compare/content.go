package compare

import (
	"bytes"
	"fmt"
	"io"
	"unicode/utf8"

	"nacre/internal/layer"
)

const (
	block   = 64 << 10
	excerpt = 100 // bytes of a line that are shown
)

// contents compares two files; nil: they are the same.
func contents(a, b opener, sa, sb *layer.Stat) (*Difference, error) {
	fa, err := a.Open(sa.Name)
	if err != nil {
		return nil, err
	}
	defer fa.Close()
	fb, err := b.Open(sb.Name)
	if err != nil {
		return nil, err
	}
	defer fb.Close()
	size := min(block, max(sa.Size, sb.Size)+1) // most files are small
	bufA, bufB := make([]byte, size), make([]byte, size)
	d := Difference{Name: sa.Name, What: Content, Line: 1}
	var line []byte // what the files have in common of the line that is being read, its end
	for {
		na, err := fill(fa, bufA)
		if err != nil {
			return nil, err
		}
		nb, err := fill(fb, bufB)
		if err != nil {
			return nil, err
		}
		same := common(bufA[:na], bufB[:nb])
		d.Offset += int64(same)
		d.Line += bytes.Count(bufA[:same], []byte{'\n'})
		line = lineEnd(line, bufA[:same])
		switch {
		case same < na || same < nb:
			d.show(line, bufA[same:na], bufB[same:nb])
			return &d, nil
		case na < len(bufA):
			return nil, nil
		}
	}
}

// fill reads until buf is full or the file ends.
func fill(r io.Reader, buf []byte) (int, error) {
	n, err := io.ReadFull(r, buf)
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		err = nil
	}
	return n, err
}

// common is how many bytes a and b begin with alike.
func common(a, b []byte) int {
	n := min(len(a), len(b))
	if bytes.Equal(a[:n], b[:n]) {
		return n
	}
	for i := range n {
		if a[i] != b[i] {
			return i
		}
	}
	return n
}

// lineEnd is the end of what comes after the last newline of line and more.
func lineEnd(line, more []byte) []byte {
	if i := bytes.LastIndexByte(more, '\n'); i >= 0 {
		line, more = nil, more[i+1:]
	}
	line = append(line, more...)
	if len(line) > excerpt/2 {
		line = bytes.Clone(line[len(line)-excerpt/2:])
	}
	return line
}

// show puts down the line of each file, or its bytes where it is no text.
func (d *Difference) show(before, a, b []byte) {
	la, lb := firstLine(before, a), firstLine(before, b)
	if text(la) && text(lb) && !bytes.Equal(la, lb) { // else they differ in their ends
		d.First, d.Second = fmt.Sprintf("%q", la), fmt.Sprintf("%q", lb)
		return
	}
	d.Line = 0
	d.First, d.Second = some(a), some(b)
}

func firstLine(before, rest []byte) []byte {
	if i := bytes.IndexByte(rest, '\n'); i >= 0 {
		rest = rest[:i+1]
	}
	return bytes.TrimSuffix([]byte(clip(string(before)+string(rest))), []byte("\n"))
}

func text(line []byte) bool {
	return !bytes.ContainsFunc(line, func(r rune) bool { return r < ' ' && r != '\t' && r != '\r' || r == utf8.RuneError })
}

// some are the first bytes of what differs.
func some(rest []byte) string {
	if len(rest) == 0 {
		return "end of file"
	}
	return fmt.Sprintf("% x", rest[:min(len(rest), 8)])
}

// clip shortens what is long, between characters.
func clip(s string) string {
	if len(s) <= excerpt {
		return s
	}
	n := excerpt
	for n > excerpt-utf8.UTFMax && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

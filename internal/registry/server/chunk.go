package server

import (
	"strconv"
	"strings"
)

// chunk is what a request says of the content it carries.
type chunk struct {
	ranged bool  // it says where it belongs
	first  int64 // if so: the offset of its first byte
	length int64 // bytes; -1: not said
}

// parseChunk reads a Content-Range, "0-1023" as the spec has it or "bytes 0-1023/2048" as HTTP
// has it, and compares it with a Content-Length, -1 if unknown. Errors: *Error.
func parseChunk(ranges []string, contentLength int64) (chunk, error) {
	if len(ranges) == 0 {
		return chunk{length: contentLength}, nil
	}
	if len(ranges) > 1 {
		return chunk{}, Errorf(CodeUploadInvalid, "more than one Content-Range")
	}
	s := strings.TrimSpace(ranges[0])
	if rest, ok := strings.CutPrefix(s, "bytes"); ok {
		s, _, _ = strings.Cut(strings.TrimLeft(rest, " ="), "/")
	}
	a, b, ok := strings.Cut(s, "-")
	first, err1 := parseOffset(a)
	last, err2 := parseOffset(b)
	if !ok || err1 != nil || err2 != nil || last < first {
		return chunk{}, Errorf(CodeUploadInvalid, "Content-Range %.100q is not of the form first-last", ranges[0])
	}
	c := chunk{ranged: true, first: first, length: last - first + 1}
	if contentLength >= 0 && contentLength != c.length {
		return chunk{}, Errorf(CodeSizeInvalid, "Content-Range %.100q is of %d bytes, and Content-Length says %d", ranges[0], c.length, contentLength)
	}
	return c, nil
}

// parseOffset reads an offset; the length of any range of two still is an int64.
func parseOffset(s string) (int64, error) {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' { // no sign
			return 0, strconv.ErrSyntax
		}
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if n == 1<<63-1 {
		err = strconv.ErrRange
	}
	return n, err
}

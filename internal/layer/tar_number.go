package layer

import (
	"bytes"
	"strconv"
	"strings"
)

// cString is a field up to its first NUL.
func cString(b []byte) string {
	if i := bytes.IndexByte(b, 0); i >= 0 {
		b = b[:i]
	}
	return string(b)
}

// parseNumber reads a numeric field: octal digits padded with spaces or NULs,
// or, where the first bit is set, a big endian number of two's complement.
func parseNumber(b []byte) (int64, bool) {
	if b[0]&0x80 == 0 {
		return parseOctal(b)
	}
	invert := byte(0)
	if b[0]&0x40 != 0 {
		invert = 0xff
	}
	v := uint64(0)
	for i, c := range b {
		c ^= invert
		if i == 0 {
			c &= 0x7f
		}
		if v>>56 != 0 {
			return 0, false
		}
		v = v<<8 | uint64(c)
	}
	if v>>63 != 0 {
		return 0, false
	}
	if invert != 0 {
		return ^int64(v), true
	}
	return int64(v), true
}

func parseOctal(b []byte) (int64, bool) {
	b = bytes.Trim(b, " \x00")
	if i := bytes.IndexByte(b, 0); i >= 0 {
		b = b[:i]
	}
	v := int64(0)
	for _, c := range b {
		if c < '0' || c > '7' || v>>60 != 0 {
			return 0, false
		}
		v = v<<3 | int64(c-'0')
	}
	return v, true
}

// validChecksum checks a header's checksum, which is a sum of its bytes, or, by
// some old writers, of the bytes taken as signed.
func validChecksum(b []byte) bool {
	want, ok := parseOctal(b[148:156])
	if !ok {
		return false
	}
	unsigned, signed := int64(0), int64(0)
	for _, c := range b[:blockSize] {
		unsigned += int64(c)
		signed += int64(int8(c))
	}
	for _, c := range b[148:156] { // the field itself counts as spaces
		unsigned += ' ' - int64(c)
		signed += ' ' - int64(int8(c))
	}
	return want == unsigned || want == signed
}

// parsePAXTime reads seconds with an optional fraction, which is cut to nanoseconds.
func parsePAXTime(s string) (sec, nsec int64, ok bool) {
	whole, fraction, _ := strings.Cut(s, ".")
	sec, err := strconv.ParseInt(whole, 10, 64)
	if err != nil {
		return 0, 0, false
	}
	for i := range 9 {
		nsec *= 10
		if i < len(fraction) {
			nsec += int64(fraction[i] - '0')
		}
	}
	for i := range len(fraction) {
		if fraction[i] < '0' || fraction[i] > '9' {
			return 0, 0, false
		}
	}
	if nsec > 0 && whole[0] == '-' {
		sec, nsec = sec-1, 1e9-nsec
	}
	return sec, nsec, true
}

package cache

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"strconv"
)

// ErrFormat: bytes that Encode did not write.
var ErrFormat = errors.New("malformed cache record")

// Encode returns the fields as they were hashed: the key is the sha256 of these
// bytes. One line per field, "<bytes>:<name>=<bytes>:<value>"; names and values may be any bytes.
func (r Record) Encode() []byte {
	var b bytes.Buffer
	for _, f := range r.Fields {
		fmt.Fprintf(&b, "%d:%s=%d:%s\n", len(f.Name), f.Name, len(f.Value), f.Value)
	}
	return b.Bytes()
}

// Valid tells whether the key is that of the fields.
func (r Record) Valid() bool { return r.Key == sha256.Sum256(r.Encode()) }

// Decode is the reverse of Encode. Errors: ErrFormat.
func Decode(slot string, data []byte) (Record, error) {
	r := Record{Key: sha256.Sum256(data), Slot: slot}
	for rest := data; len(rest) > 0; {
		var f Field
		var err error
		if f.Name, rest, err = text(rest, '='); err != nil {
			return Record{}, fmt.Errorf("field %d: %w", len(r.Fields), err)
		}
		if f.Value, rest, err = text(rest, '\n'); err != nil {
			return Record{}, fmt.Errorf("field %d: %w", len(r.Fields), err)
		}
		r.Fields = append(r.Fields, f)
	}
	return r, nil
}

// text reads "<n>:<n bytes><end>".
func text(data []byte, end byte) (s string, rest []byte, err error) {
	digits, rest, ok := bytes.Cut(data, []byte{':'})
	n, err := strconv.Atoi(string(digits))
	// Only the shortest form of a number, so that one record has one encoding.
	if !ok || err != nil || n < 0 || strconv.Itoa(n) != string(digits) || n >= len(rest) || rest[n] != end {
		return "", nil, ErrFormat
	}
	return string(rest[:n]), rest[n+1:], nil
}

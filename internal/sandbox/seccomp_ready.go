package sandbox

import (
	_ "embed"
	"encoding/binary"
	"strings"
)

// readyFilters are filters that were compiled beforehand, as most containers run by the default profile and compiling it
// is half a millisecond of each start. One after the other: its profile's key, the length of the program (32 bits, little endian),
// the program. TestReadyFilters makes the file, with UPDATE=1, and fails where it is not what would be compiled.
//
//go:embed seccomp_ready.bin
var readyFilters string

// readyFilter is the filter of a profile, where it is among them.
func readyFilter(key [32]byte) (program []byte, ok bool) {
	for rest := readyFilters; len(rest) > len(key)+4; {
		size := len(key) + 4 + int(binary.LittleEndian.Uint32([]byte(rest[len(key):len(key)+4])))
		if size > len(rest) {
			return nil, false
		}
		if strings.HasPrefix(rest, string(key[:])) {
			return []byte(rest[len(key)+4 : size]), true
		}
		rest = rest[size:]
	}
	return nil, false
}

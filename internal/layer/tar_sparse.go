package layer

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// maxSegments bounds the parts of a sparse file.
const maxSegments = 1 << 17

// addSegment appends a part of a sparse file; where it is in the tar is found later.
func (e *tarEntry) addSegment(off, size int64) error {
	if len(e.sparse) == maxSegments {
		return fmt.Errorf("sparse file of more than %d parts: %w", maxSegments, ErrLimit)
	}
	e.sparse = append(e.sparse, segment{off: off, size: size})
	return nil
}

// placeSegments checks a sparse map and finds the parts in the tar, where they
// lie one behind the other.
func (e *tarEntry) placeSegments() error {
	if isHeaderOnly(e.kind) || e.real < 0 {
		return fmt.Errorf("sparse map of something that is no file: %w", ErrFormat)
	}
	end, total := int64(0), int64(0)
	kept := e.sparse[:0]
	for _, s := range e.sparse {
		if s.off < 0 || s.size < 0 || s.off > math.MaxInt64-s.size || s.off < end || s.off+s.size > e.real || s.size > e.size-total {
			return fmt.Errorf("sparse map does not fit the file: %w", ErrFormat)
		}
		end = s.off + s.size
		s.data = e.data + total
		total += s.size
		if s.size > 0 {
			kept = append(kept, s)
		}
	}
	if total != e.size {
		return fmt.Errorf("sparse map tells of %d bytes, the tar has %d: %w", total, e.size, ErrFormat)
	}
	e.sparse = kept
	return nil
}

// sparseGNU reads the map of an old GNU sparse file: four parts in the header
// and 21 in each extension block.
func (r *tarReader) sparseGNU(e *tarEntry) error {
	if r.format() != formatGNU {
		return fmt.Errorf("sparse file of an unknown kind: %w", ErrFormat)
	}
	var ok bool
	if e.real, ok = parseNumber(r.blk[offRealSize : offRealSize+12]); !ok {
		return fmt.Errorf("bad number in sparse map: %w", ErrFormat)
	}
	e.isSparse = true
	list, extended := r.blk[offSparse:offExtended], r.blk[offExtended] != 0
	for {
		for ; len(list) >= 24 && list[0] != 0; list = list[24:] {
			off, ok1 := parseNumber(list[:12])
			size, ok2 := parseNumber(list[12:24])
			if !ok1 || !ok2 {
				return fmt.Errorf("bad number in sparse map: %w", ErrFormat)
			}
			if err := e.addSegment(off, size); err != nil {
				return err
			}
		}
		if !extended {
			return nil
		}
		if err := truncated(r.in.read(r.blk[:])); err != nil {
			return err
		}
		list, extended = r.blk[:21*24], r.blk[21*24] != 0
	}
}

// sparsePAX recognizes the PAX forms of sparse files, versions 0.0 and 0.1 with
// the map in a record, 1.0 with the map in front of the content.
func (r *tarReader) sparsePAX(e *tarEntry) error {
	major, minor := r.pax["GNU.sparse.major"], r.pax["GNU.sparse.minor"]
	switch {
	case major == "0" && (minor == "0" || minor == "1"), major == "1" && minor == "0":
	case major != "" || minor != "" || r.pax["GNU.sparse.map"] == "":
		return nil
	}
	if name := r.pax["GNU.sparse.name"]; name != "" {
		e.name = name
	}
	size := r.pax["GNU.sparse.size"]
	if size == "" {
		size = r.pax["GNU.sparse.realsize"]
	}
	if size != "" {
		var err error
		if e.real, err = strconv.ParseInt(size, 10, 64); err != nil {
			return fmt.Errorf("size of sparse file %.40q: %w", size, ErrFormat)
		}
	}
	e.isSparse = true
	if major == "1" {
		return r.sparseInline(e)
	}
	return sparseRecord(e, r.pax["GNU.sparse.numblocks"], r.pax["GNU.sparse.map"])
}

func sparseRecord(e *tarEntry, count, list string) error {
	n, err := strconv.ParseInt(count, 10, 64)
	var parts []string
	if list != "" {
		parts = strings.Split(list, ",")
	}
	if err != nil || n < 0 || n > maxSpecial || int64(len(parts)) != 2*n {
		return fmt.Errorf("sparse map of %.20q parts: %w", count, ErrFormat)
	}
	for ; len(parts) >= 2; parts = parts[2:] {
		off, err1 := strconv.ParseInt(parts[0], 10, 64)
		size, err2 := strconv.ParseInt(parts[1], 10, 64)
		if err1 != nil || err2 != nil {
			return fmt.Errorf("bad number in sparse map: %w", ErrFormat)
		}
		if err := e.addSegment(off, size); err != nil {
			return err
		}
	}
	return nil
}

// sparseInline reads a map of version 1.0: decimal numbers on lines of their own,
// their count first, padded to whole blocks that count as content.
func (r *tarReader) sparseInline(e *tarEntry) error {
	var text string
	read := 0
	number := func() (int64, error) {
		for !strings.Contains(text, "\n") {
			if read += blockSize; read > maxSpecial {
				return 0, fmt.Errorf("sparse map of more than %d bytes: %w", maxSpecial, ErrLimit)
			}
			if e.size < blockSize {
				return 0, fmt.Errorf("sparse map is longer than its entry: %w", ErrFormat)
			}
			if err := truncated(r.in.read(r.blk[:])); err != nil {
				return 0, err
			}
			e.size -= blockSize
			text += string(r.blk[:])
		}
		var line string
		line, text, _ = strings.Cut(text, "\n")
		v, err := strconv.ParseInt(line, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("bad number in sparse map: %w", ErrFormat)
		}
		return v, nil
	}
	count, err := number()
	if err == nil && (count < 0 || count > maxSegments) {
		err = fmt.Errorf("sparse file of %d parts: %w", count, ErrLimit)
	}
	for ; err == nil && count > 0; count-- {
		var off, size int64
		if off, err = number(); err != nil {
			return err
		}
		if size, err = number(); err != nil {
			return err
		}
		err = e.addSegment(off, size)
	}
	return err
}

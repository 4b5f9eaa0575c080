package layer

import (
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// maxSpecial bounds what PAX headers, long names and sparse maps may take,
	// as libarchive and Go do.
	maxSpecial = 1 << 20

	typeRegOld, typeCont, typeSparse    = 0, '7', 'S'
	typePAX, typePAXGlobal              = 'x', 'g'
	typeLongName, typeLongLink          = 'L', 'K'
	offMagic, offPrefix, lenMagicUSTAR  = 257, 345, 6
	offSparse, offRealSize, offExtended = 386, 483, 482
)

// tarEntry is one entry of a tar, as it says of itself.
type tarEntry struct {
	header
	nsec   int64
	uid64  int64
	gid64  int64
	mode64 int64
	dev64  [2]int64
	xattrs map[string]string

	real     int64 // size of the file; header.size is what it takes in the tar
	data     int64 // where the content begins in the stream
	isSparse bool
	sparse   []segment
}

// tarReader reads the entries of a tar. It takes what archive/tar of Go takes
// (docker and containerd read with that, and two readers that disagree on a layer
// are an attack) and knows besides where the content is.
type tarReader struct {
	in  *feed
	blk [blockSize]byte

	pax      map[string]string // of the next entry
	longName string
	longLink string
}

// next returns the next entry, whose content (header.size bytes) and padding the
// caller must take from in. The end is a nil entry.
func (r *tarReader) next() (*tarEntry, error) {
	r.pax, r.longName, r.longLink = nil, "", ""
	for {
		at := r.in.pos
		e, err := r.header()
		if e == nil || err != nil {
			return nil, err
		}
		switch e.kind {
		case typePAX:
			r.pax, err = r.readPAX(e.size)
		case typePAXGlobal: // Go lets it take effect on nothing, and undo what came before
			_, err = r.readPAX(e.size)
			r.pax, r.longName, r.longLink = nil, "", ""
		case typeLongName:
			r.longName, err = r.special(e.size)
			r.longName = cString([]byte(r.longName))
		case typeLongLink:
			r.longLink, err = r.special(e.size)
			r.longLink = cString([]byte(r.longLink))
		default:
			if err = r.complete(e); err == nil {
				return e, nil
			}
		}
		if err != nil {
			return nil, fmt.Errorf("entry %q at byte %d: %w", shorten(e.name), at, err)
		}
	}
}

// header reads one header block; nil at the end of the archive.
func (r *tarReader) header() (*tarEntry, error) {
	at := r.in.pos
	switch err := r.block(); {
	case err != nil || r.in.pos == at:
		return nil, err
	case r.blk == zeros:
		second := r.in.pos
		if err := r.block(); err != nil || r.in.pos == second || r.blk == zeros {
			return nil, err
		}
		return nil, fmt.Errorf("byte %d: data after a block of zeros: %w", second, ErrFormat)
	case !validChecksum(r.blk[:]):
		return nil, fmt.Errorf("byte %d: not a tar header: %w", at, ErrFormat)
	}
	e := &tarEntry{}
	b := r.blk[:]
	e.name, e.link, e.kind = cString(b[:100]), cString(b[157:257]), b[156]
	ok := true
	number := func(from, to int) int64 {
		v, valid := parseNumber(b[from:to])
		ok = ok && valid
		return v
	}
	e.size, e.mode64 = number(124, 136), number(100, 108)
	e.uid64, e.gid64, e.sec = number(108, 116), number(116, 124), number(136, 148)
	if format := r.format(); format != formatV7 {
		e.dev64 = [2]int64{number(329, 337), number(337, 345)}
		if prefix := r.prefix(format); prefix != "" {
			e.name = prefix + "/" + e.name
		}
	}
	if !ok {
		return nil, fmt.Errorf("entry %q at byte %d: bad number in header: %w", e.name, at, ErrFormat)
	}
	if isHeaderOnly(e.kind) {
		e.size = 0
	}
	if e.size < 0 {
		return nil, fmt.Errorf("entry %q at byte %d: size %d: %w", e.name, at, e.size, ErrFormat)
	}
	return e, nil
}

// block reads the next block. At the end of the stream it reads none and is nil.
func (r *tarReader) block() error {
	at := r.in.pos
	err := r.in.read(r.blk[:])
	switch {
	case err == nil:
		return nil
	case err == io.EOF:
		return nil
	}
	return fmt.Errorf("byte %d: header: %w", at, err)
}

const (
	formatV7 = iota
	formatUSTAR
	formatSTAR
	formatGNU
)

func (r *tarReader) format() int {
	magic := string(r.blk[offMagic : offMagic+8])
	switch {
	case magic[:lenMagicUSTAR] == "ustar\x00" && string(r.blk[508:512]) == "tar\x00":
		return formatSTAR
	case magic[:lenMagicUSTAR] == "ustar\x00":
		return formatUSTAR
	case magic == "ustar  \x00":
		return formatGNU
	}
	return formatV7
}

// prefix is the front of a long name. GNU has times in its place, but old
// writers in Go put a prefix there too: what is no time but ASCII is taken for one
// (https://golang.org/issue/12594).
func (r *tarReader) prefix(format int) string {
	b := r.blk[:]
	switch format {
	case formatUSTAR:
		return cString(b[offPrefix : offPrefix+155])
	case formatSTAR:
		return cString(b[offPrefix : offPrefix+131])
	}
	for _, f := range [...][]byte{b[345:357], b[357:369]} {
		if _, ok := parseNumber(f); f[0] != 0 && !ok {
			if s := cString(b[offPrefix : offPrefix+155]); isASCII(s) {
				return s
			}
			break
		}
	}
	return ""
}

func isHeaderOnly(kind byte) bool {
	switch kind {
	case typeLink, typeSymlink, typeChar, typeBlock, typeDir, typeFifo:
		return true
	}
	return false
}

// special reads the content of an entry that describes the next one.
func (r *tarReader) special(size int64) (string, error) {
	if size > maxSpecial {
		return "", fmt.Errorf("%d bytes of extended header: %w", size, ErrLimit)
	}
	b := make([]byte, size)
	err := r.in.read(b)
	if err == nil {
		err = r.in.skip(-size & (blockSize - 1))
	}
	return string(b), truncated(err)
}

// complete applies what extended headers said to e.
func (r *tarReader) complete(e *tarEntry) error {
	if err := e.merge(r.pax); err != nil {
		return err
	}
	if r.longName != "" {
		e.name = r.longName
	}
	if r.longLink != "" {
		e.link = r.longLink
	}
	if e.kind == typeRegOld {
		e.kind = typeReg
		if strings.HasSuffix(e.name, "/") {
			e.kind = typeDir
		}
	}
	if isHeaderOnly(e.kind) {
		e.size = 0
	}
	if e.size < 0 {
		return fmt.Errorf("size %d: %w", e.size, ErrFormat)
	}
	e.real = e.size
	var err error
	if e.kind == typeSparse {
		err = r.sparseGNU(e)
	} else {
		err = r.sparsePAX(e)
	}
	e.data = r.in.pos
	if err == nil && e.isSparse {
		err = e.placeSegments()
	}
	return err
}

// merge applies PAX records. An empty value leaves the header's.
func (e *tarEntry) merge(records map[string]string) error {
	for k, v := range records {
		if name, ok := strings.CutPrefix(k, "SCHILY.xattr."); ok {
			if e.xattrs == nil {
				e.xattrs = make(map[string]string)
			}
			e.xattrs[name] = v
			continue
		}
		if v == "" {
			continue
		}
		var err error
		ok := true
		switch k {
		case "path":
			e.name = v
		case "linkpath":
			e.link = v
		case "uid":
			e.uid64, err = strconv.ParseInt(v, 10, 64)
		case "gid":
			e.gid64, err = strconv.ParseInt(v, 10, 64)
		case "size":
			e.size, err = strconv.ParseInt(v, 10, 64)
		case "mtime":
			e.sec, e.nsec, ok = parsePAXTime(v)
		case "atime", "ctime":
			_, _, ok = parsePAXTime(v)
		}
		if err != nil || !ok {
			return fmt.Errorf("PAX record %s=%.40q: %w", k, v, ErrFormat)
		}
	}
	return nil
}

// readPAX reads records of the form "<length> <key>=<value>\n".
func (r *tarReader) readPAX(size int64) (map[string]string, error) {
	s, err := r.special(size)
	if err != nil {
		return nil, err
	}
	records := make(map[string]string)
	var sparse []string // pairs of version 0.0, which repeats its keys
	for s != "" {
		key, value, rest, ok := cutRecord(s)
		if !ok {
			return nil, fmt.Errorf("PAX record %.40q: %w", s, ErrFormat)
		}
		s = rest
		switch key {
		case "GNU.sparse.offset", "GNU.sparse.numbytes":
			if (len(sparse)%2 == 0) != (key == "GNU.sparse.offset") || strings.Contains(value, ",") {
				return nil, fmt.Errorf("PAX record %s=%.40q: %w", key, value, ErrFormat)
			}
			sparse = append(sparse, value)
		default:
			records[key] = value
		}
	}
	if len(sparse) > 0 {
		records["GNU.sparse.map"] = strings.Join(sparse, ",")
	}
	return records, nil
}

func cutRecord(s string) (key, value, rest string, ok bool) {
	digits, after, found := strings.Cut(s, " ")
	n, err := strconv.ParseInt(digits, 10, 64)
	if !found || err != nil || n < 5 || n > int64(len(s)) {
		return "", "", "", false
	}
	n -= int64(len(digits) + 1)
	if n <= 0 || after[n-1] != '\n' {
		return "", "", "", false
	}
	key, value, found = strings.Cut(after[:n-1], "=")
	if !found || key == "" {
		return "", "", "", false
	}
	switch key {
	case "path", "linkpath", "uname", "gname":
		ok = strings.IndexByte(value, 0) < 0
	default:
		ok = strings.IndexByte(key, 0) < 0
	}
	return key, value, after[n:], ok
}

// entry makes an Entry of e under a clean name. Whiteouts are not its business.
func (e *tarEntry) entry(name string) (Entry, error) {
	out := Entry{Name: name, Mode: uint32(e.mode64) & 0o7777, Xattrs: e.xattrs, ModTime: time.Unix(e.sec, e.nsec)}
	switch e.kind {
	case typeReg, typeCont, typeSparse:
		out.Mode |= unix.S_IFREG
		out.Size = e.real
	case typeDir:
		out.Mode |= unix.S_IFDIR
	case typeSymlink:
		out.Mode |= unix.S_IFLNK
		out.Link = e.link
	case typeFifo:
		out.Mode |= unix.S_IFIFO
	case typeChar, typeBlock:
		out.Mode |= unix.S_IFCHR
		if e.kind == typeBlock {
			out.Mode = out.Mode&^unix.S_IFCHR | unix.S_IFBLK
		}
		for _, v := range e.dev64 {
			if v < 0 || v > math.MaxUint32 {
				return out, fmt.Errorf("entry %q: device %d:%d is out of range: %w", name, e.dev64[0], e.dev64[1], ErrFormat)
			}
		}
		out.Major, out.Minor = uint32(e.dev64[0]), uint32(e.dev64[1])
	default:
		return out, fmt.Errorf("entry %q: unknown type %q: %w", name, e.kind, ErrFormat)
	}
	if e.uid64 < 0 || e.uid64 >= math.MaxUint32 || e.gid64 < 0 || e.gid64 >= math.MaxUint32 {
		return out, fmt.Errorf("entry %q: owner %d:%d is out of range: %w", name, e.uid64, e.gid64, ErrFormat)
	}
	out.UID, out.GID = int(e.uid64), int(e.gid64)
	return out, nil
}

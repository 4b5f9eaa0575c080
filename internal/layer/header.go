package layer

import (
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Fields of a tar header: USTAR as POSIX.1 has it (pax, "ustar Interchange
// Format"). Offset and length.
const (
	tarNameLen, tarPrefixLen = 100, 155

	typeReg, typeLink, typeSymlink, typeChar, typeBlock, typeDir, typeFifo = '0', '1', '2', '3', '4', '5', '6'
)

// appendEntry appends the canonical tar header of n as name: USTAR where it
// fits, with PAX records for what does not. The bytes are those the archive/tar
// package of Go writes, which is what most layers of this world were made with;
// they are written here since a layer's digest must never change with a
// compiler. Target is set for another name of n, and is its first.
func appendEntry(b []byte, name, target string, n *inode) ([]byte, error) {
	h := header{name: name, link: n.link(), mode: n.mode & 0o7777, uid: n.uid, gid: n.gid, sec: n.sec}
	switch n.mode & unix.S_IFMT {
	case unix.S_IFREG:
		h.kind, h.size = typeReg, n.size
	case unix.S_IFDIR:
		h.kind, h.name = typeDir, name+"/"
	case unix.S_IFLNK:
		h.kind = typeSymlink
	case unix.S_IFIFO:
		h.kind = typeFifo
	case unix.S_IFCHR, unix.S_IFBLK:
		h.kind = typeChar
		if n.mode&unix.S_IFMT == unix.S_IFBLK {
			h.kind = typeBlock
		}
		h.major, h.minor = decodeDev(n.rdev)
	}
	if target != "" {
		h.kind, h.link, h.size = typeLink, target, 0
		return h.append(b, nil)
	}
	b, err := h.append(b, n.xattrs())
	if err == nil && n.opaque {
		b, err = appendMarker(b, name, whiteoutOpaque)
	}
	return b, err
}

// appendMarker appends a whiteout: an empty file of a special name.
func appendMarker(b []byte, dir, base string) ([]byte, error) {
	h := header{name: base, kind: typeReg}
	if dir != "." {
		h.name = dir + "/" + base
	}
	return h.append(b, nil)
}

// header is what a tar header says.
type header struct {
	name, link   string
	kind         byte
	mode         uint32
	uid, gid     uint32
	major, minor uint32
	size, sec    int64
}

func (h *header) append(b []byte, xattrs []xattr) ([]byte, error) {
	records, err := h.records(xattrs)
	if err != nil {
		return b, err
	}
	prefix, name := "", h.name
	if len(records) == 0 {
		prefix, name = splitUSTAR(h.name)
	} else {
		dir, file := "", h.name
		if i := strings.LastIndexByte(h.name, '/'); i >= 0 {
			dir, file = h.name[:i+1], h.name[i+1:]
		}
		pax := header{name: paxName(dir, file), kind: 'x', size: int64(len(records))}
		b = pax.appendBlock(b, "", pax.name, false)
		b = append(b, records...)
		b = append(b, zeros[:-len(records)&(blockSize-1)]...)
	}
	return h.appendBlock(b, prefix, name, true), nil
}

// paxName is the name of an extended header, which only old readers ever see.
func paxName(dir, file string) string {
	if file == "." { // the root
		file = ""
	}
	name := ascii(strings.TrimPrefix(dir+"PaxHeaders.0/"+file, "./"))
	return strings.TrimRight(name[:min(len(name), tarNameLen)], "/")
}

// records are the PAX records for all that USTAR cannot say, sorted by key;
// none where USTAR can say it all.
func (h *header) records(xattrs []xattr) (b []byte, err error) {
	longLink := len(h.link) > tarNameLen || !isASCII(h.link)
	longName := len(h.name) > tarNameLen || !isASCII(h.name)
	prefix, _ := splitUSTAR(h.name)
	bigGID, bigUID := !fitsOctal(int64(h.gid), 8), !fitsOctal(int64(h.uid), 8)
	bigTime, bigSize := !fitsOctal(h.sec, 12), !fitsOctal(h.size, 12)
	if !longLink && !(longName && prefix == "") && !bigGID && !bigUID && !bigTime && !bigSize && len(xattrs) == 0 {
		return nil, nil
	}
	for _, x := range xattrs {
		if strings.IndexByte(x.name, '=') >= 0 {
			return nil, fmt.Errorf("entry %q: extended attribute %q: tar cannot carry a name with \"=\": %w", h.name, x.name, ErrFormat)
		}
		b = appendRecord(b, "SCHILY.xattr."+x.name, x.value)
	}
	if bigGID {
		b = appendRecord(b, "gid", strconv.FormatUint(uint64(h.gid), 10))
	}
	if longLink {
		b = appendRecord(b, "linkpath", h.link)
	}
	if bigTime {
		b = appendRecord(b, "mtime", strconv.FormatInt(h.sec, 10))
	}
	if longName {
		b = appendRecord(b, "path", h.name)
	}
	if bigSize {
		b = appendRecord(b, "size", strconv.FormatInt(h.size, 10))
	}
	if bigUID {
		b = appendRecord(b, "uid", strconv.FormatUint(uint64(h.uid), 10))
	}
	return b, nil
}

// appendRecord appends "<length> <key>=<value>\n"; the length counts itself.
func appendRecord(b []byte, key, value string) []byte {
	size := len(key) + len(value) + 3
	digits := len(strconv.Itoa(size))
	if len(strconv.Itoa(size+digits)) > digits {
		digits++
	}
	b = strconv.AppendInt(b, int64(size+digits), 10)
	b = append(b, ' ')
	b = append(b, key...)
	b = append(b, '=')
	b = append(b, value...)
	return append(b, '\n')
}

// appendBlock appends the header block proper. Numbers that do not fit are
// written as 0; PAX records have told them.
func (h *header) appendBlock(b []byte, prefix, name string, devices bool) []byte {
	at := len(b)
	b = append(b, zeros[:]...)
	f := b[at:]
	putName(f[0:100], ascii(name))
	putOctal(f[100:108], int64(h.mode))
	putOctal(f[108:116], int64(h.uid))
	putOctal(f[116:124], int64(h.gid))
	putOctal(f[124:136], h.size)
	putOctal(f[136:148], h.sec)
	f[156] = h.kind
	putName(f[157:257], ascii(h.link))
	copy(f[257:], "ustar\x0000")
	if devices {
		putOctal(f[329:337], int64(h.major))
		putOctal(f[337:345], int64(h.minor))
	}
	copy(f[345:500], prefix)
	copy(f[148:156], "        ")
	sum := 0
	for _, c := range f {
		sum += int(c)
	}
	putOctal(f[148:155], int64(sum))
	return b
}

// putName copies s, cut if need be. A cut name must not end in a slash: some
// readers would take it for a directory.
func putName(f []byte, s string) {
	copy(f, s)
	for n := len(f); len(s) > len(f) && n > 0 && f[n-1] == '/'; n-- {
		f[n-1] = 0
	}
}

// putOctal writes v as octal digits, zero padded and NUL terminated.
func putOctal(f []byte, v int64) {
	if !fitsOctal(v, len(f)) {
		v = 0
	}
	f[len(f)-1] = 0
	for i := len(f) - 2; i >= 0; i-- {
		f[i] = '0' + byte(v&7)
		v >>= 3
	}
}

func fitsOctal(v int64, width int) bool { return v >= 0 && v < 1<<(3*(width-1)) }

// splitUSTAR splits a long name at a slash into USTAR's two fields. A name that
// does not fit them comes back whole.
func splitUSTAR(name string) (prefix, rest string) {
	n := len(name)
	switch {
	case n <= tarNameLen || !isASCII(name):
		return "", name
	case n > tarPrefixLen+1:
		n = tarPrefixLen + 1
	case name[n-1] == '/':
		n--
	}
	i := strings.LastIndexByte(name[:n], '/')
	if rest := len(name) - i - 1; i <= 0 || rest > tarNameLen || rest == 0 {
		return "", name
	}
	return name[:i], name[i+1:]
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}

// ascii drops what is not ASCII.
func ascii(s string) string {
	if isASCII(s) {
		return s
	}
	b := make([]byte, 0, len(s))
	for i := range len(s) {
		if s[i] < 0x80 {
			b = append(b, s[i])
		}
	}
	return string(b)
}

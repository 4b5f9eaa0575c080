package layer

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"hash"

	"github.com/opencontainers/go-digest"
)

// summarize fills in what a finished tree tells: Info but for the tar itself.
//
// Content is a sha256 over "nacre layer content 1\n" and, for every name in
// canonical order, a record of: name, flags (1 whiteout, 2 opaque, 4 implied, 8
// hard link), and, unless it is a whiteout: for a hard link the name it was first
// seen under; else mode, owner, group, device, size, link target, attributes and
// the sha256 of the content. Strings carry their length in front, numbers are
// little endian.
func (t *tree) summarize(info *Info) error {
	h := recorder{hash: sha256.New(), first: make(map[*inode]string)}
	h.hash.Write([]byte("nacre layer content 1\n"))
	err := t.walk(func(name string, n *inode) error {
		again := h.entry(name, n)
		if !n.implicit {
			info.Entries++
		}
		if n.isReg() && !again {
			info.FileBytes += n.size
		}
		return nil
	})
	info.Content = digest.NewDigestFromEncoded(digest.SHA256, hex.EncodeToString(h.hash.Sum(nil)))
	return err
}

type recorder struct {
	hash  hash.Hash
	buf   []byte
	first map[*inode]string // names of files that have several
}

const (
	recWhiteout = 1 << iota
	recOpaque
	recImplied
	recLink
)

// entry records n, and tells whether it had been seen under another name.
func (r *recorder) entry(name string, n *inode) (again bool) {
	r.buf = r.buf[:0]
	r.string(name)
	flags := byte(0)
	first := ""
	if n.linked {
		if first, again = r.first[n]; !again {
			r.first[n] = name
		}
	}
	switch {
	case n.isWhiteout():
		flags = recWhiteout
	case again:
		flags = recLink
	}
	if n.opaque {
		flags |= recOpaque
	}
	if n.implicit {
		flags |= recImplied
	}
	r.buf = append(r.buf, flags)
	switch {
	case n.isWhiteout():
	case again:
		r.string(first)
	default:
		r.inode(n)
	}
	r.hash.Write(r.buf)
	return again
}

func (r *recorder) inode(n *inode) {
	for _, v := range [...]uint32{n.mode, n.uid, n.gid, n.rdev} {
		r.buf = binary.LittleEndian.AppendUint32(r.buf, v)
	}
	r.buf = binary.LittleEndian.AppendUint64(r.buf, uint64(n.size))
	r.string(n.link())
	r.buf = binary.LittleEndian.AppendUint32(r.buf, uint32(len(n.xattrs())))
	for _, x := range n.xattrs() {
		r.string(x.name)
		r.string(x.value)
	}
	if n.isReg() {
		r.buf = append(r.buf, n.sum[:]...)
	}
}

func (r *recorder) string(s string) {
	r.buf = binary.LittleEndian.AppendUint32(r.buf, uint32(len(s)))
	r.buf = append(r.buf, s...)
}

package note

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/klauspost/compress/zstd"
)

// ErrFormat: bytes that Encode did not write.
var ErrFormat = errors.New("malformed note")

const (
	version = 2 // the first byte
	first   = 1 // the version before: without Place
	plain   = 0 // the second: what follows is as it is,
	packed  = 1 // or compressed with zstd

	// small is what compression would not make smaller.
	small = 512
	// maxPlain bounds what a note decompresses to: MaxFiles with long names.
	maxPlain = 64 << 20
	// MaxSize bounds what Encode returns. A note that would be larger names no files.
	MaxSize = 4 << 20
)

// Encode returns the note as it is kept (docs/formats.md, "Notes").
func (n Note) Encode() []byte {
	data := n.encode()
	if len(data) > MaxSize {
		trees := make([]Tree, len(n.Trees))
		for i, t := range n.Trees {
			trees[i].Total = t.Total
		}
		n.Trees = trees
		data = n.encode()
	}
	return data
}

func (n Note) encode() []byte {
	b := make([]byte, 0, 256)
	b = text(b, n.Step)
	b = text(b, n.Pos)
	b = text(b, n.Place)
	b = binary.AppendUvarint(b, uint64(len(n.Inputs)))
	for _, in := range n.Inputs {
		b = text(text(text(b, in.Step), in.Base), in.ID)
	}
	b = binary.AppendUvarint(b, uint64(len(n.Trees)))
	for _, t := range n.Trees {
		b = binary.AppendUvarint(b, uint64(t.Total))
		b = binary.AppendUvarint(b, uint64(len(t.Files)))
		for _, f := range t.Files {
			b = text(b, f.Name)
			b = binary.BigEndian.AppendUint32(b, f.Mode)
			b = append(append(b, f.Sum[:]...), f.Attr[:]...)
		}
	}
	if len(b) <= small {
		return append([]byte{version, plain}, b...)
	}
	e, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1))
	if err != nil {
		return append([]byte{version, plain}, b...)
	}
	defer e.Close()
	return e.EncodeAll(b, []byte{version, packed})
}

func text(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// unpacker is made once: it is costly, and safe to share.
var unpacker = sync.OnceValues(func() (*zstd.Decoder, error) {
	return zstd.NewReader(nil, zstd.WithDecoderMaxMemory(maxPlain), zstd.WithDecoderConcurrency(1))
})

// Decode is the reverse of Encode. Errors: ErrFormat.
func Decode(data []byte) (n Note, err error) {
	if err := check(data); err != nil {
		return n, err
	}
	d := decoder{data: data[2:]}
	if data[1] == packed {
		z, err := unpacker()
		if err != nil {
			return n, err
		}
		if d.data, err = z.DecodeAll(data[2:], nil); err != nil {
			return n, fmt.Errorf("%w: %w", ErrFormat, err)
		}
	}
	d.head(&n, data[0])
	for range d.count(3) {
		n.Inputs = append(n.Inputs, Input{d.text(), d.text(), d.text()})
	}
	for range d.count(2) {
		t := Tree{Total: int(min(d.number(), 1<<40))}
		files := d.count(fileSize)
		for range files {
			t.Files = append(t.Files, d.file())
		}
		n.Trees = append(n.Trees, t)
	}
	if d.bad || len(d.data) > 0 {
		return Note{}, ErrFormat
	}
	return n, nil
}

func check(data []byte) error {
	if len(data) < 2 || data[0] < first || data[0] > version || data[1] > packed {
		return fmt.Errorf("%w: of another version, or no note", ErrFormat)
	}
	return nil
}

// Head reads Step, Pos and Place of a note alone, however large it is. Errors: ErrFormat.
func Head(data []byte) (n Note, err error) {
	if err := check(data); err != nil {
		return n, err
	}
	d := decoder{data: data[2:]}
	if data[1] == packed {
		r, err := zstd.NewReader(bytes.NewReader(data[2:]), zstd.WithDecoderMaxMemory(maxPlain), zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true))
		if err != nil {
			return n, err
		}
		defer r.Close()
		if d.data, err = io.ReadAll(io.LimitReader(r, maxHead)); err != nil {
			return n, fmt.Errorf("%w: %w", ErrFormat, err)
		}
	}
	if d.head(&n, data[0]); d.bad {
		return Note{}, ErrFormat
	}
	return n, nil
}

// maxHead is more than any instruction has.
const maxHead = 1 << 20

// decoder reads values one after another; bad sticks.
type decoder struct {
	data []byte
	bad  bool
}

func (d *decoder) number() uint64 {
	v, n := binary.Uvarint(d.data)
	if n <= 0 {
		d.bad, d.data = true, nil
		return 0
	}
	d.data = d.data[n:]
	return v
}

// count is how many values follow of at least size bytes each.
func (d *decoder) count(size int) int {
	n := d.number()
	if n > uint64(len(d.data)/size) {
		d.bad, d.data = true, nil
		return 0
	}
	return int(n)
}

func (d *decoder) bytes(n uint64) []byte {
	if n > uint64(len(d.data)) {
		d.bad, d.data = true, nil
		return nil
	}
	b := d.data[:n]
	d.data = d.data[n:]
	return b
}

func (d *decoder) text() string { return string(d.bytes(d.number())) }

// head reads what a note begins with.
func (d *decoder) head(n *Note, version byte) {
	n.Step, n.Pos = d.text(), d.text()
	if version > first {
		n.Place = d.text()
	}
}

// fileSize is that of the shortest file.
const fileSize = 1 + 4 + 8 + 8

func (d *decoder) file() (f File) {
	f.Name = d.text()
	if b := d.bytes(fileSize - 1); b != nil {
		f.Mode = binary.BigEndian.Uint32(b)
		copy(f.Sum[:], b[4:])
		copy(f.Attr[:], b[12:])
	}
	return f
}

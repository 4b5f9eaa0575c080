package layer

import (
	"bufio"
	"bytes"
	"compress/bzip2"
	"fmt"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
	"github.com/ulikunitz/xz/lzma"
)

const (
	// maxWindow bounds what a decoder may ask for to look back, 128 MiB. That is
	// what zstd --long and xz -9 need at most; headers may claim gigabytes.
	maxWindow = 128 << 20

	// SniffSize is how much of a stream CompressionOf looks at: a tar header.
	SniffSize = blockSize
)

// Decompress finds out by its first bytes how r is compressed and undoes it.
// The name is "gzip", "zstd", "xz", "bzip2", or "" where r is read as it is;
// a tar header is never taken for compressed data. Close does not close r.
func Decompress(r io.Reader) (rc io.ReadCloser, name string, err error) {
	br := bufio.NewReaderSize(r, 64<<10)
	head, err := br.Peek(SniffSize)
	if err != nil && err != io.EOF {
		return nil, "", err
	}
	err = nil
	switch name = CompressionOf(head); name {
	case "gzip":
		rc, err = gzip.NewReader(br)
	case "zstd":
		var d *zstd.Decoder
		if d, err = zstd.NewReader(br, zstd.WithDecoderMaxWindow(maxWindow)); err == nil {
			rc = d.IOReadCloser()
		}
	case "xz":
		rc, err = newXZ(br, head)
	case "bzip2":
		rc = io.NopCloser(bzip2.NewReader(br))
	default:
		return io.NopCloser(br), "", nil
	}
	if err != nil {
		return nil, name, fmt.Errorf("%s: %w", name, err)
	}
	return rc, name, nil
}

// CompressionOf names the compression of a stream that begins with head, of SniffSize bytes or all there are, as Decompress does.
func CompressionOf(head []byte) string {
	if len(head) == blockSize && validChecksum(head) {
		return ""
	}
	is := func(magic string) bool { return bytes.HasPrefix(head, []byte(magic)) }
	switch {
	case is("\x1f\x8b"):
		return "gzip"
	case is("\x28\xb5\x2f\xfd"), len(head) >= 4 && head[0]&0xf0 == 0x50 && is(string(head[:1])+"\x2a\x4d\x18"):
		return "zstd" // or a frame of it that decoders skip
	case is("\xfd7zXZ\x00"):
		return "xz"
	case is("BZh") && len(head) >= 10 && (string(head[4:10]) == "\x31\x41\x59\x26\x53\x59" || string(head[4:10]) == "\x17\x72\x45\x38\x50\x90"):
		return "bzip2"
	}
	return ""
}

// newXZ refuses dictionaries beyond maxWindow, as the header of the first block
// asks for them: the library would allocate up to 4 GiB on its word.
func newXZ(r io.Reader, head []byte) (io.ReadCloser, error) {
	if size, ok := xzDictionary(head); ok && size > maxWindow {
		return nil, fmt.Errorf("dictionary of %d bytes: %w", size, ErrLimit)
	}
	d, err := xz.NewReader(r)
	if err != nil {
		return nil, err
	}
	return io.NopCloser(d), nil
}

// xzDictionary finds the dictionary size in an xz stream's first block header,
// which follows 12 bytes of stream header (xz-file-format.txt, 3.1).
func xzDictionary(head []byte) (int64, bool) {
	const at = 12
	if len(head) < at+2 || head[at] == 0 {
		return 0, false
	}
	flags := head[at+1]
	b := head[at+2 : min(at+4*(int(head[at])+1), len(head))]
	for _, present := range [...]bool{flags&0x40 != 0, flags&0x80 != 0} { // compressed and uncompressed size
		for more := present; more && len(b) > 0; b = b[1:] {
			more = b[0]&0x80 != 0
		}
	}
	for i := 0; i+2 < len(b); i++ {
		if b[i] == 0x21 && b[i+1] == 1 { // LZMA2 is always the last filter
			size, err := lzma.DecodeDictCap(b[i+2])
			return size, err == nil
		}
	}
	return 0, false
}

package layer

import "encoding/binary"

// The on-disk format of EROFS as far as an index uses it. See
// https://docs.kernel.org/filesystems/erofs.html and fs/erofs/erofs_fs.h of Linux.
//
// An index is, in blocks of 512 bytes:
//
//	   0  zeros
//	1024  superblock (128 bytes)
//	1152  device slot of layer.tar (128 bytes; absent where there is no tar)
//	1280  inodes in canonical order, the root first, each on a multiple of 32 bytes:
//	      64 bytes, extended attributes, then the inline tail or chunk addresses
//	      blocks of directories and symlinks too long to sit with their inode, and
//	      of sparse content that cannot be addressed in the tar
const (
	blockBits = 9
	blockSize = 1 << blockBits // that of tar too, which is why its data can be addressed

	superOffset = 1024
	superSize   = 128
	slotSize    = 128
	inodeSize   = 64 // extended inodes: 64-bit sizes, 32-bit owners, nanoseconds
	inodeAlign  = 32 // a nid is an offset in these units
	direntSize  = 12
	chunkSize   = 8 // bytes of one chunk address

	superMagic = 0xe0f5e1e2

	compatMtime        = 0x2 // inodes carry mtime, not ctime
	incompatChunks     = 0x4
	incompatDevices    = 0x8
	incompatUnderstood = incompatChunks | incompatDevices
	layoutPlain        = 0
	layoutInline       = 2
	layoutChunks       = 4
	formatExtended     = 1
	formatLayoutShift  = 1
	formatLayoutMask   = 7
	chunkBitsMask      = 0x1f
	chunkIndexes       = 0x20
	nullBlock          = 0xffffffff // a chunk that is a hole
	xattrHeaderSize    = 12
	xattrEntrySize     = 4
	maxXattrArea       = xattrHeaderSize + 4*(0xffff-1)
	maxChunkBits       = 31

	fileTypeReg     = 1
	fileTypeDir     = 2
	fileTypeChr     = 3
	fileTypeBlk     = 4
	fileTypeFifo    = 5
	fileTypeSocket  = 6
	fileTypeSymlink = 7

	// What overlay and we read from directories of a layer.
	xattrOpaque   = "trusted.overlay.opaque"
	xattrImplicit = "trusted.overlay.nacre.implicit"

	// xattrOrigin, empty, is on every directory that holds whiteouts. Overlay takes
	// it for one copied from below and then leaves out whiteouts as it lists what is
	// in it. It expects none where no layer below has the directory too, or where
	// that is opaque, and would list them: names without a file. See
	// ovl_path_check_origin_xattr of Linux.
	xattrOrigin = "trusted.overlay.origin"

	// The volume name says who wrote the index, and whether it has implied
	// directories, so that nobody need look for them.
	volumePlain    = "nacre 1"
	volumeImplicit = "nacre 1 implied"
)

// xattrPrefixes are the name prefixes that EROFS writes as a number. Index 0
// is no prefix: the kernel does not show those names, we do.
var xattrPrefixes = [...]string{
	1: "user.",
	2: "system.posix_acl_access",
	3: "system.posix_acl_default",
	4: "trusted.",
	6: "security.",
}

// splitXattr returns the number of name's prefix and the rest.
func splitXattr(name string) (index uint8, rest string) {
	for i, p := range xattrPrefixes {
		if p == "" || len(name) < len(p) || name[:len(p)] != p {
			continue
		}
		if exact := i == 2 || i == 3; exact && name != p {
			continue
		}
		return uint8(i), name[len(p):]
	}
	return 0, name
}

// super is what of a superblock is not constant.
type super struct {
	root    uint64 // nid
	inodes  uint64
	blocks  uint32
	device  bool
	implied bool
	tag     string // sha256 of layer.tar in hex
	tar     uint32 // blocks of layer.tar
}

// encode returns the first bytes of an index, up to the root inode.
func (s *super) encode() []byte {
	b := make([]byte, headSize(s.device))
	sb := b[superOffset:]
	le := binary.LittleEndian
	le.PutUint32(sb[0:], superMagic)
	le.PutUint32(sb[8:], compatMtime)
	sb[12] = blockBits
	le.PutUint16(sb[14:], uint16(s.root))
	le.PutUint64(sb[16:], s.inodes)
	le.PutUint32(sb[36:], s.blocks)
	copy(sb[64:80], volumePlain)
	if s.implied {
		copy(sb[64:80], volumeImplicit)
	}
	if s.device {
		le.PutUint32(sb[80:], incompatChunks|incompatDevices)
		le.PutUint16(sb[86:], 1) // extra devices
		le.PutUint16(sb[88:], (superOffset+superSize)/slotSize)
		slot := sb[superSize:]
		copy(slot[:64], s.tag)
		le.PutUint32(slot[64:], s.tar)
	}
	return b
}

// headSize is where the root inode begins.
func headSize(device bool) int64 {
	if device {
		return superOffset + superSize + slotSize
	}
	return superOffset + superSize
}

func roundUp(n, unit int64) int64 { return (n + unit - 1) &^ (unit - 1) }

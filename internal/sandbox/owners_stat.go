package sandbox

import (
	"unsafe"

	"nacre/internal/rootfs"

	"golang.org/x/sys/unix"
)

// stat answers a look at a file whose owner is recorded. Of all others, which are nearly all, the kernel answers it.
func (o *ownerThread) stat(fd int, r request, n *notification) error {
	var st unix.Statx_t
	if err := unix.Statx(fd, "", unix.AT_EMPTY_PATH, linkMask, &st); err != nil || st.Mnt_id != o.root {
		return errNotOurs
	}
	owner, ok := o.ownerOf(fd, &st)
	if !ok {
		return errNotOurs
	}
	if r.statx {
		return o.answerStatx(fd, r, n, owner)
	}
	var full unix.Stat_t
	if err := unix.Fstatat(fd, "", &full, unix.AT_EMPTY_PATH); err != nil {
		return errNotOurs
	}
	full.Uid, full.Gid = uint32(owner.UID), uint32(owner.GID)
	return writeTo(int(n.pid), r.buf, unsafe.Slice((*byte)(unsafe.Pointer(&full)), unsafe.Sizeof(full)))
}

func (o *ownerThread) answerStatx(fd int, r request, n *notification, owner rootfs.Owner) error {
	var full unix.Statx_t
	const sync = unix.AT_STATX_FORCE_SYNC | unix.AT_STATX_DONT_SYNC
	if err := unix.Statx(fd, "", r.flags&sync|unix.AT_EMPTY_PATH, r.mask, &full); err != nil {
		return errNotOurs
	}
	full.Uid, full.Gid = uint32(owner.UID), uint32(owner.GID)
	return writeTo(int(n.pid), r.buf, unsafe.Slice((*byte)(unsafe.Pointer(&full)), unsafe.Sizeof(full)))
}

// ownerOf finds the owner recorded of a file in the root; false: it is root, as it shows.
func (o *ownerThread) ownerOf(fd int, st *unix.Statx_t) (rootfs.Owner, bool) {
	if kind := st.Mode & unix.S_IFMT; kind != unix.S_IFREG && kind != unix.S_IFDIR {
		return o.ofLink(fd, st)
	}
	owner, _, err := o.recorded(fd)
	return owner, err == nil && owner != rootfs.Owner{}
}

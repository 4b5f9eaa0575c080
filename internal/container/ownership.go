package container

import (
	"context"
	"errors"
	"os"
	"strconv"
	"strings"

	"nacre/internal/layer"
	"nacre/internal/rootfs"

	"golang.org/x/sys/unix"
)

// Ownership tells and sets owners in the container's root as its programs see them, in a user namespace that lacks some: there
// they are recorded. Elsewhere it does what stat and chown do. Descriptors may be of O_PATH.
type Ownership struct {
	c        *Container
	mount    uint64 // of the root: elsewhere nothing is recorded of links
	base     string // the root's own path, as we see it
	recorded map[uint64]rootfs.Recorded
	byPath   map[string]rootfs.Recorded
	lower    *rootfs.FS // nil: all owners are real
}

// Ownership is that of a root which WithRoot has opened.
func (c *Container) Ownership(ctx context.Context, root *os.File) (*Ownership, error) {
	o := &Ownership{c: c, recorded: map[uint64]rootfs.Recorded{}, byPath: map[string]rootfs.Recorded{}}
	if !rootfs.UserXattr() {
		return o, nil
	}
	var st unix.Statx_t
	if err := unix.Statx(int(root.Fd()), "", unix.AT_EMPTY_PATH, unix.STATX_MNT_ID, &st); err != nil {
		return nil, os.NewSyscallError("statx", err)
	}
	o.mount = st.Mnt_id
	base, err := os.Readlink(procPath(int(root.Fd())))
	if err != nil {
		return nil, err
	}
	o.base = strings.TrimSuffix(base, "/")
	list, err := c.recorded()
	if err != nil {
		return nil, err
	}
	for _, r := range list {
		o.recorded[r.Ino], o.byPath[r.Path] = r, r
	}
	o.lower, err = c.lower(ctx)
	return o, err
}

// Of is the owner of what a descriptor is.
func (o *Ownership) Of(fd int, st *unix.Stat_t) (uid, gid int) {
	uid, gid = int(st.Uid), int(st.Gid)
	if o.lower == nil || uid != 0 || gid != 0 {
		return uid, gid
	}
	var owner rootfs.Owner
	var known bool
	if plain(st) {
		owner, known = recordedOwner(fd)
	} else {
		owner, known = o.ofLink(fd, st)
	}
	if maker := o.c.State.Owner; !known && maker != nil {
		if _, err := o.lower.Lstat(o.path(fd)); err != nil {
			return maker.UID, maker.GID // it was made here, by the one user there is
		}
	}
	return owner.UID, owner.GID
}

// plain tells whether something can have an attribute.
func plain(st *unix.Stat_t) bool {
	return st.Mode&unix.S_IFMT == unix.S_IFREG || st.Mode&unix.S_IFMT == unix.S_IFDIR
}

// recordedOwner reads the owner that a file or directory has recorded.
func recordedOwner(fd int) (rootfs.Owner, bool) {
	buf := make([]byte, 64)
	n, err := unix.Getxattr(procPath(fd), rootfs.OwnerXattr, buf)
	if err != nil {
		return rootfs.Owner{}, false
	}
	owner, err := rootfs.ParseOwner(string(buf[:n]))
	return owner, err == nil
}

// ofLink finds the owner of a link: the one recorded here, or else that of the image.
func (o *Ownership) ofLink(fd int, st *unix.Stat_t) (rootfs.Owner, bool) {
	born, here := o.onRoot(fd)
	if !here {
		return rootfs.Owner{}, true
	}
	if r, ok := o.recorded[st.Ino]; ok && r.Born == born {
		return r.Owner, true
	}
	if r, ok := o.byPath[o.path(fd)]; ok && r.Ino != st.Ino && r.MTime == st.Mtim.Nano() {
		return r.Owner, true
	}
	info, err := o.lower.Lstat(o.path(fd))
	if err != nil {
		return rootfs.Owner{}, false
	}
	e := &info.Sys().(*layer.Stat).Entry
	if e.Mode&unix.S_IFMT != st.Mode&unix.S_IFMT || e.ModTime.UnixNano() != st.Mtim.Nano() || rootfs.HasOwner(e.UID, e.GID) {
		return rootfs.Owner{}, true
	}
	return rootfs.Owner{UID: e.UID, GID: e.GID}, true
}

// onRoot tells whether fd is in the root itself, and since when it is there.
func (o *Ownership) onRoot(fd int) (born unix.StatxTimestamp, ok bool) {
	var st unix.Statx_t
	err := unix.Statx(fd, "", unix.AT_EMPTY_PATH, unix.STATX_INO|unix.STATX_BTIME|unix.STATX_MNT_ID, &st)
	return st.Btime, err == nil && st.Mnt_id == o.mount
}

// Give makes somebody the owner.
func (o *Ownership) Give(ctx context.Context, fd int, st *unix.Stat_t, uid, gid int) error {
	err := unix.Fchownat(fd, "", uid, gid, unix.AT_EMPTY_PATH)
	if o.lower == nil {
		return err
	}
	lacking := errors.Is(err, unix.EINVAL)
	if err != nil && !lacking {
		return err
	}
	if lacking {
		if err := unix.Fchownat(fd, "", 0, 0, unix.AT_EMPTY_PATH); err != nil {
			return err
		}
	}
	record := lacking || o.c.State.Owner != nil // else it would pass for what the one user made
	owner := rootfs.Owner{UID: uid, GID: gid}
	switch {
	case plain(st) && record:
		return unix.Setxattr(procPath(fd), rootfs.OwnerXattr, []byte(owner.String()), 0)
	case plain(st):
		if err := unix.Removexattr(procPath(fd), rootfs.OwnerXattr); err != nil && !errors.Is(err, unix.ENODATA) && !errors.Is(err, unix.EOPNOTSUPP) {
			return err
		}
		return nil
	}
	born, here := o.onRoot(fd)
	if !record || !here {
		return nil
	}
	return o.c.giveLink(ctx, rootfs.Recorded{Path: o.path(fd), Ino: st.Ino, Born: born, MTime: st.Mtim.Nano(), Owner: owner})
}

// giveLink has the container's monitor record an owner, or does it where there is none.
func (c *Container) giveLink(ctx context.Context, r rootfs.Recorded) error {
	_, err := c.ask(ctx, request{Op: opOwner, Owner: &r})
	if errors.Is(err, ErrNotRunning) || errors.Is(err, errNoMonitor) {
		return c.addOwner(r)
	}
	return err
}

func procPath(fd int) string { return "/proc/self/fd/" + strconv.Itoa(fd) }

// path is where in the root a descriptor is, without leading slash; "." where that is not known.
func (o *Ownership) path(fd int) string {
	name, err := os.Readlink(procPath(fd))
	rest, inside := strings.CutPrefix(name, o.base+"/")
	if err != nil || !inside || rest == "" {
		return "."
	}
	return rest
}

// Here is the owner of a file of this machine: one whom the user namespace does not show is nobody in particular, and
// what is copied becomes root's.
func (o *Ownership) Here(_ int, st *unix.Stat_t) (uid, gid int) {
	uid, gid = int(st.Uid), int(st.Gid)
	if o.lower != nil && !rootfs.HasOwner(uid, gid) {
		return 0, 0
	}
	return uid, gid
}

package rootfs

import (
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"nacre/internal/layer"
)

// OwnerXattr is the attribute that has the owner of a file, "UID:GID", in trees and writable sides that are made in
// a user namespace which has no such owner: the file is root's there, and a layer made of it has the one recorded.
const OwnerXattr = "user.nacre.owner"

// Owner is a user and a group by number.
type Owner struct{ UID, GID int }

func (o Owner) String() string { return strconv.Itoa(o.UID) + ":" + strconv.Itoa(o.GID) }

// ParseOwner reads the value of an OwnerXattr.
func ParseOwner(s string) (Owner, error) {
	uid, gid, ok := strings.Cut(s, ":")
	u, err1 := strconv.ParseUint(uid, 10, 32)
	g, err2 := strconv.ParseUint(gid, 10, 32)
	if !ok || err1 != nil || err2 != nil {
		return Owner{}, fmt.Errorf("owner %q is not UID:GID", s)
	}
	return Owner{int(u), int(g)}, nil
}

// Recorded is the owner of something that cannot have an attribute: a symlink, pipe, socket or device.
type Recorded struct {
	Path string // in the root, without leading slash, when it got its owner
	Ino  uint64
	Born unix.StatxTimestamp // tells inodes apart that had the same number one after the other
	// MTime is its time, in nanoseconds since 1970: overlay shows what it copied from below by another number when it is mounted
	// anew, and with that time.
	MTime int64
	Owner
}

// HasOwner tells whether there are such a user and group in this user namespace.
func HasOwner(uid, gid int) bool { return idMaps().has(uid, gid) }

// ids are the ids of a user namespace, as FROM and COUNT.
type ids struct{ uids, gids [][2]uint64 }

var idMaps = sync.OnceValue(func() ids { return ids{readIDs("/proc/self/uid_map"), readIDs("/proc/self/gid_map")} })

// readIDs reads the first and third column of a map of ids (user_namespaces(7)). Without one there are all.
func readIDs(file string) [][2]uint64 {
	text, err := os.ReadFile(file)
	if err != nil {
		return [][2]uint64{{0, 1 << 32}}
	}
	var list [][2]uint64
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) == 3 {
			from, err1 := strconv.ParseUint(f[0], 10, 32)
			count, err2 := strconv.ParseUint(f[2], 10, 32)
			if err1 == nil && err2 == nil {
				list = append(list, [2]uint64{from, count})
			}
		}
	}
	return list
}

func (m ids) has(uid, gid int) bool {
	in := func(list [][2]uint64, id uint64) bool {
		return slices.ContainsFunc(list, func(r [2]uint64) bool { return id >= r[0] && id-r[0] < r[1] })
	}
	return in(m.uids, uint64(uid)) && in(m.gids, uint64(gid))
}

// idsXattr is the attribute of a tree's root that has the maps of the user namespace it was unpacked in.
const idsXattr = "user.nacre.ids"

// MarkTree notes on a tree, of Unpack, whose ids its files have on disk: in another user namespace they are other people's.
func MarkTree(dir string) error {
	ids := namespaceIDs()
	if ids == "" {
		return nil
	}
	if err := unix.Setxattr(dir, idsXattr, []byte(ids), 0); err != nil {
		return &os.PathError{Op: "mark tree", Path: dir, Err: err}
	}
	return nil
}

// TreeIsOurs tells whether a tree was unpacked in a user namespace like this one, or in none as we are.
func TreeIsOurs(dir string) bool {
	buf := make([]byte, 4096)
	n, err := unix.Getxattr(dir, idsXattr, buf)
	if err != nil {
		n = 0
	}
	return string(buf[:n]) == namespaceIDs()
}

// namespaceIDs is how the ids of this user namespace are those of the machine, as one word; empty where they are the machine's own.
func namespaceIDs() string {
	if !UserXattr() {
		return ""
	}
	var words []string
	for _, file := range []string{"/proc/self/uid_map", "/proc/self/gid_map"} {
		text, err := os.ReadFile(file)
		if err != nil {
			return ""
		}
		words = append(words, strings.Fields(string(text))...)
	}
	return strings.Join(words, "_")
}

// unowned tells whether a chown failed because nobody has that id in this user namespace.
func unowned(err error) bool { return errors.Is(err, unix.EINVAL) }

// Chown gives a file or directory an owner, not following a symlink. Where the owner does not exist in
// this user namespace it is recorded, if that is possible.
func Chown(name string, uid, gid int) error {
	err := os.Lchown(name, uid, gid)
	if !unowned(err) || !UserXattr() {
		return err
	}
	if err := unix.Lsetxattr(name, OwnerXattr, []byte(Owner{uid, gid}.String()), 0); err != nil && !noXattr(err) {
		return &os.PathError{Op: "record owner", Path: name, Err: err}
	}
	return nil
}

// noXattr tells whether a file cannot have the attribute that was to be set: of links and devices none can have user.*.
func noXattr(err error) bool {
	return errors.Is(err, unix.EPERM) || errors.Is(err, unix.EOPNOTSUPP)
}

// owners works out whose the files of a writable side are.
type owners struct {
	active   bool   // what is recorded counts
	newOwner *Owner // of what was made there, where it shows as somebody else's
	byInode  map[uint64]Recorded
	byPath   map[string]Recorded
	moved    func(f *layer.File) (Owner, bool) // finds links of the layers below that have another name now; may be nil
}

func newOwners(m Mount, o ChangesOptions) owners {
	w := owners{active: m.UserXattr || UserXattr(), newOwner: o.Owner, byInode: map[uint64]Recorded{}, byPath: map[string]Recorded{}}
	for _, r := range o.Recorded {
		w.byInode[r.Ino], w.byPath[r.Path] = r, r
	}
	return w
}

// settle gives f, read from base in the directory dir, its owner. below finds what is there in the root below.
func (w *owners) settle(f *layer.File, dir int, base string, m marks, below func() (*node, error)) error {
	if !w.active {
		return nil
	}
	if m.owner != "" && f.UID == 0 && f.GID == 0 { // else it got another since, a real one
		if o, err := ParseOwner(m.owner); err == nil {
			f.UID, f.GID = o.UID, o.GID
		}
		return nil
	}
	if kind := f.Mode & unix.S_IFMT; kind == unix.S_IFREG || kind == unix.S_IFDIR {
		if !m.copied && f.Name != "." {
			w.made(f)
		}
		return nil
	}
	if r, ok := w.find(f.Name, dir, base); ok {
		f.UID, f.GID = r.UID, r.GID
		return nil
	}
	n, err := below()
	if err != nil {
		return err
	}
	if n == nil || !sameSpecial(&n.stat.Entry, &f.Entry) {
		w.made(f)
		if w.moved != nil {
			if o, ok := w.moved(f); ok {
				f.UID, f.GID = o.UID, o.GID
			}
		}
	} else if e := &n.stat.Entry; !HasOwner(e.UID, e.GID) {
		f.UID, f.GID = e.UID, e.GID
	}
	return nil
}

// sameSpecial tells whether a link, pipe or device is like another: overlay cannot mark what it copied of those.
func sameSpecial(a, b *layer.Entry) bool {
	return a.Mode&unix.S_IFMT == b.Mode&unix.S_IFMT && a.Link == b.Link && a.Major == b.Major && a.Minor == b.Minor
}

func (w *owners) made(f *layer.File) {
	if w.newOwner != nil {
		f.UID, f.GID = w.newOwner.UID, w.newOwner.GID
	}
}

// find looks for what was recorded of base in dir: by its inode, or, as overlay shows a copy
// with the number of its original, by its name.
func (w *owners) find(name string, dir int, base string) (Recorded, bool) {
	if len(w.byInode) == 0 {
		return Recorded{}, false
	}
	var st unix.Statx_t
	if err := unix.Statx(dir, base, unix.AT_SYMLINK_NOFOLLOW, unix.STATX_INO|unix.STATX_BTIME|unix.STATX_MTIME, &st); err != nil {
		return Recorded{}, false
	}
	if r, ok := w.byInode[st.Ino]; ok && r.Born == st.Btime {
		return r, true
	}
	r, ok := w.byPath[path.Clean(name)]
	return r, ok && r.Ino != st.Ino && r.MTime == st.Mtime.Sec*1e9+int64(st.Mtime.Nsec)
}

package volume

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Store is where volumes are kept, in a folder volumes/ of its root.
type Store interface {
	Root() string
	// TempDir makes a folder on the same file system, which somebody removes even if this process is killed.
	TempDir(prefix string) (dir string, remove func(), err error)
}

// Errors that callers decide on; InUseError is another.
var ErrAbsent = errors.New("no such volume")

// Volumes are those of one store. Many processes and goroutines may use them at once: what each needs to be true
// meanwhile is held by locks that end with it (see hold.go).
type Volumes struct {
	store Store
	now   func() time.Time

	testOnlyPoint func(what string) // called wherever dying would leave something half done
}

// Open gives the volumes of a store. It touches nothing.
func Open(s Store) *Volumes { return &Volumes{store: s, now: time.Now} }

// Volume describes one.
type Volume struct {
	Name      string            `json:"name"`
	Driver    string            `json:"driver"` // always "local"
	Created   time.Time         `json:"created"`
	Labels    map[string]string `json:"labels,omitempty"`
	Options   map[string]string `json:"options,omitempty"`   // type, device, o: what is mounted in place of its directory
	Anonymous bool              `json:"anonymous,omitempty"` // made for one container, which gave it no name
	// Damaged says why its record cannot be read; then only Name is known.
	Damaged string `json:"-"`
}

// Names in the folder of a volume.
const (
	recordName = "volume.json"
	dataName   = "_data" // docker's name
	usersName  = "users"
	fillName   = "fill"  // what is being unpacked
	readyName  = "ready" // what is unpacked, and on its way into the data
)

// maxRecord bounds what is read as a record.
const maxRecord = 4 << 20

// CreateOptions are what a new volume is to be.
type CreateOptions struct {
	Name    string // empty: a random one
	Driver  string
	Labels  map[string]string
	Options map[string]string
	// Anonymous: nobody asked for it by name.
	Anonymous bool
}

func (v *Volumes) path(elem ...string) string {
	return filepath.Join(append([]string{v.store.Root(), "volumes"}, elem...)...)
}

// Mountpoint is the folder of the host that has a volume's files.
func (v *Volumes) Mountpoint(name string) string { return v.path(name, dataName) }

// Create makes a volume. One of that name may be there already, and is given back, unless it has other options.
func (v *Volumes) Create(ctx context.Context, o CreateOptions) (Volume, error) {
	if o.Name == "" {
		o.Name = newName()
	}
	if err := errors.Join(CheckName(o.Name), CheckDriver(o.Driver), checkOptions(o.Options)); err != nil {
		return Volume{}, fmt.Errorf("create volume: %w", err)
	}
	for {
		have, err := v.Get(o.Name)
		if err == nil {
			if len(o.Options) > 0 && !maps.Equal(o.Options, have.Options) {
				return have, fmt.Errorf("create volume: %s exists, with other options: remove it or take another name", o.Name)
			}
			return have, nil
		}
		if !errors.Is(err, ErrAbsent) {
			return Volume{}, err
		}
		vol := Volume{Name: o.Name, Driver: "local", Created: v.now().UTC(), Labels: o.Labels, Options: o.Options, Anonymous: o.Anonymous}
		err = v.make(vol)
		if err == nil || !errors.Is(err, fs.ErrExist) {
			return vol, err
		}
		if err := ctx.Err(); err != nil {
			return Volume{}, err
		}
	}
}

// nameLength is how long the name of a volume is that nobody named.
const nameLength = 64

// newName is that of a volume nobody named: 64 hex digits, as docker has it.
func newName() string {
	var b [nameLength / 2]byte
	rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

// make makes a volume whole and gives it its name. Errors: fs.ErrExist.
func (v *Volumes) make(vol Volume) error {
	err := v.makeFolder(vol)
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("create volume %s: %w", vol.Name, err)
	}
	return err
}

func (v *Volumes) makeFolder(vol Volume) error {
	record, err := json.Marshal(vol)
	if err != nil {
		return err
	}
	if len(record) > maxRecord {
		return errors.New("its labels and options are too long")
	}
	if err := os.MkdirAll(v.path(), 0o700); err != nil {
		return err
	}
	dir, remove, err := v.store.TempDir("volume")
	if err != nil {
		return err
	}
	defer remove()
	for _, name := range []string{dataName, usersName} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o755); err != nil {
			return err
		}
	}
	if err := os.Chmod(filepath.Join(dir, dataName), 0o755); err != nil { // whatever the umask
		return err
	}
	if err := vol.write(filepath.Join(dir, recordName), record); err != nil {
		return err
	}
	v.point("volume made")
	if err := unix.Renameat2(unix.AT_FDCWD, dir, unix.AT_FDCWD, v.path(vol.Name), unix.RENAME_NOREPLACE); err != nil {
		return err
	}
	return vol.syncDir(v.path())
}

// durable tells whether a volume is to be there after a power failure. One that has no name lives and dies with a
// container, of which nothing is synced either.
func (vol Volume) durable() bool { return !vol.Anonymous }

func (vol Volume) write(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil && vol.durable() {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

func (vol Volume) syncDir(path string) error {
	if !vol.durable() {
		return nil
	}
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Get describes a volume. Errors: ErrAbsent; something else where its folder is not as it was made.
func (v *Volumes) Get(name string) (Volume, error) {
	if CheckName(name) != nil {
		return Volume{}, fmt.Errorf("%w: %s", ErrAbsent, short(name))
	}
	dir, err := v.openFolder(name)
	if err != nil {
		return Volume{}, err
	}
	defer dir.Close()
	vol, err := readRecord(dir)
	if err != nil {
		if !v.isAt(dir, name) {
			return Volume{}, fmt.Errorf("%w: %s", ErrAbsent, name)
		}
		return Volume{}, fmt.Errorf("volume %s: %w", name, err)
	}
	vol.Name = name
	return vol, nil
}

// readRecord reads the record in a volume's folder.
func readRecord(dir *os.File) (Volume, error) {
	fd, err := openBeneath(int(dir.Fd()), recordName, unix.O_RDONLY)
	if err != nil {
		return Volume{}, fmt.Errorf("record: %w", err)
	}
	f := os.NewFile(uintptr(fd), recordName)
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxRecord+1))
	if err != nil {
		return Volume{}, err
	}
	return parseRecord(data)
}

// parseRecord reads a record and refuses what would not have been written.
func parseRecord(data []byte) (Volume, error) {
	var vol Volume
	if len(data) > maxRecord {
		return vol, errors.New("record: too long")
	}
	if err := json.Unmarshal(data, &vol); err != nil {
		return vol, fmt.Errorf("record: %w", err)
	}
	if err := errors.Join(CheckName(vol.Name), CheckDriver(vol.Driver), checkOptions(vol.Options)); err != nil {
		return vol, fmt.Errorf("record: %w", err)
	}
	return vol, nil
}

// List describes all volumes, by name. One that cannot be read is in it, Damaged.
func (v *Volumes) List() ([]Volume, error) {
	entries, err := os.ReadDir(v.path())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list volumes: %w", err)
	}
	var list []Volume
	for _, e := range entries {
		if CheckName(e.Name()) != nil {
			continue
		}
		vol, err := v.Get(e.Name())
		if errors.Is(err, ErrAbsent) {
			continue
		}
		if err != nil {
			vol = Volume{Name: e.Name(), Driver: "local", Damaged: strings.TrimPrefix(err.Error(), "volume "+e.Name()+": ")}
		}
		list = append(list, vol)
	}
	slices.SortFunc(list, func(a, b Volume) int { return strings.Compare(a.Name, b.Name) })
	return list, nil
}

// Size is what a volume's files take on the disk. What is mounted by options is not counted.
func (v *Volumes) Size(name string) int64 {
	var n int64
	seen := map[uint64]bool{}
	filepath.WalkDir(v.Mountpoint(name), func(p string, _ fs.DirEntry, err error) error {
		var st unix.Stat_t
		if err == nil && unix.Lstat(p, &st) == nil && !(st.Nlink > 1 && seen[st.Ino]) {
			n += st.Blocks * 512
			seen[st.Ino] = st.Nlink > 1
		}
		return nil
	})
	return n
}

func (v *Volumes) point(what string) {
	if v.testOnlyPoint != nil {
		v.testOnlyPoint(what)
	}
}

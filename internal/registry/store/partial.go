package store

import (
	"cmp"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"nacre/internal/layer"
	"nacre/internal/registry"

	"golang.org/x/sys/unix"
)

// What arrived of an upload that was broken off is kept in partial/<hex>, under the digest it is to
// have, and the next upload of that digest goes on after it. Only who holds the
// upload's lock touches the file. Nothing vouches for what is in it: Commit hashes it
// with the rest.

const (
	// partialMin is the least that is worth being kept: less is fetched in the time of
	// the request that asks for the rest.
	partialMin = 64 << 10
	// partialAge is how long what nobody came back for is kept.
	partialAge = 7 * 24 * time.Hour
	// partialBytes is how much is kept altogether, the latest first.
	partialBytes = 16 << 30
)

func (s *Store) partialPath(d registry.Descriptor) string {
	return s.path("partial", d.Digest.Encoded())
}

// createPartial begins the file of an upload that survives it. Where the upload has no
// lock it is one in tmp/, which does not.
func (u *upload) createPartial() (*os.File, error) {
	if !u.locked {
		path, err := u.s.tempName("blob")
		if err != nil {
			return nil, err
		}
		return os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	}
	if err := os.MkdirAll(u.s.path("partial"), 0o700); err != nil {
		return nil, err
	}
	return os.OpenFile(u.s.partialPath(u.d), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
}

// resumePartial opens what an earlier upload left, to be read from its beginning and then
// appended to. It is nil where there is nothing that could be the beginning.
func (u *upload) resumePartial() *os.File {
	if !u.locked || u.d.Size == 0 || u.check.Size() > 0 {
		return nil
	}
	f, err := os.OpenFile(u.s.partialPath(u.d), os.O_RDWR, 0)
	if err != nil {
		return nil
	}
	st, err := f.Stat()
	if err != nil || !st.Mode().IsRegular() || st.Size() < layer.SniffSize || st.Size() > u.d.Size {
		f.Close()
		return nil
	}
	return f
}

// leavePartial ends the use of the file of an upload that failed: what is worth it is kept, unless
// it is known to be wrong or the disk is full.
func (u *upload) leavePartial(f *os.File, keep bool) error {
	st, err := f.Stat()
	cerr := f.Close()
	if keep && u.locked && err == nil && st.Size() >= partialMin {
		return cerr
	}
	if err := os.Remove(f.Name()); !errors.Is(err, fs.ErrNotExist) { // where it is in its place now
		return cmp.Or(cerr, err)
	}
	return cerr
}

// replay reads what is kept of an upload through write, as if it arrived again.
func (u *upload) replay(f *os.File, write func([]byte) error) error {
	buf := make([]byte, 256<<10)
	for {
		if err := u.ctx.Err(); err != nil {
			return err
		}
		n, err := f.Read(buf)
		if werr := write(buf[:n]); werr != nil {
			return werr
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return u.s.fail(err)
		}
	}
}

// prunePartials removes what broken uploads left, but for those going on and those that keep is true of.
// They come latest first, with the bytes of those before. It returns what that freed.
func (s *Store) prunePartials(keep func(at time.Time, before int64) bool) (freed int64) {
	entries, _ := os.ReadDir(s.path("partial"))
	type file struct {
		name string
		at   time.Time
		size int64
	}
	var files []file
	for _, e := range entries {
		if st, err := e.Info(); err == nil {
			files = append(files, file{e.Name(), st.ModTime(), st.Size()})
		}
	}
	slices.SortFunc(files, func(a, b file) int { return b.at.Compare(a.at) })
	var before int64
	for _, f := range files {
		if keep(f.at, before) {
			before += f.size
			continue
		}
		if s.removePartial(f.name) {
			freed += f.size
		}
	}
	return freed
}

// removePartial removes a file of partial/ unless an upload has it.
func (s *Store) removePartial(name string) bool {
	lock, err := tryLock(s.path("locks", "upload-"+name))
	if err != nil {
		return false
	}
	defer lock.Close()
	defer os.Remove(lock.Name())
	return os.Remove(s.path("partial", name)) == nil
}

// boundPartials removes those partials that are old or too many, once for each open store.
func (s *Store) boundPartials() {
	s.partialOnce.Do(func() {
		oldest := s.now().Add(-partialAge)
		s.prunePartials(func(at time.Time, before int64) bool { return at.After(oldest) && before < partialBytes })
	})
}

// partialUsage is what uploads that were broken off take, and those going on.
func (s *Store) partialUsage() UsageTotal {
	t := folderUsage(s.path("partial"))
	names, _ := readNames(s.path("partial"))
	for _, name := range names {
		if !s.uploading(name) {
			t.Reclaimable += diskUsage(filepath.Join(s.path("partial"), name))
		} else {
			t.Active++
		}
	}
	return t
}

// uploading tells whether somebody holds the lock of the upload of that hex digest.
func (s *Store) uploading(hex string) bool {
	if strings.Contains(hex, "/") {
		return false
	}
	f, err := os.Open(s.path("locks", "upload-"+hex))
	if err != nil {
		return false
	}
	defer f.Close()
	return unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB) != nil
}

package store

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// owner is the mark of a live process on what it has in tmp/ and on its leases:
// a file owners/<id> that it holds locked. The kernel lets go of the lock when the
// process ends, however it ends; from then on others may clean up after it.
type owner struct {
	mu   sync.Mutex
	id   string // "<pid>-<8 hex digits>"; empty until first needed
	file *os.File
	next atomic.Int64 // numbers the owner's names in tmp/
	left bool         // there is more to remove than this process has the time for
	made atomic.Bool  // there may be leases of it
}

// leave has what is in tmp/ removed by those who open the store next, as if this process had died.
func (o *owner) leave() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.left = true
}

// ownerID returns this process' mark, making it when first needed: commands
// that only read never do.
func (s *Store) ownerID() (string, error) {
	if err := s.writable(); err != nil {
		return "", err
	}
	s.owner.mu.Lock()
	defer s.owner.mu.Unlock()
	if s.owner.id != "" {
		return s.owner.id, nil
	}
	for {
		id := fmt.Sprintf("%d-%s", os.Getpid(), random())
		f, err := tryLock(s.path("owners", id))
		if errors.Is(err, unix.EWOULDBLOCK) {
			continue // taken for dead in the moment before it was locked
		}
		if err != nil {
			return "", s.fail(err)
		}
		s.owner.id, s.owner.file = id, f
		return id, nil
	}
}

// disown lets go of everything this process still has: leases nobody released,
// temporary directories nobody removed.
func (s *Store) disown(ctx context.Context) error {
	s.owner.mu.Lock()
	defer s.owner.mu.Unlock()
	if s.owner.id == "" {
		return nil
	}
	if s.owner.left {
		err := s.update(ctx, func(tx querier) error { return dropLeases(ctx, tx, s.owner.id) })
		err = errors.Join(err, s.owner.file.Close())
		s.owner.id, s.owner.file, s.owner.left = "", nil, false
		return err
	}
	var err error
	if s.owner.made.Load() {
		err = s.forgetLeases(ctx, s.owner.id)
	}
	if err == nil {
		err = s.forgetFiles(ctx, s.owner.id)
	}
	err = errors.Join(err, os.Remove(s.path("owners", s.owner.id)), s.owner.file.Close())
	s.owner.id, s.owner.file = "", nil
	return err
}

// forget removes what an owner left: first its leases, then its files. The
// caller holds the owner's lock, or there is none any more.
func (s *Store) forget(ctx context.Context, id string) error {
	if err := s.forgetLeases(ctx, id); err != nil {
		return err
	}
	return s.forgetFiles(ctx, id)
}

func (s *Store) forgetLeases(ctx context.Context, id string) error {
	var n int
	if err := s.db.QueryRowContext(ctx, "SELECT count(*) FROM lease WHERE owner = ?", id).Scan(&n); err != nil {
		return err
	}
	if n == 0 {
		return nil
	}
	err := s.update(ctx, func(tx querier) error { return dropLeases(ctx, tx, id) })
	if isFull(err) { // they stay: the next deletion takes them for what they are, dead
		return nil
	}
	return err
}

func (s *Store) forgetFiles(ctx context.Context, id string) error {
	names, err := readNames(s.path("tmp"))
	if err != nil {
		return err
	}
	for _, name := range names {
		if tempOwner(name) == id {
			if err := removeAll(ctx, s.path("tmp", name)); err != nil {
				return err
			}
		}
	}
	return nil
}

// sweepInBackground looks for owners that died and cleans up after them. Looking
// is one readdir and a lock attempt per process alive; cleaning goes on
// until Close and is taken up again by the next Open.
func (s *Store) sweepInBackground() {
	dead := s.deadOwners()
	if len(dead) == 0 {
		return
	}
	ctx, stop := context.WithCancel(context.Background())
	s.bin.onEmpty(stop)
	s.bin.wg.Go(func() {
		for id, lock := range dead {
			if s.forget(ctx, id) == nil {
				os.Remove(s.path("owners", id))
			}
			lock.Close()
		}
	})
}

// sweep is sweepInBackground, done when it returns. It also removes what nobody can own.
func (s *Store) sweep(ctx context.Context) error {
	var errs []error
	for id, lock := range s.deadOwners() {
		err := s.forget(ctx, id)
		if err == nil {
			err = os.Remove(s.path("owners", id))
		}
		errs = append(errs, err, lock.Close())
	}
	orphans, err := s.orphans()
	errs = append(errs, err)
	for _, path := range orphans {
		errs = append(errs, removeAll(ctx, path))
	}
	s.sweepLocks()
	return s.fail(errors.Join(errs...))
}

// sweepLocks removes lock files whose holders died.
func (s *Store) sweepLocks() {
	names, _ := readNames(s.path("locks"))
	for _, name := range names {
		path := s.path("locks", name)
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			continue
		}
		// What was removed since it was opened is nobody's lock, and path is another's by now. Whoever opened this one
		// meanwhile tries another: see tryLock.
		if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil && isAt(f, path) {
			os.Remove(path)
		}
		f.Close()
	}
}

// deadOwners returns owners whose process is gone, locked by us now so that
// only one process cleans up.
func (s *Store) deadOwners() map[string]*os.File {
	entries, err := os.ReadDir(s.path("owners"))
	if err != nil {
		return nil
	}
	dead := map[string]*os.File{}
	for _, e := range entries {
		f, err := os.OpenFile(s.path("owners", e.Name()), os.O_RDWR, 0)
		if err != nil {
			continue
		}
		if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil {
			f.Close()
			continue
		}
		dead[e.Name()] = f
	}
	return dead
}

// orphans lists what is in tmp/ without an owner's file: owners make theirs before
// anything else and remove it after everything else, so nobody owns these.
func (s *Store) orphans() ([]string, error) {
	names, err := readNames(s.path("tmp"))
	if err != nil {
		return nil, err
	}
	var out []string
	for _, name := range names {
		if _, err := os.Lstat(s.path("owners", tempOwner(name))); errors.Is(err, fs.ErrNotExist) {
			// It may have been removed with its owner since it was listed.
			if _, err := os.Lstat(s.path("tmp", name)); err == nil {
				out = append(out, s.path("tmp", name))
			}
		}
	}
	return out, nil
}

// tempOwner returns the owner in a name of tmp/, "<prefix>-<pid>-<hex>-<number>".
// Names of another form have none.
func tempOwner(name string) string {
	parts := strings.Split(name, "-")
	if n := len(parts); n >= 4 {
		return parts[n-3] + "-" + parts[n-2]
	}
	return "none"
}

// TempDir makes an empty directory tmp/<prefix>-<owner>-<number>, on the file
// system of the store. remove deletes it with all in it; if this process dies
// first, another does.
func (s *Store) TempDir(prefix string) (dir string, remove func(), err error) {
	dir, err = s.tempName(prefix)
	if err != nil {
		return "", nil, err
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return "", nil, s.fail(err)
	}
	s.point("temporary directory made")
	return dir, func() { removeAll(context.Background(), dir) }, nil
}

// tempName returns a path in tmp/ that nobody else uses.
func (s *Store) tempName(prefix string) (string, error) {
	id, err := s.ownerID()
	if err != nil {
		return "", err
	}
	return filepath.Join(s.root, "tmp", fmt.Sprintf("%s-%s-%d", prefix, id, s.owner.next.Add(1))), nil
}

func random() string {
	var b [4]byte
	rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

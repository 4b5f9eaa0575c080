package store

import (
	"os"

	"golang.org/x/sys/unix"
)

// reserveSize is what a deletion needs on a full disk: SQLite writes pages to
// its log before any space comes free. A few hundred pages of 4 KiB are plenty.
const reserveSize = 1 << 20

// spendReserve frees the space kept for deletions. It tells whether there was any.
func (s *Store) spendReserve() bool { return os.Remove(s.path("reserve")) == nil }

// keepReserve sets space aside for later, if there is any to spare. Failing is
// no error: then deletions may fail on a full disk, as they would without it.
func (s *Store) keepReserve() {
	path := s.path("reserve")
	if _, err := os.Lstat(path); err == nil {
		return
	}
	tmp, err := s.tempName("reserve")
	if err != nil {
		return
	}
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return
	}
	defer f.Close()
	if unix.Fallocate(int(f.Fd()), 0, 0, reserveSize) != nil || os.Rename(tmp, path) != nil {
		os.Remove(tmp)
	}
}

// freeing runs a deletion; should the disk be full it runs once more with the reserve spent.
func (s *Store) freeing(f func() error) error {
	err := f()
	if isFull(err) && s.spendReserve() {
		err = f()
	}
	return err
}

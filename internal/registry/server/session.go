package server

import (
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"os"
	"sync"
	"sync/atomic"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"nacre/internal/registry"
)

// session is one upload: a file that grows. All that must survive a restart is the file
// itself; its size is the offset, and its name says what it is.
type session struct {
	id   string
	repo string
	path string

	writer sync.Mutex   // held by the one request that writes
	offset atomic.Int64 // bytes there are
	gone   atomic.Bool  // finished or cancelled: the file is not ours any more

	// The content is hashed while it arrives, as long as nothing was missed: after a
	// restart all of it is read again at the end.
	hash      hash.Hash
	algorithm digest.Algorithm
	hashed    int64
}

func (s *session) hashWith(a digest.Algorithm) {
	if a == "" {
		a = digest.Canonical
	}
	s.algorithm, s.hash, s.hashed = a, a.Hash(), 0
}

// lock makes the caller the session's only writer, here and among processes, and opens its
// file. unlock ends that. Errors: ErrAbsent, and errBusy's.
func (s *session) lock() (f *os.File, unlock func(), err error) {
	if !s.writer.TryLock() {
		return nil, nil, errBusy(s)
	}
	f, err = s.open()
	if err != nil {
		s.writer.Unlock()
		return nil, nil, err
	}
	return f, func() {
		f.Close() // frees the lock on the file too
		s.writer.Unlock()
	}, nil
}

func (s *session) open() (*os.File, error) {
	f, err := os.OpenFile(s.path, os.O_RDWR, 0)
	if s.gone.Load() || errors.Is(err, os.ErrNotExist) {
		if err == nil {
			f.Close()
		}
		return nil, fmt.Errorf("upload %s: %w", s.id, registry.ErrAbsent)
	}
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, errBusy(s)
		}
		return nil, fmt.Errorf("lock %s: %w", s.path, err)
	}
	fi, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, err
	}
	s.offset.Store(fi.Size()) // another process may have written
	return f, nil
}

func errBusy(s *session) error {
	return withStatus(http.StatusConflict, Errorf(CodeUploadInvalid, "another request is writing to the upload %s", s.id))
}

// write appends p. What it wrote of p counts even if not all could be written.
func (s *session) write(f *os.File, p []byte) error {
	offset := s.offset.Load()
	n, err := f.WriteAt(p, offset)
	if err != nil { // WriteAt does not count what it could write of a piece
		if fi, serr := f.Stat(); serr == nil {
			n = int(min(max(fi.Size()-offset, 0), int64(len(p))))
		}
	}
	if s.hash != nil && s.hashed == offset {
		s.hash.Write(p[:n])
		s.hashed += int64(n)
	}
	if now := offset + int64(n); now/writeBack != offset/writeBack {
		// Begin to write to the disk what came so far, so that the sync at the end is short.
		_ = unix.SyncFileRange(int(f.Fd()), offset/writeBack*writeBack, writeBack, unix.SYNC_FILE_RANGE_WRITE)
	}
	s.offset.Add(int64(n))
	return err
}

const (
	// bufferSize is what is read from a connection at once.
	bufferSize = 32 << 10
	writeBack  = 16 << 20
)

var buffers = sync.Pool{New: func() any { return new([bufferSize]byte) }}

// receive appends all that r has. What arrived stays, whatever error ended it.
//
// Reading, hashing and writing take turns on one small buffer, which stays in the cache of one
// core. Side by side, on two cores and larger buffers, they took twice the time and CPU.
func (s *session) receive(f *os.File, r io.Reader) error {
	buf := buffers.Get().(*[bufferSize]byte)
	defer buffers.Put(buf)
	for {
		n, err := io.ReadFull(r, buf[:])
		if werr := s.write(f, buf[:n]); werr != nil {
			return werr
		}
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// verify compares the content with d. Errors: registry.ErrDigest.
func (s *session) verify(f *os.File, d digest.Digest) error {
	if s.hash == nil || s.algorithm != d.Algorithm() || s.hashed != s.offset.Load() {
		s.hashWith(d.Algorithm())
		if err := s.readAgain(f); err != nil {
			return err
		}
	}
	if got := fmt.Sprintf("%x", s.hash.Sum(nil)); got != d.Encoded() {
		return fmt.Errorf("%s: %w: it has %s:%s", d, registry.ErrDigest, s.algorithm, got)
	}
	return nil
}

func (s *session) readAgain(f *os.File) error {
	buf := buffers.Get().(*[bufferSize]byte)
	defer buffers.Put(buf)
	n, err := io.CopyBuffer(struct{ io.Writer }{s.hash}, io.NewSectionReader(f, 0, s.offset.Load()), buf[:])
	s.hashed = n
	return err
}

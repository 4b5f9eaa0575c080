package layer

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"os"
	"sync"
	"sync/atomic"
)

const (
	// Blocks are what moves through the pipelines: large enough that a write is
	// worth its system call, few enough that all of them take 16 MiB.
	bufferSize  = 1 << 20
	bufferCount = 16

	// pieceSize is what one system call writes. The kernel caches a file in pieces of memory as
	// large as what is written at once, and has small ones at hand that other files just gave back (see
	// rootfs.ChangesOptions.Consume); large ones it takes from memory nobody used, which a virtual
	// machine must get from its host first: three times the time of the copy.
	pieceSize = 32 << 10

	holeSize = 64 << 10 // shortest run of zeros left out of the file on disk
)

// buffer is a piece of layer.tar on its way to the disk and into the hash.
type buffer struct {
	data    []byte // what is in use
	mem     []byte
	filling sync.WaitGroup // readers that are not done with data
	refs    atomic.Int32
}

// sink hashes a stream and writes it to a file, in goroutines of their own.
// After an error it swallows what it is given; close reports it.
type sink struct {
	file    *os.File
	free    chan *buffer
	toHash  chan *buffer
	toWrite chan *buffer
	hash    hash.Hash
	size    int64
	workers sync.WaitGroup
	failed  atomic.Bool
	err     error // of the writer, valid once workers are done
}

// memory is that of buffers, kept from one layer to the next: most layers need one buffer, and new
// memory costs more than to fill it.
var memory = sync.Pool{New: func() any { return make([]byte, bufferSize) }}

func newSink(path string) (*sink, error) {
	f, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	return startSink(f), nil
}

// newHashSink makes a sink that only hashes.
func newHashSink() *sink { return startSink(nil) }

func startSink(f *os.File) *sink {
	s := &sink{
		file:    f,
		free:    make(chan *buffer, bufferCount),
		toHash:  make(chan *buffer, bufferCount),
		toWrite: make(chan *buffer, bufferCount),
		hash:    sha256.New(),
	}
	for range bufferCount {
		s.free <- &buffer{}
	}
	s.workers.Go(func() {
		for b := range s.toHash {
			b.filling.Wait()
			s.hash.Write(b.data)
			s.release(b)
		}
	})
	s.workers.Go(s.write)
	return s
}

// errSink stops whoever feeds a sink that failed; close knows why it did.
var errSink = errors.New("layer cannot be written")

// get returns an empty buffer, as soon as there is one.
func (s *sink) get(ctx context.Context) (*buffer, error) {
	if s.failed.Load() {
		return nil, errSink
	}
	select {
	case b := <-s.free:
		if b.mem == nil {
			b.mem = memory.Get().([]byte)
		}
		b.data = b.mem[:0]
		return b, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// put hands a buffer over; extra is the number of calls to release that must
// precede its reuse, apart from the sink's own. The sink waits for b.filling.
func (s *sink) put(b *buffer, extra int32) {
	s.size += int64(len(b.data))
	b.refs.Store(2 + extra)
	s.toHash <- b // never blocks: as many places as buffers
	s.toWrite <- b
}

func (s *sink) release(b *buffer) {
	if b.refs.Add(-1) == 0 {
		s.free <- b
	}
}

func (s *sink) write() {
	off := int64(0)
	for b := range s.toWrite {
		b.filling.Wait()
		if s.err == nil && s.file != nil {
			if s.err = writeSparse(s.file, b.data, off); s.err != nil {
				s.failed.Store(true)
			}
		}
		off += int64(len(b.data))
		s.release(b)
	}
	if s.file == nil {
		return
	}
	if s.err == nil {
		s.err = s.file.Truncate(off)
	}
	if err := s.file.Close(); s.err == nil {
		s.err = err
	}
}

// close waits until all is written and returns the hash of it.
func (s *sink) close() (string, error) {
	close(s.toHash)
	close(s.toWrite)
	s.workers.Wait()
	s.keepMemory()
	if s.err != nil {
		return "", fmt.Errorf("write layer: %w", s.err)
	}
	return hex.EncodeToString(s.hash.Sum(nil)), nil
}

// keepMemory gives the memory of buffers nobody uses any more to later layers.
func (s *sink) keepMemory() {
	for {
		select {
		case b := <-s.free:
			if b.mem != nil {
				memory.Put(b.mem) //nolint:staticcheck // a slice's header is all it allocates
			}
		default:
			return
		}
	}
}

// writeSparse writes b at off, leaving out long runs of zeros.
func writeSparse(f *os.File, b []byte, off int64) error {
	for start := 0; start < len(b); {
		end, next := nextHole(b, start)
		for start < end {
			n, err := f.WriteAt(b[start:min(end, start+pieceSize)], off+int64(start))
			if err != nil {
				return err
			}
			start += n
		}
		start = next
	}
	return nil
}

const page = 4096

var zeroPage [page]byte

// nextHole finds the first run of at least holeSize zeros, in steps of a page,
// from start on; without any, both results are len(b).
func nextHole(b []byte, start int) (from, to int) {
	run := 0
	for i := start; i+page <= len(b); i += page {
		if bytes.Equal(b[i:i+page], zeroPage[:]) {
			run += page
			continue
		}
		if run >= holeSize {
			return i - run, i
		}
		run = 0
	}
	if run >= holeSize {
		tail := (len(b) - start) % page
		return len(b) - tail - run, len(b) - tail
	}
	return len(b), len(b)
}

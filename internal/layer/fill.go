package layer

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"strings"
	"sync"

	"github.com/opencontainers/go-digest"
)

// fillerCount goroutines read content. More than cores: they wait in system calls.
const fillerCount = 4

// part is where some of a file's content belongs.
type part struct {
	mem []byte
	buf *buffer
}

// job is a file to be read into its parts: two at most for small files, which
// need no channel, and as many as come from more for the others.
type job struct {
	name  string
	open  func() (io.ReadCloser, error)
	node  *inode
	known bool // node.sum is set already
	parts [2]part
	more  <-chan part
}

// each calls f for all parts in order. After f failed, or was nil, the parts are
// given back unread: what waits for them must not wait forever.
func (j *job) each(f func(mem []byte) error) (err error) {
	do := func(p part) {
		if f != nil && err == nil {
			err = f(p.mem)
		}
		p.buf.filling.Done()
	}
	for _, p := range j.parts {
		if p.buf != nil {
			do(p)
		}
	}
	if j.more != nil {
		for p := range j.more {
			do(p)
		}
	}
	return err
}

func (j *job) abandon() { j.each(nil) }

// fillers read the content of files, several at once.
type fillers struct {
	jobs    chan job
	workers sync.WaitGroup
	once    sync.Once
	err     error
	cancel  context.CancelCauseFunc
}

func startFillers(ctx context.Context, cancel context.CancelCauseFunc) *fillers {
	fs := &fillers{jobs: make(chan job, 256), cancel: cancel}
	for range fillerCount {
		fs.workers.Go(func() {
			f := filler{ctx: ctx, hash: sha256.New()}
			for j := range fs.jobs {
				if err := f.do(&j); err != nil {
					fs.fail(err)
				}
			}
		})
	}
	return fs
}

func (fs *fillers) fail(err error) {
	fs.once.Do(func() {
		fs.err = err
		fs.cancel(err)
	})
}

func (fs *fillers) send(ctx context.Context, j job) error {
	select {
	case fs.jobs <- j:
		return nil
	case <-ctx.Done():
		j.more = nil
		j.abandon()
		return context.Cause(ctx)
	}
}

// wait ends the workers and returns the first error there was.
func (fs *fillers) wait() error {
	close(fs.jobs)
	fs.workers.Wait()
	return fs.err
}

// knownSum is d in binary, where it is a sha256. It is asked for every file, and
// digest.Validate takes longer than to make the file's header.
func knownSum(d digest.Digest) (sum [sha256.Size]byte, ok bool) {
	encoded, ok := strings.CutPrefix(string(d), "sha256:")
	if !ok || len(encoded) != hex.EncodedLen(len(sum)) {
		return sum, false
	}
	_, err := hex.Decode(sum[:], []byte(encoded))
	return sum, err == nil
}

// filler is one goroutine's state.
type filler struct {
	ctx  context.Context
	hash hash.Hash
}

func (f *filler) do(j *job) error {
	if err := context.Cause(f.ctx); err != nil {
		j.abandon()
		return err
	}
	r, err := j.open()
	if err != nil {
		j.abandon()
		return fmt.Errorf("entry %q: %w", j.name, err)
	}
	defer r.Close()
	f.hash.Reset()
	err = j.each(func(mem []byte) error {
		if _, err := io.ReadFull(r, mem); err != nil {
			return j.readError(err)
		}
		if !j.known {
			f.hash.Write(mem)
		}
		return context.Cause(f.ctx)
	})
	if err == nil {
		err = context.Cause(f.ctx) // parts may be missing then
	}
	if err != nil {
		return err
	}
	if err := atEnd(r); err != nil {
		return j.readError(err)
	}
	if !j.known {
		f.hash.Sum(j.node.sum[:0])
	}
	return nil
}

var errLonger = errors.New("longer")

// atEnd makes sure that r has nothing more.
func atEnd(r io.Reader) error {
	var one [1]byte
	for {
		n, err := r.Read(one[:])
		switch {
		case n > 0:
			return errLonger
		case err == io.EOF:
			return nil
		case err != nil:
			return err
		}
	}
}

func (j *job) readError(err error) error {
	switch {
	case err == io.EOF || err == io.ErrUnexpectedEOF:
		return fmt.Errorf("entry %q: shorter than %d bytes: %w", j.name, j.node.size, ErrChanged)
	case err == errLonger:
		return fmt.Errorf("entry %q: longer than %d bytes: %w", j.name, j.node.size, ErrChanged)
	}
	return fmt.Errorf("entry %q: read: %w", j.name, err)
}

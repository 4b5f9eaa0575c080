package sandbox

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// streams are the standard streams of the process on our side.
//
// The process never gets a file of the host's: with a directory it would have a way out
// of its root, with a terminal one to type on it. It gets pipes; such as we were given
// ourselves are passed on as they are.
type streams struct {
	theirs  [3]*os.File
	own     [3]bool
	in      *os.File    // the write end of stdin
	outs    [3]*os.File // read ends, 1 and 2
	console *os.File    // the terminal's master

	copying sync.WaitGroup
	mu      sync.Mutex
	err     error // the first of writing output
	quit    chan struct{}
}

func (s *streams) open(c *Config) (err error) {
	s.quit = make(chan struct{})
	if c.Spec.Process.Terminal {
		return s.openNull(0, 1, 2) // until the child has the terminal
	}
	if err := s.openIn(c.Stdin); err != nil {
		return err
	}
	for fd, w := range []io.Writer{1: c.Stdout, 2: c.Stderr} {
		if fd == 2 && s.outs[1] != nil && same(c.Stdout, c.Stderr) {
			s.theirs[2], s.own[2] = s.theirs[1], true
			continue
		}
		if fd > 0 {
			if err := s.openOut(fd, w); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *streams) openNull(fds ...int) error {
	for _, fd := range fds {
		f, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
		if err != nil {
			return err
		}
		s.theirs[fd] = f
	}
	return nil
}

func (s *streams) openIn(r io.Reader) error {
	if r == nil {
		return s.openNull(0)
	}
	if f, ok := r.(*os.File); ok && isPipe(f) {
		return s.pass(0, f)
	}
	pr, pw, err := os.Pipe()
	if err != nil {
		return err
	}
	s.theirs[0], s.own[0], s.in = pr, true, pw
	return nil
}

func (s *streams) openOut(fd int, w io.Writer) error {
	if w == nil {
		return s.openNull(fd)
	}
	if f, ok := w.(*os.File); ok && isPipe(f) {
		return s.pass(fd, f)
	}
	pr, pw, err := os.Pipe()
	if err != nil {
		return err
	}
	s.theirs[fd], s.own[fd], s.outs[fd] = pw, true, pr
	return nil
}

// pass gives the process a pipe of ours.
func (s *streams) pass(fd int, f *os.File) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var dup int
	var dupErr error
	if err := raw.Control(func(p uintptr) { dup, dupErr = unix.FcntlInt(p, unix.F_DUPFD_CLOEXEC, 3) }); err != nil {
		return err
	}
	if dupErr != nil {
		return dupErr
	}
	s.theirs[fd], s.own[fd] = os.NewFile(uintptr(dup), f.Name()), true
	return nil
}

// isPipe tells whether f is a pipe without a name.
func isPipe(f *os.File) bool {
	raw, err := f.SyscallConn()
	if err != nil {
		return false
	}
	pipe := false
	raw.Control(func(fd uintptr) {
		var fs unix.Statfs_t
		pipe = unix.Fstatfs(int(fd), &fs) == nil && fs.Type == unix.PIPEFS_MAGIC
	})
	return pipe
}

// same tells whether two writers are one; some cannot be compared.
func same(a, b io.Writer) (equal bool) {
	defer func() { recover() }()
	return a == b
}

// closeTheirs closes what the child has now.
func (s *streams) closeTheirs() {
	for i, f := range s.theirs {
		if f != nil && !(i == 2 && f == s.theirs[1]) {
			f.Close()
		}
		s.theirs[i] = nil
	}
}

// abandon closes everything, where there is no process to talk to.
func (s *streams) abandon() {
	s.closeTheirs()
	for _, f := range []*os.File{s.in, s.outs[1], s.outs[2], s.console} {
		if f != nil {
			f.Close()
		}
	}
}

// run starts copying.
func (s *streams) run(c *Config) {
	if s.console != nil {
		s.runConsole(c)
		return
	}
	if s.in != nil {
		go s.feed(s.in, c.Stdin)
	}
	for fd, w := range []io.Writer{1: c.Stdout, 2: c.Stderr} {
		if fd > 0 && s.outs[fd] != nil {
			s.copying.Go(func() { s.drain(w, s.outs[fd]) })
		}
	}
}

// feed copies standard input. Nobody waits for it: a Read may block for ever.
func (s *streams) feed(in *os.File, r io.Reader) {
	io.Copy(in, struct{ io.Reader }{r}) // the process may close its end when it likes
	in.Close()
}

// outputPieces are what output is read into.
var outputPieces = sync.Pool{New: func() any { return new([64 << 10]byte) }}

// drain copies output until all writers of it are gone. If it cannot be written, the
// reading end is closed and who writes on gets SIGPIPE.
func (s *streams) drain(w io.Writer, f *os.File) {
	defer f.Close()
	piece := outputPieces.Get().(*[64 << 10]byte)
	defer outputPieces.Put(piece)
	buf := piece[:]
	for {
		n, err := f.Read(buf)
		if n > 0 {
			if _, err := w.Write(buf[:n]); err != nil {
				s.fail(fmt.Errorf("write output: %w", err))
				return
			}
		}
		switch {
		case err == nil:
		case err == io.EOF, errors.Is(err, syscall.EIO), errors.Is(err, os.ErrClosed):
			return // EIO: a terminal nobody has open any more
		default:
			s.fail(fmt.Errorf("read output: %w", err))
			return
		}
	}
}

func (s *streams) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		s.err = err
	}
}

// wait waits for the output's end, once the process has ended.
func (s *streams) wait() error {
	close(s.quit)
	s.copying.Wait()
	if s.in != nil {
		s.in.Close()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// endOfInput is what a terminal takes for the end of input, typed at the start of a line.
const endOfInput = 4

func (s *streams) runConsole(c *Config) {
	if c.Stdin != nil {
		go func() {
			if _, err := io.Copy(s.console, struct{ io.Reader }{c.Stdin}); err == nil {
				s.console.Write([]byte{endOfInput})
			}
		}()
	}
	out := c.Stdout
	if out == nil {
		out = io.Discard
	}
	s.copying.Go(func() { s.drain(out, s.console) })
	if c.Resize != nil {
		s.copying.Go(func() { s.resize(c.Resize) })
	}
}

// resize passes sizes on until the process ended.
func (s *streams) resize(sizes <-chan Size) {
	for {
		select {
		case <-s.quit:
			return
		case size, ok := <-sizes:
			if !ok {
				return
			}
			if raw, err := s.console.SyscallConn(); err == nil {
				raw.Control(func(fd uintptr) { setSize(int(fd), size) })
			}
		}
	}
}

package main

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"syscall"
)

// output is standard output that remembers its first failure: a command whose
// results did not arrive did not succeed, whoever wrote them.
type output struct {
	file *os.File
	err  error
}

func (o *output) Write(p []byte) (int, error) {
	n, err := o.file.Write(p)
	if o.err == nil {
		o.err = err
	}
	return n, err
}

// ReadFrom lets the kernel copy what comes from a file: into a file with copy_file_range, into a
// pipe or a socket with sendfile.
func (o *output) ReadFrom(r io.Reader) (int64, error) {
	n, err := sendFile(o.file, r)
	if err == errors.ErrUnsupported {
		n, err = o.file.ReadFrom(r)
	}
	var p *fs.PathError
	if o.err == nil && errors.As(err, &p) && p.Path == o.file.Name() { // it may be r that failed
		o.err = err
	}
	return n, err
}

// sendFile sends a file to a pipe or socket. It is errors.ErrUnsupported, and nothing has been sent,
// where r is not an *io.LimitedReader of a file, or dst is something else.
func sendFile(dst *os.File, r io.Reader) (sent int64, err error) {
	limited, ok := r.(*io.LimitedReader)
	if !ok {
		return 0, errors.ErrUnsupported
	}
	src, ok := limited.R.(*os.File)
	if !ok {
		return 0, errors.ErrUnsupported
	}
	if info, err := dst.Stat(); err != nil || info.Mode()&(fs.ModeNamedPipe|fs.ModeSocket) == 0 {
		return 0, errors.ErrUnsupported
	}
	to, err := dst.SyscallConn()
	if err != nil {
		return 0, errors.ErrUnsupported
	}
	for limited.N > 0 && err == nil {
		var n int
		var serr error
		err = to.Write(func(fd uintptr) bool {
			n, serr = syscall.Sendfile(int(fd), int(src.Fd()), nil, int(min(limited.N, 1<<20)))
			return serr != syscall.EAGAIN
		})
		switch {
		case serr == syscall.EINTR:
		case serr == syscall.EINVAL && sent == 0, serr == syscall.ENOSYS && sent == 0:
			return 0, errors.ErrUnsupported
		case serr != nil:
			err = &fs.PathError{Op: "write", Path: dst.Name(), Err: serr}
		case n == 0:
			return sent, nil // src is shorter: for the caller to find
		default:
			sent += int64(n)
			limited.N -= int64(n)
		}
	}
	return sent, err
}

// input opens what a command reads: the file at path, or standard input for "-".
// A regular file comes as *os.File, for those who want to seek in it. From anything else a
// read may wait for ever, for a program that has nothing to say yet; it ends with ctx.
func (a *app) input(ctx context.Context, path string) (io.ReadCloser, error) {
	open, stat := func() (*os.File, error) { return os.Open(path) }, func() (fs.FileInfo, error) { return os.Stat(path) }
	if path == "-" {
		open, stat = func() (*os.File, error) { return a.stdin, nil }, a.stdin.Stat
	}
	switch info, err := stat(); {
	case err != nil:
		return nil, err
	case info.IsDir():
		return nil, &fs.PathError{Op: "read", Path: path, Err: syscall.EISDIR}
	case info.Mode().IsRegular():
		return open()
	}
	return untilDone(ctx, open), nil
}

// untilDone reads what open opens until its end or that of ctx, whichever comes first.
// Neither the opening of a named pipe nor reading can be called off, so a
// goroutine does both, and is left alone with it where ctx ends.
func untilDone(ctx context.Context, open func() (*os.File, error)) io.ReadCloser {
	r, w := io.Pipe()
	context.AfterFunc(ctx, func() { w.CloseWithError(ctx.Err()) })
	go func() {
		f, err := open()
		if err == nil {
			defer f.Close()
			_, err = io.CopyBuffer(w, struct{ io.Reader }{f}, make([]byte, 256<<10))
		}
		w.CloseWithError(err)
	}()
	return r
}

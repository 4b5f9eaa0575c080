package main

import (
	"context"
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

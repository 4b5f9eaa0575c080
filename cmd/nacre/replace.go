package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// replaceFile writes a file whole or not at all: what was at path before stays
// until the new one is complete. Permissions are those of the old one, or what the umask leaves.
func replaceFile(path string, write func(io.Writer) error) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("write %s: %w", path, err)
		}
	}()
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	}
	info, serr := os.Stat(path)
	if serr == nil && !info.Mode().IsRegular() {
		f, err := os.OpenFile(path, os.O_WRONLY, 0) // a device or a pipe, such as /dev/null
		if err != nil {
			return bare(err)
		}
		return writeAll(f, write)
	}
	temp := filepath.Join(filepath.Dir(path), ".nacre-"+rand.Text())
	f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return bare(err)
	}
	defer func() {
		if err != nil {
			os.Remove(temp)
		}
	}()
	if serr == nil {
		f.Chmod(info.Mode().Perm())
	}
	if err := writeAll(f, write); err != nil {
		return err
	}
	return bare(os.Rename(temp, path))
}

// writeAll writes and closes f. That f could not be written is the whole error then,
// not what it made impossible.
func writeAll(f *os.File, write func(io.Writer) error) error {
	out := &output{file: f}
	err := write(out)
	if out.err != nil {
		err = bare(out.err)
	}
	return errors.Join(err, f.Close())
}

// bare is an error without the path in it, which would be that of the temporary file.
func bare(err error) error {
	var p *fs.PathError
	var l *os.LinkError
	switch {
	case errors.As(err, &p):
		return p.Err
	case errors.As(err, &l):
		return l.Err
	}
	return err
}

package main

import (
	"archive/tar"
	"crypto/sha256"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"

	"golang.org/x/sync/errgroup"
)

// tarSum writes a tar of dir and hashes it meanwhile.
func tarSum(dir, out string) error {
	f, err := os.Create(out)
	if err != nil {
		return err
	}
	t := tar.NewWriter(io.MultiWriter(f, sha256.New()))
	err = filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		h, err := tar.FileInfoHeader(info, "")
		if err != nil {
			return err
		}
		h.Name = path
		if err := t.WriteHeader(h); err != nil || !info.Mode().IsRegular() {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		_, err = t.Write(data)
		return err
	})
	return errors.Join(err, t.Close(), f.Close())
}

// each calls f for every file below dir, on n threads; folders at the top are shared out.
func each(dir string, n int, f func(path string, e fs.DirEntry) error) error {
	top, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	var g errgroup.Group
	g.SetLimit(n)
	for _, e := range top {
		g.Go(func() error {
			return filepath.WalkDir(filepath.Join(dir, e.Name()), func(path string, e fs.DirEntry, err error) error {
				if err != nil || e.IsDir() {
					return err
				}
				return f(path, e)
			})
		})
	}
	return g.Wait()
}

func walk(dir string) error {
	return each(dir, 2, func(_ string, e fs.DirEntry) error {
		_, err := e.Info()
		return err
	})
}

func sum(dir string) error {
	return each(dir, runtime.NumCPU(), func(path string, _ fs.DirEntry) error {
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = io.Copy(sha256.New(), f)
		return err
	})
}

// copyAll appends files one to another. Go copies from file to file by copy_file_range.
func copyAll(dir, out string) error {
	w, err := os.Create(out)
	if err != nil {
		return err
	}
	err = each(dir, 1, func(path string, _ fs.DirEntry) error {
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = io.Copy(w, f)
		return err
	})
	return errors.Join(err, w.Close())
}

func copySum(file, out string) error {
	r, err := os.Open(file)
	if err != nil {
		return err
	}
	defer r.Close()
	w, err := os.Create(out)
	if err != nil {
		return err
	}
	_, err = io.CopyBuffer(io.MultiWriter(w, sha256.New()), struct{ io.Reader }{r}, make([]byte, 1<<18))
	return errors.Join(err, w.Close())
}

package main

import (
	"crypto/sha256"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"runtime"

	"github.com/klauspost/compress/gzip"
	"golang.org/x/sync/errgroup"
)

// block is how much is compressed by itself.
const block = 1 << 20

// compress gzips all files below dir as one stream in blocks, which any reader takes for one.
func compress(dir string) error {
	r, w := io.Pipe()
	var read errgroup.Group
	read.Go(func() error {
		err := each(dir, 1, func(path string, _ fs.DirEntry) error {
			data, err := os.ReadFile(path)
			if err == nil {
				_, err = w.Write(data)
			}
			return err
		})
		w.CloseWithError(err)
		return err
	})
	var pack errgroup.Group
	pack.SetLimit(runtime.NumCPU())
	for {
		buf := make([]byte, block)
		n, err := io.ReadFull(r, buf)
		if n > 0 {
			pack.Go(func() error {
				z := gzip.NewWriter(io.Discard)
				if _, err := z.Write(buf[:n]); err != nil {
					return err
				}
				return z.Close()
			})
		}
		if err != nil {
			break // the end, or what read.Wait returns
		}
	}
	if err := pack.Wait(); err != nil {
		return err
	}
	return read.Wait()
}

func fetch(urls []string) error {
	var g errgroup.Group
	g.SetLimit(2)
	for _, u := range urls {
		g.Go(func() error { return fetchOne(u) })
	}
	return g.Wait()
}

func fetchOne(url string) error {
	resp, err := http.Get(url)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", url, resp.Status)
	}
	z, err := gzip.NewReader(resp.Body)
	if err != nil {
		return err
	}
	_, err = io.CopyBuffer(sha256.New(), struct{ io.Reader }{z}, make([]byte, 1<<18))
	return err
}

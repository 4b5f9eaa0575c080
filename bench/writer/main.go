// Writer is what RUN executes in workload W4: it writes N files of BYTES altogether
// below DIR, as an unpacking package manager would, with one goroutine for each processor.
//
//	writer DIR N BYTES
package main

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "writer:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 3 {
		return fmt.Errorf("usage: writer DIR N BYTES")
	}
	n, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	total, err := strconv.Atoi(args[2])
	if err != nil {
		return err
	}
	for d := 0; d < n; d += 100 {
		if err := os.MkdirAll(filepath.Join(args[0], fmt.Sprintf("%04d", d/100)), 0o755); err != nil {
			return err
		}
	}
	workers := runtime.NumCPU()
	errs := make([]error, workers)
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			buf := make([]byte, 2*total/n+8)
			for i := w; i < n && errs[w] == nil; i += workers {
				size := 1 + (i*7919)%(2*total/n-1)
				fill(buf[:(size+7)/8*8], uint64(i)+1)
				errs[w] = os.WriteFile(filepath.Join(args[0], fmt.Sprintf("%04d", i/100), fmt.Sprintf("file-%05d", i)), buf[:size], 0o644)
			}
		})
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// fill writes content that does not compress, the same for the same seed (xorshift64).
func fill(b []byte, seed uint64) {
	x := seed * 0x9E3779B97F4A7C15
	for i := 0; i < len(b); i += 8 {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		binary.LittleEndian.PutUint64(b[i:], x)
	}
}

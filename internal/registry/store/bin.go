package store

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"
)

// bin unlinks in the background what has been moved to tmp/ as trash. Moving is what
// removes content from the store; unlinking it takes long (60,000 files a second) and
// may be interrupted at any point: the next Open goes on with it.
type bin struct {
	wg   sync.WaitGroup
	mu   sync.Mutex
	stop []func()

	holding bool
	kept    []string // trash that is not unlinked while holding
}

// hold keeps what is thrown away from now on from being unlinked, until held.
func (b *bin) hold() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.holding = true
}

// held returns what was kept, and ends that.
func (b *bin) held() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	list := b.kept
	b.holding, b.kept = false, nil
	return list
}

// keep tells whether trash was kept.
func (b *bin) keep(trash []string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.holding {
		b.kept = append(b.kept, trash...)
	}
	return b.holding
}

// onEmpty has f called when the store closes, before waiting.
func (b *bin) onEmpty(f func()) {
	b.mu.Lock()
	b.stop = append(b.stop, f)
	b.mu.Unlock()
}

// empty waits until all is unlinked that this process threw away.
func (b *bin) empty() {
	b.mu.Lock()
	for _, f := range b.stop {
		f()
	}
	b.mu.Unlock()
	b.wg.Wait()
}

// discard moves path into tmp/, from where it can be moved back until it is
// given to unlink. It returns "" if there is nothing at path.
func (s *Store) discard(path string) (trash string, err error) {
	trash, err = s.tempName("trash")
	if err != nil {
		return "", err
	}
	err = os.Rename(path, trash)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	return trash, err
}

// unlink removes trash in the background.
func (s *Store) unlink(trash ...string) {
	if len(trash) == 0 || s.bin.keep(trash) {
		return
	}
	s.bin.wg.Go(func() {
		for _, path := range trash {
			removeAll(context.Background(), path)
		}
	})
}

// removeAll removes path and all below it until ctx ends. Directories whose
// mode keeps even their owner out are made accessible first: layers unpacked by users other than root
// have such.
func removeAll(ctx context.Context, path string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	err := absentToo(patiently(unix.Unlink, path))
	if err != unix.EISDIR && err != unix.EPERM && err != unix.EACCES { // the first of a directory; the others perhaps
		return asRemove(path, err)
	}
	if st, serr := os.Lstat(path); serr != nil || !st.IsDir() {
		return asRemove(path, err)
	}
	return removeDir(ctx, path)
}

// removeDir is removeAll of what is known for a directory.
func removeDir(ctx context.Context, path string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	entries, err := readEntries(path)
	if errors.Is(err, fs.ErrPermission) {
		os.Chmod(path, 0o700)
		entries, err = readEntries(path)
	}
	if err != nil {
		return asRemove(path, absentToo(err))
	}
	for _, e := range entries {
		remove := removeAll
		if e.IsDir() {
			remove = removeDir
		}
		err := remove(ctx, filepath.Join(path, e.Name()))
		if errors.Is(err, fs.ErrPermission) {
			os.Chmod(path, 0o700)
			err = remove(ctx, filepath.Join(path, e.Name()))
		}
		if err != nil {
			return err
		}
	}
	return asRemove(path, absentToo(patiently(unix.Rmdir, path)))
}

// patiently makes a call again that was interrupted.
func patiently(call func(path string) error, path string) error {
	for {
		if err := call(path); err != unix.EINTR {
			return err
		}
	}
}

// absentToo is err, but nil where there is nothing any more.
func absentToo(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

func asRemove(path string, err error) error {
	if number, ok := err.(unix.Errno); ok {
		return &os.PathError{Op: "remove", Path: path, Err: number}
	}
	return err
}

// readEntries reads a directory, in no order.
func readEntries(dir string) ([]fs.DirEntry, error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	return d.ReadDir(-1)
}

func readNames(dir string) ([]string, error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	return d.Readdirnames(-1)
}

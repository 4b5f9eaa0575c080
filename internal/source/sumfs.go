package source

import (
	"cmp"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"io/fs"
	"path"
	"sync"
	"sync/atomic"
	"time"

	"nacre/internal/layer"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
)

// SumOptions say what a sum leaves out.
type SumOptions struct {
	// SkipOwner: owners do not count.
	SkipOwner bool
	// Each, where it is set, is called with everything that is summed, in its order.
	Each func(Object)
	// NotAfter: times count as well, those after it as if they were it. Nil: no time counts.
	NotAfter *time.Time
}

// sumWindow is how many objects SumFS holds at once: enough to keep all cores hashing,
// about a megabyte of memory.
const sumWindow = 2048

// SumFS is Tree.Sum for any file system, owners included unless skipped.
// For a Tree and without owners it is the same digest.
func SumFS(ctx context.Context, f FS, names []string, o SumOptions) (digest.Digest, error) {
	w := fsSummer{f: f, s: newSummer(o)}
	for _, name := range names {
		name = cleanName(name)
		fi, err := f.Lstat(name)
		if err != nil {
			return "", err
		}
		if err := w.visit(ctx, name, fi); err != nil {
			return "", err
		}
	}
	if err := w.flush(ctx); err != nil {
		return "", err
	}
	return w.s.digest(), nil
}

// fsSummer collects records in order, hashes the contents of a window of them in parallel
// and passes them on.
type fsSummer struct {
	f      FS
	s      *summer
	window []record
}

func (w *fsSummer) visit(ctx context.Context, name string, fi fs.FileInfo) error {
	st, ok := fi.Sys().(*layer.Stat)
	if !ok {
		return fmt.Errorf("%s: no layer.Stat in file info", name)
	}
	w.window = append(w.window, record{
		name: name, mode: st.Mode, uid: st.UID, gid: st.GID,
		ino: st.Ino, nlink: st.Nlink, size: st.Size, rdev: unix.Mkdev(st.Major, st.Minor),
		mtime: st.ModTime.UnixNano(), link: st.Link, xattrs: st.Xattrs,
	})
	if len(w.window) >= sumWindow {
		if err := w.flush(ctx); err != nil {
			return err
		}
	}
	if !fi.IsDir() {
		return nil
	}
	list, err := w.f.ReadDir(name)
	if err != nil {
		return err
	}
	for _, e := range list {
		fi, err := e.Info()
		if err != nil {
			return err
		}
		if err := w.visit(ctx, path.Join(name, e.Name()), fi); err != nil {
			return err
		}
	}
	return nil
}

func (w *fsSummer) flush(ctx context.Context) error {
	var (
		next atomic.Int64
		errs = make([]error, workers())
		wg   sync.WaitGroup
	)
	for k := range errs {
		wg.Go(func() {
			buf := make([]byte, hashBuf)
			for i := next.Add(1) - 1; i < int64(len(w.window)); i = next.Add(1) - 1 {
				r := &w.window[i]
				if r.mode&unix.S_IFMT != unix.S_IFREG {
					continue
				}
				if errs[k] = hashFile(ctx, w.f, r, buf); errs[k] != nil {
					return
				}
			}
		})
	}
	wg.Wait()
	if err := cmp.Or(errs...); err != nil {
		return err
	}
	for i := range w.window {
		w.s.add(&w.window[i])
	}
	w.window = w.window[:0]
	return nil
}

// hashFile sets r.digest.
func hashFile(ctx context.Context, fsys FS, r *record, buf []byte) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	f, err := fsys.Open(r.name)
	if err != nil {
		return err
	}
	defer f.Close()
	h := sha256.New()
	for size := int64(0); ; {
		n, err := f.Read(buf)
		h.Write(buf[:n])
		size += int64(n)
		if err == io.EOF {
			if size != r.size {
				return pathError("read", r.name, ErrChanged)
			}
			break
		}
		if err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	r.digest = h.Sum(nil)
	return nil
}

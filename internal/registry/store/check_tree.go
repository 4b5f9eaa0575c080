package store

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"nacre/internal/layer"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
)

// tree compares an unpacked layer with its tar.
func (c *checker) tree(ctx context.Context, d digest.Digest) error {
	l, err := c.s.Layer(ctx, d)
	if err != nil {
		return err
	}
	dir := c.s.treeDir(d)
	text := ""
	var bad *layer.Stat
	for st, err := range l.All() {
		if err != nil {
			return err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if st.Whiteout {
			continue
		}
		if text = differs(l, st, filepath.Join(dir, st.Name)); text != "" {
			text, bad = st.Name+" "+text, st
			break
		}
	}
	if text == "" {
		return nil
	}
	// Files go a moment before that is committed.
	if err := c.settle(ctx); err != nil {
		return err
	}
	if row, err := c.s.layerRow(ctx, c.s.db, d); err != nil || !row.tree.Valid || differs(l, bad, filepath.Join(dir, bad.Name)) == "" {
		return nil // removed meanwhile, or not after all
	}
	return c.problem(Problem{Object: "tree " + d.String(), Text: text, Fix: "it is dropped and made again when needed"}, func() error {
		return c.s.removing(ctx, func(tx querier, r *removal) error {
			if _, err := tx.ExecContext(ctx, "UPDATE layer SET tree = NULL WHERE diffid = ?", d); err != nil {
				return err
			}
			return r.moved.away(dir)
		})
	})
}

// settle waits for those who are changing the store now.
func (c *checker) settle(ctx context.Context) error {
	if c.s.writable() != nil {
		return nil
	}
	return c.s.update(ctx, func(querier) error { return nil })
}

// differs says how the file at path is not the entry st, or "".
func differs(l *layer.Layer, st *layer.Stat, path string) string {
	var have unix.Stat_t
	kind := st.Mode & unix.S_IFMT
	err := unix.Lstat(path, &have)
	if device := kind == unix.S_IFCHR || kind == unix.S_IFBLK; device && (err != nil || have.Mode&unix.S_IFMT == unix.S_IFREG) {
		return "" // devices take privileges; without them they are left out, or a file stands in
	}
	if err != nil {
		return "is missing"
	}
	if have.Mode&unix.S_IFMT != kind {
		return "is of another type"
	}
	switch kind {
	case unix.S_IFLNK:
		if to, err := os.Readlink(path); err != nil || to != st.Link {
			return "points elsewhere"
		}
	case unix.S_IFREG:
		if have.Size != st.Size || !sameContent(l, st.Name, path) {
			return "has other content"
		}
	}
	return ""
}

func sameContent(l *layer.Layer, name, path string) bool {
	a, err := l.Open(name)
	if err != nil {
		return false
	}
	defer a.Close()
	b, err := os.Open(path)
	if err != nil {
		// Unreadable to its owner, by its mode: not wrong.
		return errors.Is(err, fs.ErrPermission)
	}
	defer b.Close()
	return sameBytes(a, b)
}

func sameBytes(a, b io.Reader) bool {
	x, y := make([]byte, 64<<10), make([]byte, 64<<10)
	for {
		n, err := io.ReadFull(a, x)
		m, merr := io.ReadFull(b, y)
		if !bytes.Equal(x[:n], y[:m]) || (err == nil) != (merr == nil) {
			return false
		}
		if err != nil {
			return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
		}
	}
}

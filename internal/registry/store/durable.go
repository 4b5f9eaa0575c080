package store

import (
	"context"
	"database/sql"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"nacre/internal/registry"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
)

// Content is not synced when it is written: that would make every build wait for the disk. Its
// row notes the boot of the machine it was written in instead. In that boot the
// kernel vouches for it. In a later one it may have been torn by a power loss, so
// it is verified before its first use and the note cleared, or it is dropped.

// bootID identifies this boot of the machine. Without /proc every process is a boot
// of its own, and verifies what others wrote.
func bootID() string {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if id := strings.TrimSpace(string(b)); err == nil && id != "" {
		return id
	}
	return "unknown-" + random()
}

// sure tells whether content with this boot note is as it was written.
func (s *Store) sure(boot string) bool { return boot == "" || boot == s.boot }

const (
	// settle is when unsynced content is taken to have reached the disk by itself:
	// the kernel writes dirty pages back after 30 s (vm.dirty_expire_centisecs), and an fsync then costs next to nothing.
	settle = time.Minute
	// syncBatch bounds how many of those Close syncs.
	syncBatch = 16
)

// syncOld syncs some of the content that was written a while ago and clears its boot
// note. Only commands that wrote themselves spend the time.
func (s *Store) syncOld(ctx context.Context) error {
	s.mu.Lock()
	wrote := s.wrote
	s.mu.Unlock()
	if !wrote {
		return nil
	}
	err := s.syncBefore(ctx, s.now().Add(-settle), syncBatch)
	if isFull(err) {
		return nil // it is only put off
	}
	return err
}

// syncBefore syncs up to n of the layers and blobs added before t in this boot.
func (s *Store) syncBefore(ctx context.Context, t time.Time, n int) error {
	type row struct {
		digest digest.Digest
		layer  bool
	}
	rows, err := all(ctx, s.db, func(r *sql.Rows) (v row, err error) {
		err = r.Scan((*string)(&v.digest), &v.layer)
		return v, err
	}, `SELECT diffid, 1 FROM layer WHERE boot = ?1 AND added < ?2
		UNION ALL SELECT digest, 0 FROM blob WHERE boot = ?1 AND added < ?2 LIMIT ?3`, s.boot, t.UnixNano(), n)
	if err != nil || len(rows) == 0 {
		return err
	}
	var layers, blobs []any
	for _, r := range rows {
		if r.layer {
			dir := s.LayerDir(r.digest)
			if syncPaths(filepath.Join(dir, "layer.tar"), filepath.Join(dir, "layer.erofs"), dir) == nil {
				layers = append(layers, r.digest)
			}
		} else if syncPaths(s.blobPath(r.digest)) == nil {
			blobs = append(blobs, r.digest)
		}
	}
	if err := syncPaths(append(s.blobDirs(), s.path("layers"))...); err != nil {
		return err
	}
	return s.update(ctx, func(tx querier) error {
		return errors.Join(clearBoot(ctx, tx, "layer", "diffid", layers), clearBoot(ctx, tx, "blob", "digest", blobs))
	})
}

func clearBoot(ctx context.Context, tx querier, table, column string, digests []any) error {
	for _, d := range digests {
		if _, err := tx.ExecContext(ctx, "UPDATE "+table+" SET boot = '' WHERE "+column+" = ?", d); err != nil {
			return err
		}
	}
	return nil
}

// syncPaths syncs files and directories, in order.
func syncPaths(paths ...string) error {
	for _, p := range paths {
		f, err := os.Open(p)
		if err != nil {
			return err
		}
		err = f.Sync()
		f.Close()
		// Some file systems cannot sync directories and say so with EINVAL.
		if err != nil && !errors.Is(err, unix.EINVAL) {
			return err
		}
	}
	return nil
}

// hashFile returns the digest of a file.
func hashFile(ctx context.Context, path string, by digest.Algorithm) (digest.Digest, int64, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", 0, err
	}
	defer f.Close()
	h := by.Digester()
	n, err := io.CopyBuffer(h.Hash(), registry.Until(ctx, f), make([]byte, 1<<20))
	return h.Digest(), n, err
}

package store

import (
	"context"
	"errors"
	"fmt"
	"os"

	"nacre/internal/registry"
	"nacre/internal/rootfs"

	"github.com/opencontainers/go-digest"
)

func (s *Store) treeDir(diffID digest.Digest) string { return s.path("trees", diffID.Encoded()) }

// Tree returns the directory a layer is unpacked in, for machines and users that
// cannot mount its index. It is made on first need. One that was made before the machine
// last started, and not synced since, is made again: comparing it would
// take as long. Errors: registry.ErrAbsent.
func (s *Store) Tree(ctx context.Context, diffID digest.Digest) (string, error) {
	if _, err := hexOf(diffID); err != nil {
		return "", fmt.Errorf("tree: %w", err)
	}
	l, err := s.Layer(ctx, diffID)
	if err != nil {
		return "", err
	}
	dir := s.treeDir(diffID)
	if ok, err := s.hasTree(ctx, diffID); err != nil || ok {
		return dir, err
	}
	if err := s.writable(); err != nil {
		return "", err
	}
	unlock, err := s.Lock(ctx, "tree-"+diffID.Encoded())
	if err != nil {
		return "", err
	}
	defer unlock()
	if ok, err := s.hasTree(ctx, diffID); err != nil || ok {
		return dir, err // another process made it
	}
	tmp, remove, err := s.TempDir("tree")
	if err != nil {
		return "", err
	}
	defer remove()
	if err := rootfs.Unpack(ctx, l, tmp, rootfs.UnpackOptions{UserXattr: rootfs.UserXattr()}); err != nil {
		return "", fmt.Errorf("unpack layer %s: %w", diffID, s.fail(err))
	}
	if err := rootfs.MarkTree(tmp); err != nil {
		return "", err
	}
	moved := moves{s: s}
	err = s.update(ctx, func(tx querier) error {
		if ok, err := s.hasLayer(ctx, tx, diffID); err != nil || !ok {
			return errors.Join(err, fmt.Errorf("layer %s: %w", diffID, registry.ErrAbsent))
		}
		if err := moved.away(dir); err != nil {
			return err
		}
		if err := moved.to(tmp, dir); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, "UPDATE layer SET tree = ? WHERE diffid = ?", s.boot, diffID)
		return err
	})
	if err != nil {
		moved.undo()
		return "", err
	}
	s.unlink(moved.trash...)
	return dir, nil
}

func (s *Store) hasTree(ctx context.Context, diffID digest.Digest) (bool, error) {
	row, err := s.layerRow(ctx, s.db, diffID)
	if err != nil {
		return false, err
	}
	if !row.tree.Valid || !s.sure(row.tree.String) {
		return false, nil
	}
	_, err = os.Lstat(s.treeDir(diffID))
	return err == nil && rootfs.TreeIsOurs(s.treeDir(diffID)), nil
}

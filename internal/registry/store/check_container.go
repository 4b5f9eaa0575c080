package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/opencontainers/go-digest"
)

// containers looks for containers whose folder or image is not there. Folders that no record tells of are
// leftovers: see strays.
func (c *checker) containers(ctx context.Context) error {
	rows, err := c.s.containers(ctx, c.s.db, "")
	if err != nil {
		return err
	}
	c.report.Containers = len(rows)
	for _, r := range rows {
		dir := c.s.ContainerDir(r.ID)
		if _, err := os.Lstat(dir); errors.Is(err, fs.ErrNotExist) {
			if there, err := c.s.HasContainer(ctx, r.ID); err != nil {
				return err
			} else if _, err := os.Lstat(dir); !there || err == nil {
				continue // removed meanwhile, or not after all
			}
			err := c.problem(Problem{Object: "container " + r.Name, Text: "its folder is missing", Fix: "its record is dropped"}, func() error {
				return c.s.DropContainer(ctx, r.ID)
			})
			if err != nil {
				return err
			}
			continue
		}
		if ok, err := c.fit(ctx, r.Image); err != nil {
			return err
		} else if !ok {
			err := c.problem(Problem{
				Object: "container " + r.Name, Text: "its image " + r.Image.String() + " is missing or damaged",
				Fix: "pull the image again, or remove the container",
			}, nil)
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// recordOldContainers takes over containers: those whose record can still be read, and all whose folder is there
// with what was asked for. These are called by their ID.
func (s *Store) recordOldContainers(ctx context.Context, old *sql.DB) error {
	insert := func(id, name, image string, created int64, doomed bool) error {
		if _, err := os.Lstat(filepath.Join(s.ContainerDir(id), lockName)); err != nil || !isHex(id) || len(id) != 64 {
			return nil
		}
		return s.update(ctx, func(tx querier) error {
			_, err := tx.ExecContext(ctx, "INSERT OR IGNORE INTO container (id, name, image, created, doomed) VALUES (?, ?, ?, ?, ?)", id, name, image, created, doomed)
			return err
		})
	}
	err := eachOld(ctx, old, "SELECT id, name, image, created, doomed FROM container", func(r *sql.Rows) error {
		var id, name, image string
		var created int64
		var doomed bool
		if r.Scan(&id, &name, &image, &created, &doomed) != nil {
			return nil
		}
		return insert(id, name, image, created, doomed)
	})
	if err != nil {
		return err
	}
	ids, err := readNames(s.path("containers"))
	if err != nil {
		return nil
	}
	for _, id := range ids {
		var asked struct{ Target digest.Digest }
		name := filepath.Join(s.path("containers", id), "container.json")
		data, err := os.ReadFile(name)
		st, err2 := os.Stat(name)
		if err != nil || err2 != nil || json.Unmarshal(data, &asked) != nil || checkDigest(asked.Target) != nil {
			continue
		}
		if err := insert(id, id, asked.Target.String(), st.ModTime().UnixNano(), false); err != nil {
			return err
		}
	}
	return nil
}

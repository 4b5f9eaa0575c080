package store

import (
	"context"
	"database/sql"

	"github.com/opencontainers/go-digest"
)

// user is who keeps an image from being removed: a container, running or not, or the holder of a lease.
type user struct {
	text      string // "container 1f2e3d4c5b6a", or the holder's name; empty: nobody
	container string // its name
	running   bool
}

func (u user) is() bool { return u.text != "" }

func (u user) conflictf(format string, args ...any) error {
	err := conflictf(format, args...).(*conflictError)
	err.container = u.container
	return err
}

// user returns who uses one of images; a running container comes before others.
func (u *unname) user(ctx context.Context, tx querier, images []Image) (user, error) {
	var first user
	for _, img := range images {
		who, err := u.s.holder(ctx, tx, img.Target.Digest)
		if err != nil || who.running {
			return who, err
		}
		if !first.is() {
			first = who
		}
	}
	return first, nil
}

// holder returns who uses an image.
func (s *Store) holder(ctx context.Context, tx querier, d digest.Digest) (user, error) {
	rows, err := s.containers(ctx, tx, "WHERE image = ?", d)
	if err != nil {
		return user{}, err
	}
	var first user
	for _, r := range rows {
		who := user{text: "container " + r.ID[:12], container: r.Name, running: ContainerLocked(s.ContainerDir(r.ID))}
		if who.running {
			return who, nil
		}
		if !first.is() {
			first = who
		}
	}
	if first.is() {
		return first, nil
	}
	err = tx.QueryRowContext(ctx, `SELECT holder FROM pin JOIN lease ON lease.id = pin.lease
		WHERE pin.digest = ? AND holder <> '' ORDER BY started LIMIT 1`, d).Scan(&first.text)
	if err == sql.ErrNoRows {
		err = nil
	}
	return first, err
}

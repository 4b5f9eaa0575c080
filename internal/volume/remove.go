package volume

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// Remove removes a volume with all that is in it. Errors: ErrAbsent, *InUseError.
func (v *Volumes) Remove(ctx context.Context, name string) error { return v.remove(ctx, name, "") }

// remove is Remove for a container that itself still has the volume, and is not to have it longer.
func (v *Volumes) remove(ctx context.Context, name, container string) error {
	if CheckName(name) != nil {
		return fmt.Errorf("%w: %s", ErrAbsent, short(name))
	}
	dir, err := v.lockAlone(ctx, name)
	if err != nil {
		return err
	}
	defer dir.Close()
	return v.removeLocked(dir, name, container)
}

// removeLocked removes the volume whose folder the caller has locked alone.
func (v *Volumes) removeLocked(dir *os.File, name, container string) error {
	users := slices.DeleteFunc(v.Users(name), func(id string) bool { return id == container })
	if len(users) > 0 {
		return &InUseError{name, users}
	}
	vol, err := readRecord(dir)
	if err != nil {
		vol = Volume{}
	}
	trash, remove, err := v.store.TempDir("trash")
	if err != nil {
		return err
	}
	defer remove()
	if err := os.Rename(v.path(name), filepath.Join(trash, name)); err != nil {
		return fmt.Errorf("remove volume: %w", err)
	}
	v.point("volume in the trash")
	return vol.syncDir(v.path()) // or it would be back, in part, after a power failure
}

// lockAlone locks the folder of a volume that no container is being made with. Others who hold it alone are waited
// for: they are done in a moment. Errors: *InUseError.
func (v *Volumes) lockAlone(ctx context.Context, name string) (*os.File, error) {
	shared := 0
	for wait := time.Millisecond; ; wait = min(2*wait, 50*time.Millisecond) {
		dir, err := v.lock(ctx, name, unix.LOCK_EX|unix.LOCK_NB)
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return dir, err
		}
		probe, err := v.lock(ctx, name, unix.LOCK_SH|unix.LOCK_NB)
		if err == nil {
			probe.Close()
			if shared++; shared == 4 { // less may be others who look as we do
				return nil, &InUseError{name, v.named(name)}
			}
		}
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(wait):
		}
	}
}

// PruneOptions say which of the volumes that nobody uses go.
type PruneOptions struct {
	All  bool // those that were given a name, too
	Keep func(Volume) bool
}

// PruneReport says what went.
type PruneReport struct {
	Names []string
	Bytes int64
}

// Prune removes volumes that no container uses.
func (v *Volumes) Prune(ctx context.Context, o PruneOptions) (PruneReport, error) {
	var r PruneReport
	list, err := v.List()
	if err != nil {
		return r, err
	}
	for _, vol := range list {
		if err := ctx.Err(); err != nil {
			return r, err
		}
		if vol.Damaged != "" || !vol.Anonymous && !o.All || o.Keep != nil && o.Keep(vol) || len(v.Users(vol.Name)) > 0 {
			continue
		}
		size := v.Size(vol.Name)
		err := v.Remove(ctx, vol.Name)
		var used *InUseError
		if errors.As(err, &used) || errors.Is(err, ErrAbsent) {
			continue
		}
		if err != nil {
			return r, err
		}
		r.Names, r.Bytes = append(r.Names, vol.Name), r.Bytes+size
	}
	return r, nil
}

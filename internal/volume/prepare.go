package volume

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"

	"nacre/internal/rootfs"

	"golang.org/x/sys/unix"
)

// Prepare makes what a container's mounts need and notes that it uses it: volumes are made and filled, sources that must
// exist are looked for. image is the container's, read; nil fills nothing. The mounts that come back have names
// for all their volumes; they are what the container's record keeps.
//
// The hold is closed when the container has its folder in the store. Release is the end of it all. After an error
// nothing is held, and volumes that were made for this container alone are gone again.
func (v *Volumes) Prepare(ctx context.Context, container string, mounts []Mount, image *rootfs.FS) (out []Mount, hold *Hold, err error) {
	hold = &Hold{}
	if slices.ContainsFunc(mounts, func(m Mount) bool { return m.Type == TypeVolume }) {
		v.removeOrphans()
	}
	defer func() {
		if err != nil {
			hold.Close()
			err = errors.Join(err, v.Release(context.WithoutCancel(ctx), container, out, true))
			out, hold = nil, nil
		}
	}()
	for _, m := range mounts {
		switch m.Type {
		case TypeVolume:
			if err := v.prepareVolume(ctx, container, &m, image, hold); err != nil {
				out = append(out, m)
				return out, hold, fmt.Errorf("mount on %s: %w", m.Target, err)
			}
		case TypeBind:
			if _, err := os.Stat(m.Source); err != nil && !m.CreateSource {
				return out, hold, badSource(m, err)
			}
		}
		out = append(out, m)
	}
	return out, hold, nil
}

// prepareVolume gives m its volume, whose folder stays locked by hold.
func (v *Volumes) prepareVolume(ctx context.Context, container string, m *Mount, image *rootfs.FS, hold *Hold) error {
	o := CreateOptions{Name: m.Source, Driver: m.Driver, Labels: m.Labels, Options: m.Options}
	if m.Source == "" {
		o.Name, o.Anonymous = newName(), true
		m.Source, m.Anonymous = o.Name, true
	}
	vol, dir, err := v.use(ctx, container, o)
	if err != nil {
		return err
	}
	hold.dirs = append(hold.dirs, dir)
	if len(vol.Options) > 0 {
		return nil // what is mounted in its place is filled by whoever keeps it
	}
	if m.NoCopy || m.Subpath != "" {
		image = nil // finishes what another began, and no more
	}
	if err := v.fill(ctx, vol, dir, image, m.Target); err != nil {
		return fmt.Errorf("fill volume %s: %w", vol.Name, err)
	}
	return nil
}

// badSource words docker's error for the source of a bind that cannot be had.
func badSource(m Mount, err error) error {
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("invalid mount config for type %q: bind source path does not exist: %s", m.Type, m.Source)
	}
	return fmt.Errorf("invalid mount config for type %q: %w", m.Type, err)
}

// Release notes that a container, which is gone or about to be, uses its volumes no more. With anonymous, those that were
// made for it alone are removed, unless others have come to use them (--volumes-from).
func (v *Volumes) Release(ctx context.Context, container string, mounts []Mount, anonymous bool) error {
	var errs []error
	for _, m := range mounts {
		if m.Type != TypeVolume || m.Source == "" {
			continue
		}
		if anonymous && m.Anonymous {
			// With its user still noted: who is killed here has not forgotten it.
			err := v.remove(ctx, m.Source, container)
			var used *InUseError
			if err != nil && !errors.As(err, &used) && !errors.Is(err, ErrAbsent) {
				errs = append(errs, err)
			}
		}
		os.Remove(v.path(m.Source, usersName, container))
	}
	return errors.Join(errs...)
}

// removeOrphans removes volumes without a name that were made for containers which never came to be, because their
// maker was killed: those that have users, none of whom there is, and that nobody holds.
func (v *Volumes) removeOrphans() {
	entries, _ := os.ReadDir(v.path())
	for _, e := range entries {
		name := e.Name()
		if len(name) != nameLength || CheckName(name) != nil {
			continue
		}
		if named := v.named(name); len(named) == 0 || slices.ContainsFunc(named, v.alive) {
			continue
		}
		if vol, err := v.Get(name); err != nil || !vol.Anonymous {
			continue
		}
		dir, err := v.lock(context.Background(), name, unix.LOCK_EX|unix.LOCK_NB)
		if err != nil {
			continue // a container is being made with it
		}
		v.removeLocked(dir, name, "")
		dir.Close()
	}
}

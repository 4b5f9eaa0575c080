package rootfs

import (
	"errors"
	"fmt"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// mappedPlaced is Mapped for kernels that take no detached layers (before 6.15): they are mounted somewhere for a
// moment, in a mount namespace that goes at once.
func (m Mount) mappedPlaced(userns int, owner Owner) (int, error) {
	return m.mappedIn(userns, owner, func(_ *stage, lowers lowers, upper fdList) (int, error) {
		c, err := newContext("overlay")
		if err != nil {
			return -1, err
		}
		defer c.close()
		if err := c.setOptions(m.options()); err != nil {
			return -1, err
		}
		for i := len(lowers) - 1; i >= 0; i-- {
			if err := c.setString("lowerdir+", fdPath(lowers[i].fd)); err != nil {
				return -1, err
			}
		}
		if err := c.setUpper(upper); err != nil {
			return -1, err
		}
		return c.mount(0)
	})
}

// mappedLegacy is Mapped for kernels before 6.8, which take the layers as one string.
func (m Mount) mappedLegacy(userns int, owner Owner) (int, error) {
	return m.mappedIn(userns, owner, func(s *stage, lowers lowers, upper fdList) (int, error) {
		data, err := m.legacyString(lowers, upper)
		if err != nil {
			return -1, err
		}
		root, err := s.dir("root")
		if err != nil {
			return -1, err
		}
		if err := unix.Mount("overlay", root, "overlay", 0, data); err != nil {
			return -1, fmt.Errorf("overlay %s: %w", data, err)
		}
		return CloneMount(root)
	})
}

// mappedIn opens what an overlay with mapped ids takes, mounts it on a stage of its own, and has make make the
// overlay there, as owner.
func (m Mount) mappedIn(userns int, owner Owner, make func(*stage, lowers, fdList) (int, error)) (fd int, err error) {
	fd = -1
	err = apart(func() (err error) {
		lowers, err := m.openMapped(userns)
		defer func() { lowers.close() }()
		if err != nil {
			return err
		}
		placed := lowers
		var held fdList
		if m.Upper != "" {
			held, err = m.openUpper(userns)
			defer held.close()
			if err != nil {
				return err
			}
			placed = append(placed[:len(placed):len(placed)], lowerFd{held[0], true})
		}
		s, err := newStage(m.somewhere())
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, s.remove()) }()
		if err := s.place(placed); err != nil {
			return err
		}
		return asOwner(owner, func() (err error) {
			fd, err = make(s, lowers, held)
			return err
		})
	})
	return fd, err
}

// somewhere is a directory that is there, and is not looked at any more once all layers are open.
func (m Mount) somewhere() string {
	switch {
	case m.Upper != "":
		return filepath.Dir(m.Upper)
	case m.Lower[0].Dir != "":
		return m.Lower[0].Dir
	}
	return filepath.Dir(m.Lower[0].Index)
}

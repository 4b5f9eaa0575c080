package rootfs

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// attachPlaced is for kernels that take no detached layers (before 6.15): the layers
// are mounted in a tmpfs on target, from where the overlay takes them.
func (m Mount) attachPlaced(target string) (err error) {
	lowers, err := m.openLowers()
	defer lowers.close()
	if err != nil {
		return err
	}
	s, err := newStage(target)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.remove()) }()
	if err := s.place(lowers); err != nil {
		return err
	}
	return m.overlay(target, func(c *fsContext) error {
		for i := len(lowers) - 1; i >= 0; i-- {
			if err := c.setString("lowerdir+", fdPath(lowers[i].fd)); err != nil {
				return err
			}
		}
		return nil
	}, s.remove)
}

// attachLegacy is for kernels before 6.8, which take the layers as one string. What
// of it mount(2) copies is a page.
func (m Mount) attachLegacy(target string) (err error) {
	lowers, err := m.openLowers()
	defer lowers.close()
	if err != nil {
		return err
	}
	s, err := newStage(target)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.remove()) }()
	if err := s.place(lowers); err != nil {
		return err
	}
	data, held, err := m.legacyOptions(lowers)
	defer held.close()
	if err != nil {
		return err
	}
	root, err := s.dir("root")
	if err != nil {
		return err
	}
	if err := unix.Mount("overlay", root, "overlay", 0, data); err != nil {
		return fmt.Errorf("overlay %s: %w", data, err)
	}
	tree, err := unix.OpenTree(unix.AT_FDCWD, root, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return os.NewSyscallError("open_tree", err)
	}
	defer unix.Close(tree)
	if err := s.remove(); err != nil {
		return err
	}
	return moveTo(tree, target)
}

// legacyOptions is options as mount(2) has them. What is written goes where held says: see legacyString.
func (m Mount) legacyOptions(lowers lowers) (data string, held fdList, err error) {
	if m.Upper != "" {
		if err := m.forgetVolatile(); err != nil {
			return "", nil, err
		}
		for _, dir := range []string{filepath.Dir(m.Upper), m.Upper, m.Work} {
			fd, err := openPath(dir, unix.O_PATH|unix.O_DIRECTORY)
			if err != nil {
				return "", held, err
			}
			held = append(held, fd)
		}
	}
	data, err = m.legacyString(lowers, held)
	return data, held, err
}

// legacyString has layers, and the second and third of upper, the writable side, by descriptor: it is short, and
// there is nothing to escape.
func (m Mount) legacyString(lowers lowers, upper fdList) (string, error) {
	var b strings.Builder
	for _, o := range m.options() {
		b.WriteString(o.key)
		if o.value != "" {
			b.WriteString("=" + o.value)
		}
		b.WriteByte(',')
	}
	if len(upper) > 0 {
		b.WriteString("upperdir=" + fdPath(upper[1]) + ",workdir=" + fdPath(upper[2]) + ",")
	}
	b.WriteString("lowerdir=")
	for i := len(lowers) - 1; i >= 0; i-- {
		b.WriteString(fdPath(lowers[i].fd))
		if i > 0 {
			b.WriteByte(':')
		}
	}
	if b.Len() >= os.Getpagesize() {
		return "", fmt.Errorf("%d layers are more than this kernel's overlay takes at once (Linux 6.8 and newer take %d)", len(lowers), maxLowers)
	}
	return b.String(), nil
}

// stage is a tmpfs on the target for as long as the root is being put together.
type stage struct {
	target  string
	removed bool
}

func newStage(target string) (*stage, error) {
	if err := unix.Mount("none", target, "tmpfs", 0, "mode=700"); err != nil {
		return nil, fmt.Errorf("stage: %w", err)
	}
	return &stage{target: target}, nil
}

func (s *stage) dir(name string) (string, error) {
	dir := s.target + "/" + name
	return dir, os.Mkdir(dir, 0o700)
}

// place mounts those layers that are mounted nowhere yet.
func (s *stage) place(list lowers) error {
	for i, l := range list {
		if !l.detached {
			continue
		}
		dir, err := s.dir(strconv.Itoa(i))
		if err != nil {
			return err
		}
		if err := moveTo(l.fd, dir); err != nil {
			return err
		}
	}
	return nil
}

// remove takes the stage away. What the overlay took from it lives on.
func (s *stage) remove() error {
	if s.removed {
		return nil
	}
	s.removed = true
	return os.NewSyscallError("umount2", unix.Unmount(s.target, unix.MNT_DETACH))
}

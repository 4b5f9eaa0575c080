package sandbox

import (
	"fmt"
	"path"
	"strconv"

	"nacre/internal/rootfs"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// Tree is a directory or file of another root.
type Tree struct {
	Root rootfs.Mount
	// Path of it in there. Symlinks are followed, without leaving that root.
	Path string
}

// typeTree is the type of a mount whose source is the number of a Tree.
const typeTree = "nacre-tree"

// MountTree adds a mount of t on dest, after those the Spec has. Options are
// those of a bind mount. What is written goes to the upper side of t's root.
func (c *Config) MountTree(dest string, t Tree, options ...string) {
	c.Spec.Mounts = append(c.Spec.Mounts, specs.Mount{
		Destination: dest, Type: typeTree, Source: strconv.Itoa(len(c.Trees)), Options: options,
	})
	c.Trees = append(c.Trees, t)
}

func (t *Tree) carry(w *wire) {
	carryRoot(w, &t.Root)
	w.text(&t.Path)
}

// makeTrees puts each tree together, out of sight of all but this process, and
// takes a copy of the part that is mounted.
func (c *child) makeTrees(scratch int) error {
	for i := range c.Mounts {
		m := &c.Mounts[i]
		if m.Type != typeTree {
			continue
		}
		var err error
		if c.sources[i], err = c.makeTree(scratch, m); err == nil {
			err = setAttr(c.sources[i], m.Set, m.Clear, m.propagation(), false)
		}
		if err != nil {
			return fail("mount "+m.Dest, err)
		}
		m.Type = ""
	}
	return nil
}

func (c *child) makeTree(scratch int, m *mount) (int, error) {
	n, err := strconv.Atoi(m.Source)
	if err != nil || n < 0 || n >= len(c.Trees) {
		return -1, fmt.Errorf("there is no tree %q", m.Source)
	}
	t, name := &c.Trees[n], "tree"+m.Source
	if err := unix.Mkdirat(scratch, name, 0o755); err != nil {
		return -1, err
	}
	if err := t.Root.Attach(path.Join(c.Scratch, name)); err != nil {
		return -1, err
	}
	root, err := unix.Openat(scratch, name, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	defer unix.Close(root)
	fd, err := openIn(root, path.Join("/", t.Path), 0)
	if err != nil {
		return -1, err
	}
	defer unix.Close(fd)
	return openTree(fd, "", unix.AT_EMPTY_PATH)
}
